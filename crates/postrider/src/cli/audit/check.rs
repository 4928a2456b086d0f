//! Whether an exported audit log is as it was written: each entry's hash is that of the entry and the hash before it.
//!
//! Plain data, fed piece by piece, so that a log of any length is checked in the memory of one line. What is hashed are the
//! bytes of the entry as they stand in the file: nothing is printed anew.

use postrider_core::limits::AUDIT_LINE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::chain;

pub(super) type Hash = [u8; 32];

/// What the log is held to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    /// A hash that was kept elsewhere: the log must have it.
    pub head: Option<Hash>,
    /// The file begins somewhere in the log: its first entry is taken as it is.
    pub partial: bool,
    /// Entries without a hash may stand after the chain has begun: nodes of an older version ran beside newer ones.
    pub unlinked_allowed: bool,
}

/// What was found of a log that is as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub entries: u64,
    /// Of these, written without a hash, and so not protected.
    pub unlinked: u64,
    pub first_number: Option<i64>,
    pub last_number: Option<i64>,
    /// The last hash: with it, all up to it can be checked again.
    pub head: Option<String>,
}

/// Why a log cannot be trusted, or not be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("line {line} is no entry of an exported audit log: {why}")]
    NotALine { line: u64, why: String },
    #[error(
        "the entries have no numbers and hashes: this is the export of one tenant, and the chain is that of all; export \
         with the platform admin key"
    )]
    NoChain,
    #[error("entry {number} stands after entry {before}: the order was changed")]
    Order { number: i64, before: i64 },
    #[error(
        "entry {number} ({action}, {id}) does not follow from the one before: it was changed, or one before it was changed, \
         removed, moved or put in between"
    )]
    Changed { number: i64, action: String, id: String },
    #[error(
        "entry {number} has no hash, although those before have: it was put in, or a node of an older version wrote it"
    )]
    Unlinked { number: i64 },
    #[error("the log ends in the middle of a line: the export was cut short")]
    CutShort,
    #[error("no entry has the hash that was kept: entries up to it were changed, or the end of the log was cut off")]
    HeadMissing,
}

#[derive(Deserialize)]
struct Line<'a> {
    number: Option<i64>,
    hash: Option<String>,
    #[serde(borrow)]
    entry: &'a RawValue,
}

/// What an entry is called in a message.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    id: String,
    action: String,
}

#[derive(Debug)]
pub(super) struct Checker {
    expected: Expected,
    /// What came since the last line end.
    rest: Vec<u8>,
    lines: u64,
    last: Option<Hash>,
    head_seen: bool,
    report: Report,
}

impl Checker {
    pub(super) fn new(expected: Expected) -> Checker {
        let report = Report::default();
        Checker { expected, rest: Vec::new(), lines: 0, last: None, head_seen: false, report }
    }

    /// Takes the next bytes of the log.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len() + piece.len() > AUDIT_LINE_BYTES_MAX {
                let why = format!("it is longer than {AUDIT_LINE_BYTES_MAX} bytes");
                return Err(Broken::NotALine { line: self.lines + 1, why });
            }
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                self.line(&line)?;
            }
        }
        Ok(())
    }

    /// The end of the log.
    pub(super) fn finish(mut self) -> Result<Report, Broken> {
        if !self.rest.is_empty() {
            return Err(Broken::CutShort);
        }
        if self.expected.head.is_some() && !self.head_seen {
            return Err(Broken::HeadMissing);
        }
        self.report.head = self.last.map(hex::encode);
        Ok(self.report)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Broken> {
        self.lines += 1;
        let not_a_line = |why: String| Broken::NotALine { line: self.lines, why };
        let Line { number, hash, entry } =
            serde_json::from_slice(line).map_err(|error| not_a_line(error.to_string()))?;
        let Some(number) = number else { return Err(Broken::NoChain) };
        let hash = hash.map(|text| parse_hash(&text).ok_or_else(|| not_a_line("the hash is none".to_owned())));
        let hash = hash.transpose()?;
        if let Some(before) = self.report.last_number.filter(|before| *before >= number) {
            return Err(Broken::Order { number, before });
        }
        self.link(number, hash, entry.get())?;
        self.report.entries += 1;
        self.report.first_number.get_or_insert(number);
        self.report.last_number = Some(number);
        Ok(())
    }

    fn link(&mut self, number: i64, hash: Option<Hash>, entry: &str) -> Result<(), Broken> {
        let Some(hash) = hash else {
            if self.last.is_some() && !self.expected.unlinked_allowed {
                return Err(Broken::Unlinked { number });
            }
            self.report.unlinked += 1;
            return Ok(());
        };
        let is_first_of_part = self.expected.partial && self.last.is_none();
        let follows = chain::link_line(&self.last.unwrap_or(chain::START), entry.as_bytes()) == hash;
        if !follows && !is_first_of_part {
            let named: Named = serde_json::from_str(entry).unwrap_or_default();
            return Err(Broken::Changed { number, action: named.action, id: named.id });
        }
        self.head_seen |= self.expected.head == Some(hash);
        self.last = Some(hash);
        Ok(())
    }
}

