//! Forms of free SQL on PostgreSQL, and connections that are encrypted.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use postrider_gateway::operation::Mode;
use postrider_gateway::{Backend, Backends, Bounds, Client, Code, Fault, Reply, Settings, Uri};
use private_postgres::{Binaries, Cluster, Stop};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::world::{World, text};

/// SQL, parameters, rows, and how many rows were written.
const FORMS: &[(&str, &str, &str, u64)] = &[
    ("select 1 as a, 2 as a", "[]", r#"[{"a":1,"a":2}]"#, 0),
    ("select generate_series(1, 3) as g", "[]", r#"[{"g":1},{"g":2},{"g":3}]"#, 0),
    ("select * from (values (1, 'x'), (2, null)) v (a, b) order by a desc limit 1", "[]", r#"[{"a":2,"b":null}]"#, 0),
    ("values (1), (2)", "[]", r#"[{"column1":1},{"column1":2}]"#, 0),
    (
        "with recursive n (i) as (select 1 union all select i + 1 from n where i < 3) select array_agg(i) as a from n",
        "[]",
        r#"[{"a":[1,2,3]}]"#,
        0,
    ),
    (r#"select 'x' as "it's", 1 as "a""b", 2 as "c;d""#, "[]", r#"[{"it's":"x","a\"b":1,"c;d":2}]"#, 0),
    (
        r#"select '\x01'::bytea as "b'""c\", array['\x0203'::bytea, null] as d"#,
        "[]",
        r#"[{"b'\"c\\":"AQ==","d":["AgM=",null]}]"#,
        0,
    ),
    (
        "select null as n, true as b, 1.10::numeric as d, 'NaN'::float8 as f, 9007199254740993 as i",
        "[]",
        r#"[{"n":null,"b":true,"d":1.10,"f":"NaN","i":9007199254740993}]"#,
        0,
    ),
    (
        "select interval '1 day' as i, '[1,5)'::int4range as r, point(1, 2) as p, '10.0.0.1'::inet as a",
        "[]",
        r#"[{"i":"1 day","r":"[1,5)","p":"(1,2)","a":"10.0.0.1"}]"#,
        0,
    ),
    ("select 1 as a -- tail", "[]", r#"[{"a":1}]"#, 0),
    ("select /* ; /* nested ; */ */ ';' as s;", "[]", r#"[{"s":";"}]"#, 0),
    ("(select 1 as a) union all (select 2) order by a", "[]", r#"[{"a":1},{"a":2}]"#, 0),
    ("select $1::bigint + 1 as n", "[9007199254740993]", r#"[{"n":9007199254740994}]"#, 0),
    (
        "select $1::numeric as n",
        "[123456789012345678901234567890.10]",
        r#"[{"n":123456789012345678901234567890.10}]"#,
        0,
    ),
    (
        "select $1::jsonb as j, $2::text[] as t, $3::bytea as b",
        r#"[{"a":[1,"x"]},["a","b'"],"AQ=="]"#,
        r#"[{"j":{"a": [1, "x"]},"t":["a","b'"],"b":"AQ=="}]"#,
        0,
    ),
    ("select $1 as t, $2 as u", r#"["x'; --", null]"#, r#"[{"t":"x'; --","u":null}]"#, 0),
    ("select id from t where id = any ($1) order by id", "[[1,3]]", r#"[{"id":1},{"id":3}]"#, 0),
    ("select id from t where id = 1 for update", "[]", r#"[{"id":1}]"#, 0),
    ("select postrider_row_ from (values (1)) as x (postrider_row_)", "[]", r#"[{"postrider_row_":1}]"#, 0),
    ("insert into t values (5), (6) returning id", "[]", r#"[{"id":5},{"id":6}]"#, 2),
    ("with moved as (delete from t where id = 5 returning id) select * from moved", "[]", r#"[{"id":5}]"#, 0),
    ("with a as (select 7 as id) insert into t select id from a returning id", "[]", r#"[{"id":7}]"#, 1),
    ("with recursive a as (select 8 as id) insert into t select id from a", "[]", "[]", 1),
    (
        "update t set id = id where id > 5 returning id, 'x' as y",
        "[]",
        r#"[{"id":6,"y":"x"},{"id":7,"y":"x"},{"id":8,"y":"x"}]"#,
        3,
    ),
    ("select 'a' as x into made; select * from made", "[]", r#"[{"x":"a"}]"#, 1),
    ("delete from t where id > 5", "[]", "[]", 3),
    ("show server_encoding", "[]", r#"[{"server_encoding":"UTF8"}]"#, 0),
    ("explain (costs off) select 1", "[]", r#"[{"QUERY PLAN":"Result"}]"#, 0),
    ("comment on table t is 'x'; grant select on t to public; analyze t; notify x", "[]", "[]", 0),
    (
        "create function twice(n integer) returns integer language sql as $$ select n * 2; $$; select twice(4) as n",
        "[]",
        r#"[{"n":8}]"#,
        0,
    ),
    ("truncate t; select count(*) as n from t", "[]", r#"[{"n":0}]"#, 0),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn every_form_of_a_query_gives_its_rows_on_postgres() {
    let world = World::new(Backend::Postgres).await;
    world.run("create table t (id integer); insert into t values (1), (2), (3)").await;
    let mut wrong = Vec::new();
    for (sql, params, rows, affected) in FORMS {
        match world.query(sql, params, Mode::SingleTransaction).await {
            Ok(reply) if text(&reply) == *rows && reply.rows_affected == *affected => {}
            Ok(reply) => wrong.push(format!("{sql}\n   {} {}", text(&reply), reply.rows_affected)),
            Err(fault) => wrong.push(format!("{sql}\n   {fault}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.run("create index concurrently i on t (id); vacuum t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_schema_is_looked_into_first_on_postgres() {
    let world = World::new(Backend::Postgres).await;
    world.run("create schema side; create table side.t (id integer); create table t (id text); insert into side.t values (7)").await;
    let query = |sql: &str, schema: &str, mode: &str| {
        let body = format!(r#"{{"query":"{sql}","schema_name":"{schema}","execution_mode":"{mode}"}}"#);
        let operation =
            postrider_gateway::operation::Operation::parse(postrider_gateway::operation::Kind::Query, body.as_bytes());
        let client = world.client();
        async move { client.run(&operation.unwrap(), &Bounds::default()).await.map(|reply| text(&reply)) }
    };
    for mode in ["single_transaction", "per_statement"] {
        assert_eq!(query("select id from t", "side", mode).await.unwrap(), r#"[{"id":7}]"#);
        assert_eq!(query("select 1; select id from t", "side", mode).await.unwrap(), r#"[{"id":7}]"#);
        // It was that query's alone.
        assert_eq!(query("select id from t", "public", mode).await.unwrap(), "[]");
        assert_eq!(text(&world.run("select id from t").await), "[]");
    }
    assert_eq!(world.fetch(r#"{"table_name":"t","schema_name":"side"}"#).await, r#"[{"id":7}]"#);
    assert_eq!(world.fetch(r#"{"table_name":"side.t"}"#).await, r#"[{"id":7}]"#);
}

/// An authority and a certificate for `localhost` by it, in PEM: authority, certificate, key.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

/// A server that takes encrypted connections.
fn encrypted(certificate: &str, key: &str) -> Cluster {
    let binaries = Binaries::find().expect("PostgreSQL is installed");
    let cluster = Cluster::start(&binaries, &std::env::temp_dir(), &[]).unwrap();
    cluster.stop(Stop::Fast).unwrap();
    let owner = std::fs::metadata(cluster.data()).unwrap();
    for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
        let path = cluster.data().join(name);
        std::fs::write(&path, pem).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let settings = cluster.data().join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{before}ssl = on\n")).unwrap();
    cluster.start_again().unwrap();
    cluster
}

async fn asks(uri: &str) -> Result<Reply, Fault> {
    let client: Client = Backends::new(Settings::default()).client("x", &Uri::parse(uri).unwrap());
    let body = br#"{"query":"select ssl from pg_stat_ssl where pid = pg_backend_pid()"}"#;
    let operation = postrider_gateway::operation::Operation::parse(postrider_gateway::operation::Kind::Query, body);
    client.run(&operation.unwrap(), &Bounds::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_is_encrypted_is_verified_on_postgres() {
    let (authority, certificate, key) = certificates();
    let cluster = encrypted(&certificate, &key);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let right = file("right.pem", &authority);
    let other = file("other.pem", &certificates().0);
    let absent = Path::new("/nowhere/ca.pem").display().to_string();
    let port = cluster.port();
    let uri = |host: &str, mode: &str, ca: &str| {
        format!("postgres://postgres:s3cr3t@{host}:{port}/postgres?sslmode={mode}&sslrootcert={ca}")
    };
    for (host, mode) in
        [("localhost", "require"), ("localhost", "verify-full"), ("localhost", "prefer"), ("127.0.0.1", "verify-ca")]
    {
        let reply = asks(&uri(host, mode, &right)).await.unwrap_or_else(|fault| panic!("{fault}: {host} {mode}"));
        assert_eq!(text(&reply), r#"[{"ssl":true}]"#, "{host} {mode}");
    }
    for (host, mode, ca) in [
        ("127.0.0.1", "require", &right),
        ("127.0.0.1", "verify-full", &right),
        ("localhost", "require", &other),
        ("127.0.0.1", "verify-ca", &other),
        ("localhost", "prefer", &other),
        ("localhost", "require", &absent),
    ] {
        let fault = asks(&uri(host, mode, ca)).await.expect_err(ca);
        assert_eq!(fault.code, Code::BackendUnavailable, "{host} {mode}");
        assert!(!format!("{fault:?}").contains("s3cr3t"));
    }
    assert_eq!(text(&asks(&uri("127.0.0.1", "disable", &right)).await.unwrap()), r#"[{"ssl":false}]"#);
}
