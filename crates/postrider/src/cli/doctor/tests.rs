#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::health::egress;
use postrider_core::egress_policy::EgressPolicy;

fn levels(findings: &[Finding]) -> Vec<Level> {
    findings.iter().map(|finding| finding.level).collect()
}

fn policy(allow: &[&str]) -> EgressPolicy {
    EgressPolicy { allow: allow.iter().map(|net| net.parse().unwrap()).collect(), ..EgressPolicy::default() }
}

#[test]
fn a_policy_that_opens_everything_or_the_metadata_address_is_bad() {
    assert_eq!(levels(&egress(&policy(&[]))), [Level::Good]);
    assert_eq!(levels(&egress(&policy(&["10.0.0.0/8"]))), [Level::Good]);
    assert_eq!(levels(&egress(&policy(&["0.0.0.0/0"]))), [Level::Bad]);
    assert_eq!(levels(&egress(&policy(&["169.254.0.0/16", "::/0"]))), [Level::Bad, Level::Bad]);
    let open = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
    assert_eq!(levels(&egress(&open)), [Level::Warning]);
}

#[test]
fn a_key_that_others_can_read_is_bad_and_the_cure_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(levels(&data_directory(directory.path())), [Level::Bad]);
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(levels(&data_directory(directory.path())), [Level::Good]);
    let key = directory.path().join(MASTER_KEY_FILE);
    std::fs::write(&key, "x").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let findings = data_directory(directory.path());
    assert_eq!(levels(&findings), [Level::Bad]);
    assert!(findings[0].text.contains("chmod 600"), "{findings:?}");
    assert_eq!(levels(&data_directory(&directory.path().join("nothing"))), [Level::Good]);
    assert_eq!(levels(&data_directory(&key)), [Level::Bad], "a file is no directory");
}

#[test]
fn a_clock_behind_the_store_was_set_back() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("postrider.db"), "x").unwrap();
    let now = System.now();
    assert_eq!(clock(directory.path(), now).level, Level::Good);
    assert_eq!(clock(directory.path(), now - Duration::from_secs(3600)).level, Level::Bad);
}

#[tokio::test]
async fn a_store_that_is_none_is_bad_and_an_absent_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(store(directory.path()).await.level, Level::Good);
    std::fs::write(directory.path().join("postrider.db"), [7; 8192]).unwrap();
    assert_eq!(store(directory.path()).await.level, Level::Bad);
}

#[tokio::test]
async fn a_server_that_does_not_answer_fails_the_health_check_as_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = health(&origin, &mut Terminal::captured().0).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable);
}

#[test]
fn findings_are_told_with_their_level_and_one_bad_one_is_a_failure() {
    let (mut terminal, written) = Terminal::captured();
    let findings = [Finding::good("disk", "9.0 GiB free"), Finding::bad("clock", "wrong")];
    assert!(tell(false, &findings, &mut terminal).is_err());
    assert_eq!(written.text(), "✓ disk           9.0 GiB free\n✗ clock          wrong\n");
}