/// 64 hexadecimal digits.
pub(super) fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text.trim(), &mut hash).ok().map(|()| hash)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A log as the server exports it.
    fn log(count: i64) -> Vec<String> {
        let mut last = chain::START;
        let lines = (1..=count).map(|number| {
            let entry = json!({ "id": format!("aud_{number}"), "action": "webhook.updated", "after": { "n": number } });
            last = chain::link_line(&last, entry.to_string().as_bytes());
            // Numbers may leave gaps.
            line(number * 3, Some(last), &entry.to_string())
        });
        lines.collect()
    }

    fn line(number: i64, hash: Option<Hash>, entry: &str) -> String {
        format!("{{\"number\":{number},\"hash\":{},\"entry\":{entry}}}\n", json!(hash.map(hex::encode)))
    }

    fn check(expected: Expected, lines: &[String]) -> Result<Report, Broken> {
        let mut checker = Checker::new(expected);
        checker.feed(lines.concat().as_bytes())?;
        checker.finish()
    }

    fn plainly(lines: &[String]) -> Result<Report, Broken> {
        check(Expected::default(), lines)
    }

    #[test]
    fn an_untouched_log_is_whole_and_gives_its_head() {
        let lines = log(5);
        let report = plainly(&lines).unwrap();
        assert_eq!((report.entries, report.unlinked), (5, 0));
        assert_eq!((report.first_number, report.last_number), (Some(3), Some(15)));
        assert!(lines[4].contains(&report.head.clone().unwrap()));
        let head = parse_hash(&report.head.unwrap());
        assert!(
            check(Expected { head, ..Expected::default() }, &log(9)).is_ok(),
            "a log that has grown since is whole"
        );
        assert_eq!(plainly(&[]).unwrap(), Report::default());
    }

    #[test]
    fn a_changed_entry_is_found_and_named() {
        let mut lines = log(5);
        lines[2] = lines[2].replace("\"n\":3", "\"n\":4");
        let changed = Broken::Changed { number: 9, action: "webhook.updated".into(), id: "aud_3".into() };
        assert_eq!(plainly(&lines), Err(changed));
    }

    #[test]
    fn a_removed_an_inserted_and_a_moved_entry_are_found() {
        for at in 0..4 {
            let mut lines = log(5);
            lines.remove(at);
            assert!(matches!(plainly(&lines), Err(Broken::Changed { .. })), "removed {at}");
        }
        let mut lines = log(5);
        lines.insert(2, line(7, Some([1; 32]), "{}"));
        assert!(matches!(plainly(&lines), Err(Broken::Changed { number: 7, .. })));
        lines[2] = line(7, None, "{}");
        assert_eq!(plainly(&lines), Err(Broken::Unlinked { number: 7 }));
        let mut lines = log(5);
        lines.swap(1, 2);
        assert!(matches!(plainly(&lines), Err(Broken::Changed { .. })), "moved");
        let moved = lines[1].replace("\"number\":9", "\"number\":6");
        lines[2] = lines[2].replace("\"number\":6", "\"number\":9");
        lines[1] = moved;
        assert!(matches!(plainly(&lines), Err(Broken::Changed { .. })), "moved and numbered anew");
        let lines = [log(5), log(2)].concat();
        assert_eq!(plainly(&lines), Err(Broken::Order { number: 3, before: 15 }));
    }

    #[test]
    fn a_cut_off_end_and_a_chain_made_anew_are_found_with_the_head_that_was_kept() {
        let lines = log(5);
        let head = parse_hash(&plainly(&lines).unwrap().head.unwrap());
        let kept = Expected { head, ..Expected::default() };
        assert!(plainly(&lines[..3]).is_ok(), "without it nobody can tell");
        assert_eq!(check(kept, &lines[..3]), Err(Broken::HeadMissing));
        assert_eq!(check(kept, &[]), Err(Broken::HeadMissing));

        // Whoever can write to the store can also hash.
        let mut last = chain::START;
        let forged: Vec<String> = (1..=5)
            .map(|number| {
                let entry = json!({ "id": number, "forged": true }).to_string();
                last = chain::link_line(&last, entry.as_bytes());
                line(number, Some(last), &entry)
            })
            .collect();
        assert!(plainly(&forged).is_ok());
        assert_eq!(check(kept, &forged), Err(Broken::HeadMissing));
    }

    #[test]
    fn a_part_of_the_log_is_checked_from_its_first_entry_on() {
        let lines = log(6);
        let part = Expected { partial: true, ..Expected::default() };
        assert!(matches!(plainly(&lines[2..]), Err(Broken::Changed { .. })));
        assert_eq!(check(part, &lines[2..]).unwrap().entries, 4);
        let mut lines = lines[2..].to_vec();
        lines.remove(1);
        assert!(matches!(check(part, &lines), Err(Broken::Changed { .. })));
    }

    #[test]
    fn entries_from_before_the_chain_are_counted_apart() {
        let old: Vec<String> = (1..=2).map(|number| line(number, None, "{\"id\":\"old\"}")).collect();
        let mut lines = [old, log(3)[..].to_vec()].concat();
        let report = plainly(&lines).unwrap();
        assert_eq!((report.entries, report.unlinked), (5, 2));
        lines.insert(3, line(4, None, "{}"));
        assert_eq!(plainly(&lines), Err(Broken::Unlinked { number: 4 }));
        let upgraded = Expected { unlinked_allowed: true, ..Expected::default() };
        assert_eq!(check(upgraded, &lines).unwrap().unlinked, 3);
    }

    #[test]
    fn what_is_no_whole_export_is_told_as_such() {
        let mut lines = log(2);
        lines[1].pop();
        assert_eq!(plainly(&lines), Err(Broken::CutShort));
        assert_eq!(plainly(&["{\"entry\":{}}\n".to_owned()]), Err(Broken::NoChain));
        for bad in ["nonsense\n", "\n", "{\"number\":1}\n", "{\"number\":1,\"hash\":\"ab\",\"entry\":{}}\n"] {
            assert!(matches!(plainly(&[bad.to_owned()]), Err(Broken::NotALine { line: 1, .. })), "{bad}");
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let padded = |bytes: usize| {
            let entry = |padding: usize| format!("{{\"id\":\"{}\"}}", "x".repeat(padding));
            let empty = line(1, Some([0; 32]), &entry(0)).len();
            let entry = entry(bytes - empty);
            line(1, Some(chain::link_line(&chain::START, entry.as_bytes())), &entry)
        };
        assert_eq!(plainly(&[padded(AUDIT_LINE_BYTES_MAX)]).unwrap().entries, 1);
        assert!(matches!(plainly(&[padded(AUDIT_LINE_BYTES_MAX + 1)]), Err(Broken::NotALine { .. })));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_come(sizes in prop::collection::vec(1_usize..400, 1..40)) {
            let text = log(12).concat();
            let (mut checker, mut rest) = (Checker::new(Expected::default()), text.as_bytes());
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, later) = rest.split_at((*size).min(rest.len()));
                checker.feed(piece).unwrap();
                rest = later;
            }
            prop_assert_eq!(checker.finish(), plainly(&log(12)));
        }

        #[test]
        fn no_changed_bit_of_an_entry_or_hash_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let text = log(6).concat().into_bytes();
            let whole = plainly(&log(6)).unwrap();
            let mut changed = text.clone();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            let mut checker = Checker::new(Expected::default());
            let report = checker.feed(&changed).and_then(|()| checker.finish());
            // Numbers are not hashed: the order is told by the chain. Nor does the case of a digit matter, or a space.
            let is_same = report.as_ref().is_ok_and(|report| report.head == whole.head && report.entries == whole.entries);
            prop_assert!(report.is_err() || is_same, "{:?}", String::from_utf8_lossy(&changed));
        }
    }
}
