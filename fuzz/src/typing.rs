//! Event types and ids: they become parts of URLs, filters and keys.

use postrider_core::inbound::{event_id, event_type};
use postrider_core::limits;

use crate::input::Input;

/// A type is 1 to 128 of `a-z0-9_.-` with something to read in it; an id is short and printable.
///
/// # Panics
/// If that does not hold.
pub fn events(data: &[u8]) {
    let input = Input::parse(data);
    let row = input.row();
    input.ask(&[], |_, request| {
        let kind = event_type(row, &input.source, request);
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        assert!((1..=limits::EVENT_TYPE_BYTES_MAX).contains(&kind.len()), "{kind}");
        assert!(kind.bytes().all(is_allowed) && kind.bytes().any(|byte| byte.is_ascii_alphanumeric()), "{kind}");
        assert_eq!(kind, event_type(row, &input.source, request));
        let id = event_id(row, request);
        assert_eq!(id, event_id(row, request));
        if let Some(id) = id {
            assert!((1..=limits::INBOUND_EVENT_ID_BYTES_MAX).contains(&id.len()), "{id}");
            assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
        }
    });
}
