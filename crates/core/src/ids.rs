//! Typed identifiers.
//!
//! Configuration objects have random UUIDs, shown as `<prefix>_<32 hex>`; the bare UUID is accepted too, since
//! other contracts show it that way. Events and deliveries have time-ordered identifiers from one generator of
//! 53-bit integers ([`Sequence`]), so that an identifier alone says on which day its row was written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::time::UnixMs;

/// The text is not an identifier of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0} id")]
pub struct InvalidId(pub &'static str);

fn parse_uuid(text: &str, prefix: &str, kind: &'static str) -> Result<Uuid, InvalidId> {
    let bare = text.strip_prefix(prefix).unwrap_or(text);
    Uuid::try_parse(bare).map_err(|_| InvalidId(kind))
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What stands before the hexadecimal digits in the outer form.
            pub const PREFIX: &'static str = $prefix;

            /// The identifier made of 16 random bytes.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_uuid(text, $prefix, $kind).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

uuid_id!(/** A partner: the owner of several tenants. */ PartnerId, "prt_", "partner");
uuid_id!(/** A tenant. */ TenantId, "ten_", "tenant");
uuid_id!(/** A webhook: one endpoint with its subscription. */ WebhookId, "wh_", "webhook");
uuid_id!(/** An API key. */ KeyId, "key_", "api key");
uuid_id!(/** A link into the portal that was not used yet. */ PortalLinkId, "lnk_", "portal link");
uuid_id!(/** A bulk replay. */ ReplayId, "rpl_", "replay");
uuid_id!(/** An audit entry. */ AuditId, "aud_", "audit entry");
uuid_id!(
    /// An event: a UUIDv7 whose time and counter bits are its [`Sequence`] number.
    EventId, "evt_", "event"
);

/// One delivery of one event to one webhook: an integer below 2^53, so that JavaScript reads it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub i64);

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 2024-01-01T00:00:00Z: where the 41 bits of milliseconds in a [`Sequence`] number start; they last until 2093.
const SEQUENCE_EPOCH_MS: i64 = 1_704_067_200_000;
const COUNTER_BITS: u32 = 12;

/// Hands out strictly increasing 53-bit numbers: 41 bits of milliseconds since 2024, 12 bits of counter.
///
/// Within one millisecond the counter runs on into the next one rather than repeat, so numbers stay unique and
/// ordered even when the clock stands still or steps back.
#[derive(Debug, Default)]
pub struct Sequence {
    last: i64,
}

impl Sequence {
    /// Continues after `last`, the greatest number ever handed out (0 for none).
    pub fn after(last: i64) -> Self {
        Self { last }
    }

    /// The first of `count` consecutive numbers.
    pub fn take(&mut self, count: usize, now: UnixMs) -> i64 {
        let first = (self.last + 1).max(Self::floor(now));
        self.last = first + i64::try_from(count).expect("a batch is far below 2^63") - 1;
        first
    }

    /// The least number of the millisecond `at`: numbers handed out before `at` are smaller.
    pub fn floor(at: UnixMs) -> i64 {
        (at.0 - SEQUENCE_EPOCH_MS).max(0) << COUNTER_BITS
    }

    /// The millisecond in which `number` was handed out (or the one it borrowed from).
    pub const fn time(number: i64) -> UnixMs {
        UnixMs((number >> COUNTER_BITS) + SEQUENCE_EPOCH_MS)
    }
}

impl EventId {
    /// The event whose sequence number is `number`; `entropy` fills the random bits.
    pub fn from_sequence(number: i64, entropy: u64) -> Self {
        let ms = Sequence::time(number).0.unsigned_abs();
        let counter = number.unsigned_abs() & ((1 << COUNTER_BITS) - 1);
        let high = (ms << 16) | 0x7000 | counter;
        let low = (entropy & (u64::MAX >> 2)) | (1 << 63);
        Self(Uuid::from_u64_pair(high, low))
    }

    /// The sequence number in this id; `None` if the id cannot have come from [`EventId::from_sequence`].
    pub fn sequence(self) -> Option<i64> {
        let (high, _) = self.0.as_u64_pair();
        let ms = i64::try_from(high >> 16).ok()? - SEQUENCE_EPOCH_MS;
        let plausible = self.0.get_version_num() == 7 && (0..1 << 41).contains(&ms);
        plausible.then(|| (ms << COUNTER_BITS) | i64::try_from(high & 0xfff).expect("12 bits"))
    }

    /// The random bits, as [`EventId::from_sequence`] took them.
    pub fn entropy(self) -> u64 {
        self.0.as_u64_pair().1 & (u64::MAX >> 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_790_000_000_123);

    #[test]
    fn numbers_increase_even_when_the_clock_steps_back() {
        let mut sequence = Sequence::default();
        let first = sequence.take(5000, NOW);
        let second = sequence.take(1, UnixMs(NOW.0 - 60_000));
        assert_eq!(second, first + 5000);
        assert!(second < 1 << 53);
        assert_eq!(Sequence::time(first), NOW);
    }

    #[test]
    fn an_event_id_is_a_uuid_v7_that_gives_its_number_back() {
        let number = Sequence::default().take(1, NOW) + 77;
        let id = EventId::from_sequence(number, u64::MAX);
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.sequence(), Some(number));
        assert_eq!(EventId::from_sequence(number, id.entropy()), id);
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
    }

    #[test]
    fn ids_accept_their_outer_form_and_the_bare_uuid_only() {
        let id = WebhookId::from_random([7; 16]);
        assert_eq!(id.to_string().parse::<WebhookId>().unwrap(), id);
        assert_eq!(id.0.hyphenated().to_string().parse::<WebhookId>().unwrap(), id);
        assert!("ten_x".parse::<WebhookId>().is_err());
        assert!(id.to_string().parse::<TenantId>().is_err());
    }
}
