#![allow(clippy::unwrap_used)]

use std::fs;

use postrider_core::ids::TenantId;
use postrider_core::time::UnixMs;
use uuid::Uuid;

use super::super::Level;
use super::*;

fn options(change: impl FnOnce(&mut GatewayOptions)) -> GatewayOptions {
    let directory = tempfile::tempdir().unwrap();
    let opened = Checked::defaults().open_with(&System, |config| {
        config.data = directory.path().to_owned();
        change(&mut config.gateway);
    });
    opened.unwrap().config.gateway
}

fn levels(findings: &[Finding]) -> Vec<Level> {
    findings.iter().map(|finding| finding.level).collect()
}

#[test]
fn settings_that_open_everything_or_leave_nothing_are_worth_a_warning() {
    assert_eq!(levels(&settings(&options(|_| {}))), []);
    assert_eq!(levels(&settings(&options(|gateway| gateway.enforces_keys = false))), [Level::Warning]);
    let greedy = options(|gateway| gateway.connections_per_client = gateway.connections_max + 1);
    assert_eq!(levels(&settings(&greedy)), [Level::Warning]);
}

#[test]
fn a_directory_of_clients_is_there_is_writable_by_the_server_alone_and_is_not_the_data_directory() {
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str, mode: u32| {
        let place = root.path().join(name);
        fs::create_dir_all(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        place
    };
    let data = place("data", 0o700);
    assert!(directory(&place("clients", 0o750), &data).is_none());
    let open = directory(&place("open", 0o777), &data).unwrap();
    assert!(open.level == Level::Bad && open.text.contains("chmod go-w"), "{open:?}");
    for bad in [root.path().join("nowhere"), data.clone(), root.path().to_owned(), place("data/clients", 0o700)] {
        assert_eq!(directory(&bad, &data).map(|finding| finding.level), Some(Level::Bad), "{}", bad.display());
    }
    fs::write(root.path().join("file"), "").unwrap();
    assert_eq!(directory(&root.path().join("file"), &data).map(|finding| finding.level), Some(Level::Bad));
}

fn client(name: &str, uri: &str, sealer: &Sealer) -> ClientRecord {
    let id = Uuid::from_bytes([name.as_bytes()[0]; 16]);
    ClientRecord {
        id,
        tenant_id: TenantId(id),
        name: name.to_owned(),
        description: None,
        sealed_uri: Some(sealer.seal(&format!("client:{}", id.simple()), uri.as_bytes())),
        uri_env_var: None,
        source: "test".to_owned(),
        enforce_keys: None,
        is_active: true,
        is_frozen: false,
        metadata: serde_json::Map::new(),
        created_at: UnixMs(0),
        updated_at: UnixMs(0),
        deleted_at: None,
        outbox_tables: Vec::new(),
    }
}

#[tokio::test]
async fn each_clients_database_is_asked_and_one_that_does_not_answer_is_named() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let options = options(|gateway| gateway.sqlite_directories = vec![root.clone()]);
    let sealer = Sealer::with_data_key([7; 32], Arc::new(System));
    rusqlite::Connection::open(root.join("a.db")).unwrap().execute_batch("create table t (a)").unwrap();
    fs::write(root.join("c.db"), [b'x'; 4096]).unwrap();
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("postgres://ann:s3cret@{}/d?sslmode=disable", silent.local_addr().unwrap());
    let file = |name: &str| format!("sqlite:{}", root.join(name).display());
    let clients = [
        client("a good one", &file("a.db"), &sealer),
        client("b new", &file("b.db"), &sealer),
        client("c damaged", &file("c.db"), &sealer),
        client("d silent", &silent, &sealer),
        client("e elsewhere", "sqlite:/etc/e.db", &sealer),
    ];
    let findings = databases(&options, Some(sealer), clients.to_vec()).await;
    let good = findings.first().unwrap();
    assert!(good.level == Level::Good && good.text.contains("2 of 5"), "{good:?}");
    let mut named: Vec<&str> = findings[1..].iter().map(|finding| &finding.text[..8]).collect();
    named.sort_unstable();
    assert_eq!(named, ["client c", "client d", "client e"], "{findings:?}");
    assert!(findings[1..].iter().all(|finding| finding.level == Level::Bad));
    assert!(!findings.iter().any(|finding| finding.text.contains("s3cret")));
    assert!(!root.join("b.db").exists(), "looking makes no file");
}
