//! The small integers that enums are stored as, the same in every backend.

use postrider_core::delivery::{DeliveryStatus, ErrorClass, Trigger};
use postrider_core::inbound::VerdictKind;

use super::{ReplayStatus, Source};

/// A row holds a number that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("{code} is no {of}")]
pub(crate) struct UnknownCode {
    of: &'static str,
    code: i16,
}

/// Gives an enum its small integers, both ways.
macro_rules! integer_codes {
    ($to:ident, $from:ident, $enum:ident { $($variant:ident = $code:literal),+ $(,)? }) => {
        pub(crate) fn $to(value: $enum) -> i16 {
            match value { $($enum::$variant => $code),+ }
        }

        pub(crate) fn $from(code: i16) -> Result<$enum, UnknownCode> {
            match code {
                $($code => Ok($enum::$variant),)+
                other => Err(UnknownCode { of: stringify!($enum), code: other }),
            }
        }
    };
}

integer_codes!(trigger_code, trigger_from, Trigger { Event = 0, Retry = 1, Replay = 2, Test = 3 });
integer_codes!(source_code, source_from, Source { Api = 0, Test = 1, Received = 2, Partner = 3, System = 4, Gateway = 5 });
integer_codes!(verdict_code, verdict_from, VerdictKind { Unattempted = 0, Verified = 1, Authenticated = 2, Failed = 3 });
integer_codes!(replay_status_code, replay_status_from, ReplayStatus { Running = 0, Finished = 1, Canceled = 2 });
integer_codes!(error_code, error_from, ErrorClass {
    Dns = 0,
    RefusedByPolicy = 1,
    Connect = 2,
    Tls = 3,
    Timeout = 4,
    Reset = 5,
    TooLarge = 6,
    HttpStatus = 7,
    Disabled = 8,
    OverLimit = 9,
    Shutdown = 10,
});
integer_codes!(status_code, status_from, DeliveryStatus {
    Pending = 0,
    Succeeded = 1,
    Failed = 2,
    Canceled = 3,
    Delivering = 4,
});

impl From<UnknownCode> for super::Error {
    fn from(error: UnknownCode) -> super::Error {
        super::Error::Other(error.into())
    }
}
