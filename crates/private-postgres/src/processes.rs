//! What a server's processes cost.

use anyhow::{Context, Result};

/// Clock ticks that process `root`, its living children, and all children it has waited for have used.
pub(crate) fn cpu_ticks(root: u32) -> Result<u64> {
    let own = read(root).context("the process is gone")?;
    let mut ticks = own.used + own.used_by_ended_children;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // A process that ends meanwhile is in its parent's account at the next look.
        if let Some(child) = pid.and_then(read).filter(|process| process.parent == root) {
            ticks += child.used + child.used_by_ended_children;
        }
    }
    Ok(ticks)
}

#[derive(Debug, PartialEq, Eq)]
struct Usage {
    parent: u32,
    used: u64,
    used_by_ended_children: u64,
}

fn read(pid: u32) -> Option<Usage> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// A `/proc/<pid>/stat` line. The name in it may contain blanks and parentheses.
fn parse(stat: &str) -> Option<Usage> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Some(Usage {
        parent: u32::try_from(number(1)?).ok()?,
        used: number(11)? + number(12)?,
        used_by_ended_children: number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_line_of_the_process_table_is_read_whatever_the_name() {
        let stat = "4711 (a (odd) name) S 17 4711 4711 0 -1 4194560 2563 55 0 0 312 104 9 8 20 0 5 0 1234 9 9 9";
        assert_eq!(parse(stat).unwrap(), Usage { parent: 17, used: 416, used_by_ended_children: 17 });
        assert_eq!(parse("4711 (cut) S 1"), None);
    }

    #[test]
    fn ended_and_living_children_count() {
        let count = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done";
        // The inner shell counts and ends, the outer one waits for it and goes on to read.
        let script = format!("sh -c '{count}'; echo done; cat");
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let own = read(child.id()).unwrap();
        let all = cpu_ticks(child.id()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(own.used_by_ended_children > 0, "{own:?}");
        assert!(all >= own.used + own.used_by_ended_children);
    }
}
