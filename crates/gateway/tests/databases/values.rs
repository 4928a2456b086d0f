//! What becomes of a value of each type, written and read back: with exact replies, on both databases.

use postrider_gateway::Backend;
use postrider_gateway::operation::Kind;

use crate::world::{World, on_both, told};

on_both!(every_value_comes_back_exactly_or_is_refused, a_stored_value_is_found_by_itself);

const POSTGRES: &str = "
    create type mood as enum ('happy', 'sad');
    create type addr as (street text, zip integer);
    create domain positive as integer check (value > 0);
    create table kinds (
        id bigint primary key, small smallint, big bigint, num numeric, price numeric(12,2), f4 real, f8 double precision,
        flag boolean, txt text, vc varchar(10), ch char(3), j json, jb jsonb, u uuid, d date, t time, ts timestamp,
        tz timestamptz, iv interval, bin bytea, bins bytea[], ints integer[], texts text[], jbs jsonb[], m mood,
        ip inet, r int4range, bits bit(3), a addr, p positive, \"Größe in m\" numeric)";

const SQLITE: &str = "
    create table kinds (
        id bigint primary key, small smallint, big bigint, num numeric, price numeric(12,2), f4 real, f8 double precision,
        flag boolean, txt text, vc varchar(10), ch char(3), j json, jb jsonb, u uuid, d date, t time, ts timestamp,
        tz timestamptz, iv interval, bin bytea, bins json, ints json, texts json, jbs json,
        m text check (m in ('happy', 'sad')), ip inet, r text, bits text, a json, p integer check (p > 0),
        \"Größe in m\" numeric)";

async fn world(backend: Backend) -> World {
    let world = World::new(backend).await;
    match backend {
        Backend::Postgres => world.run(POSTGRES).await,
        Backend::Sqlite => world.run(SQLITE).await,
    };
    world
}

/// Column, what is written, what comes back on PostgreSQL, and on SQLite; `=` is the same as the one before.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("big", "0", "=", "="),
    ("big", "9007199254740993", "=", "="),
    ("big", "9223372036854775807", "=", "="),
    ("big", "-9223372036854775808", "=", "="),
    ("big", "9223372036854775808", "!invalid_value", "="),
    ("big", "1.5", "!invalid_value", "="),
    ("big", "\"12\"", "12", "="),
    ("big", "\"12x\"", "!invalid_value", "="),
    ("big", "\"\"", "!invalid_value", "="),
    ("big", "true", "!invalid_value", "="),
    ("big", "[1]", "!invalid_value", "="),
    ("big", "{}", "!invalid_value", "="),
    ("big", "null", "=", "="),
    ("small", "32767", "=", "="),
    ("small", "32768", "!invalid_value", "32768"),
    ("num", "123456789012345678901234567890.12345", "=", "!invalid_value"),
    ("num", "9007199254740993", "=", "="),
    ("num", "0.10", "=", "0.1"),
    ("num", "-0.5", "=", "="),
    ("num", "1e5", "100000", "="),
    ("num", "123456789012345678901234567890", "=", "!invalid_value"),
    ("num", "\"1.25\"", "1.25", "="),
    ("num", "\"NaN\"", "=", "!invalid_value"),
    ("num", "\"1,5\"", "!invalid_value", "="),
    ("price", "10.005", "10.01", "10.005"),
    ("price", "12345678901.5", "!invalid_value", "12345678901.5"),
    ("f4", "0.5", "=", "="),
    ("f8", "0.1", "=", "="),
    ("f8", "1e300", "1e+300", "="),
    ("f8", "1e400", "!invalid_value", "="),
    ("f8", "\"x\"", "!invalid_value", "="),
    ("flag", "true", "=", "="),
    ("flag", "false", "=", "="),
    ("flag", "\"true\"", "true", "="),
    ("flag", "\"f\"", "false", "="),
    ("flag", "1", "true", "="),
    ("flag", "2", "!invalid_value", "="),
    ("flag", "\"maybe\"", "!invalid_value", "="),
    ("flag", "null", "=", "="),
    ("txt", "\"\"", "=", "="),
    ("txt", "\"ä😀 漢字\"", "=", "="),
    ("txt", "\"\\u00e4\\ud83d\\ude00\"", "\"ä😀\"", "="),
    ("txt", "\"quote ' double \\\" back \\\\ end\"", "=", "="),
    ("txt", "\"line\\nfeed\\ttab\\r\"", "=", "="),
    ("txt", "\"$1 :x ? %s {}\"", "=", "="),
    ("txt", "\"'; drop table kinds; --\"", "=", "="),
    ("txt", "\"null\"", "=", "="),
    ("txt", "\"\\\\x41\"", "=", "="),
    ("txt", "5", "\"5\"", "="),
    ("txt", "1.50", "\"1.50\"", "="),
    ("txt", "true", "\"true\"", "="),
    ("txt", "{\"a\":1}", "\"{\\\"a\\\":1}\"", "="),
    ("txt", "[1,2]", "\"[1,2]\"", "="),
    ("txt", "\"a\\u0000b\"", "!invalid_value", "="),
    ("txt", "null", "=", "="),
    ("vc", "\"abcdefghij\"", "=", "="),
    ("vc", "\"abcdefghijk\"", "!invalid_value", "\"abcdefghijk\""),
    ("ch", "\"a\"", "\"a  \"", "\"a\""),
    ("j", "{\"b\":1.10,\"a\":[9007199254740993]}", "=", "="),
    ("j", "{\"a\": 1 , \"a\":2}", "=", "="),
    ("j", "\"text\"", "=", "="),
    ("j", "123456789012345678901234567890.10", "=", "!invalid_value"),
    ("j", "9007199254740993", "=", "="),
    ("j", "[]", "=", "="),
    ("j", "false", "=", "="),
    ("j", "null", "=", "="),
    ("j", "\"\\ud83d\\ude00\"", "=", "="),
    (
        "jb",
        "{\"b\":1.10,\"a\":[9007199254740993]}",
        "{\"a\": [9007199254740993], \"b\": 1.10}",
        "{\"b\":1.10,\"a\":[9007199254740993]}",
    ),
    ("jb", "\"text\"", "=", "="),
    ("jb", "{\"'\":\"\\\"\"}", "{\"'\": \"\\\"\"}", "{\"'\":\"\\\"\"}"),
    ("jb", "\"\\u0000\"", "!invalid_value", "="),
    ("u", "\"6f9619ff-8b86-d011-b42d-00c04fc964ff\"", "=", "="),
    (
        "u",
        "\"6F9619FF-8B86-D011-B42D-00C04FC964FF\"",
        "\"6f9619ff-8b86-d011-b42d-00c04fc964ff\"",
        "\"6F9619FF-8B86-D011-B42D-00C04FC964FF\"",
    ),
    ("u", "\"no uuid\"", "!invalid_value", "\"no uuid\""),
    ("d", "\"2024-02-29\"", "=", "="),
    ("d", "\"2024-02-30\"", "!invalid_value", "\"2024-02-30\""),
    ("t", "\"10:30:00\"", "=", "="),
    ("ts", "\"2024-01-02 03:04:05.123456\"", "\"2024-01-02T03:04:05.123456\"", "\"2024-01-02 03:04:05.123456\""),
    ("ts", "\"2024-01-02T03:04:05\"", "=", "="),
    ("tz", "\"2024-01-02T03:04:05+02:00\"", "\"2024-01-02T01:04:05+00:00\"", "\"2024-01-02T03:04:05+02:00\""),
    ("tz", "\"2024-01-02T03:04:05+00:00\"", "=", "="),
    ("tz", "\"infinity\"", "=", "="),
    ("tz", "\"yesterdayish\"", "!invalid_value", "\"yesterdayish\""),
    ("iv", "\"1 day\"", "=", "="),
    ("bin", "\"AAH/\"", "=", "="),
    ("bin", "\"AAH_\"", "\"AAH/\"", "="),
    ("bin", "\"\"", "=", "="),
    ("bin", "\"AAE=\"", "=", "="),
    ("bin", "\"AAE\"", "\"AAE=\"", "="),
    ("bin", "\"not base64!\"", "!invalid_value", "="),
    ("bin", "5", "!invalid_value", "="),
    ("bin", "null", "=", "="),
    ("bins", "[\"AAH/\",null]", "=", "="),
    ("ints", "[1,null,3]", "=", "="),
    ("ints", "[]", "=", "="),
    ("ints", "[[1,2],[3,4]]", "=", "="),
    ("ints", "\"{1,2}\"", "[1,2]", "\"{1,2}\""),
    ("ints", "[1.5]", "!invalid_value", "[1.5]"),
    ("ints", "[\"x\"]", "!invalid_value", "[\"x\"]"),
    ("ints", "5", "!invalid_value", "5"),
    ("ints", "null", "=", "="),
    ("texts", "[\"a\\\"b\",\"NULL\",\"\",null,\"{}\",\"c,d\",\"e\\\\f\"]", "=", "="),
    ("texts", "[\"ä\"]", "=", "="),
    ("jbs", "[{\"a\": 1},[2]]", "=", "="),
    ("m", "\"happy\"", "=", "="),
    ("m", "\"angry\"", "!invalid_value", "!check_violation"),
    ("ip", "\"10.0.0.1\"", "=", "="),
    ("ip", "\"10.0.0\"", "!invalid_value", "\"10.0.0\""),
    ("r", "\"[1,5)\"", "=", "="),
    ("bits", "\"101\"", "=", "="),
    ("a", "{\"street\":\"a\\\"b, (c)\",\"zip\":null}", "=", "="),
    ("a", "{\"street\":\"x\",\"zip\":5}", "=", "="),
    ("a", "{\"street\":\"x\",\"town\":5}", "!invalid_value", "{\"street\":\"x\",\"town\":5}"),
    ("p", "5", "=", "="),
    ("p", "0", "!check_violation", "="),
    ("Größe in m", "1.25", "=", "="),
    ("nothing", "1", "!invalid_column_name", "="),
];

fn expected<'a>(case: &(&'a str, &'a str, &'a str, &'a str), backend: Backend) -> &'a str {
    let (_, written, postgres, sqlite) = case;
    let postgres = if *postgres == "=" { written } else { postgres };
    match backend {
        Backend::Postgres => postgres,
        Backend::Sqlite if *sqlite == "=" => postgres,
        Backend::Sqlite => sqlite,
    }
}

async fn every_value_comes_back_exactly_or_is_refused(backend: Backend) {
    let world = world(backend).await;
    let mut wrong = Vec::new();
    for (id, case) in CASES.iter().enumerate() {
        let (column, written, ..) = case;
        let body = format!(r#"{{"table_name":"kinds","insert_body":{{"id":{id},"{column}":{written}}}}}"#);
        let inserted = world.operate(Kind::Insert, &body).await;
        let found = match &inserted {
            Err(fault) => format!("!{}", fault.code),
            Ok(reply) => {
                let all = reply.rows[0].get().to_owned();
                let one = world
                    .fetch(&format!(r#"{{"table_name":"kinds","columns":["{column}"],"conditions":[{{"eq_column":"id","eq_value":{id}}}]}}"#))
                    .await;
                let value = one.strip_prefix(&format!("[{{\"{column}\":")).and_then(|rest| rest.strip_suffix("}]"));
                let value = value.unwrap_or_else(|| panic!("{one}")).to_owned();
                assert!(all.contains(&format!("\"{column}\":{value}")), "the insert's reply differs: {all} {value}");
                value
            }
        };
        if found != expected(case, backend) {
            wrong.push(format!(
                "{column} {written}: {found} instead of {} ({})",
                expected(case, backend),
                told(&inserted)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn a_stored_value_is_found_by_itself(backend: Backend) {
    let world = world(backend).await;
    for (id, case) in CASES.iter().enumerate() {
        let (column, written, ..) = case;
        // PostgreSQL compares neither nulls nor json, and a rounded price is another.
        if *written == "null" || matches!(*column, "j" | "price")
            // Nor a record with what it cannot know to be one.
            || (*column == "a" && backend == Backend::Postgres) || expected(case, backend).starts_with('!')
        {
            continue;
        }
        let insert = format!(r#"{{"table_name":"kinds","insert_body":{{"id":{id},"{column}":{written}}}}}"#);
        world.operate(Kind::Insert, &insert).await.unwrap();
        for operator in ["eq", "in", "neq"] {
            let value = if operator == "in" { format!("[{written}]") } else { (*written).to_owned() };
            let body = format!(
                r#"{{"table_name":"kinds","columns":["id"],"conditions":[{{"eq_column":"id","eq_value":{id}}}],
                    "where_filters":[{{"column":"{column}","operator":"{operator}","value":{value}}}]}}"#
            );
            let rows = if operator == "neq" { "[]".to_owned() } else { format!("[{{\"id\":{id}}}]") };
            // A float of four bytes equals its text here because the values are binary fractions.
            assert_eq!(world.fetch(&body).await, rows, "{column} {operator} {value}");
        }
    }
}
