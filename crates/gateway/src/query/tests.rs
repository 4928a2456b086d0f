#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::limits::{QUERY_BYTES_MAX, QUERY_LINKS_MAX};

fn parse(sql: &str) -> Script {
    Script::parse(Backend::Postgres, sql, Mode::SingleTransaction, false)
        .unwrap_or_else(|fault| panic!("{fault}: {sql}"))
}

fn refused(sql: &str) -> Code {
    Script::parse(Backend::Postgres, sql, Mode::SingleTransaction, false).expect_err(sql).code
}

#[test]
fn statements_are_counted_by_tokens_and_not_by_semicolons() {
    for (sql, count) in [
        ("select 1", 1),
        ("select 1;", 1),
        (";; select 1 ;; select 2 ;", 2),
        ("select ';', $$;$$, $q$;$q$, \"a;b\" -- ; \n from t /* ; /* ; */ ; */", 1),
        ("select E'\\';' ; select 2", 2),
        ("select 'ä;ö' ;\n select 'ü'", 2),
    ] {
        assert_eq!(parse(sql).statement_count(), count, "{sql}");
    }
    let script = parse("select 'ä;ö' ;\n\n  select 'ü' -- end\n;");
    assert_eq!(
        script.pieces.iter().map(|piece| piece.sql.as_str()).collect::<Vec<_>>(),
        ["select 'ä;ö'", "select 'ü'"]
    );
    for sql in ["", " ; ;", "-- nothing", "/* nothing */;"] {
        assert_eq!(refused(sql), Code::EmptyQuery, "{sql}");
    }
    parse(&vec!["select 1"; STATEMENTS_MAX].join(";"));
    assert_eq!(refused(&vec!["select 1"; STATEMENTS_MAX + 1].join(";")), Code::InvalidQueryPayload);
}

#[test]
fn triggers_of_sqlite_keep_their_semicolons() {
    let sql = "create trigger x after insert on t begin insert into a values (1); delete from b where id = new.id; end; \
               select 1";
    let script = Script::parse(Backend::Sqlite, sql, Mode::SingleTransaction, false);
    assert_eq!(script.unwrap().statement_count(), 2);
}

#[test]
fn what_a_session_may_not_do_is_refused() {
    for sql in [
        "begin",
        "commit",
        "rollback",
        "savepoint a",
        "select 1; commit; drop table t",
        "copy t from program 'id'",
        "copy t from '/etc/passwd'",
        "copy t to stdout",
        "copy (select 1) to program 'id'",
        "set role postgres",
        "set session authorization postgres",
        "set statement_timeout = 0",
        "set local search_path = x",
        "reset all",
        "listen x",
        "unlisten x",
        "prepare a as select 1",
        "execute a",
        "deallocate all",
        "discard all",
        "declare c cursor for select 1",
        "vacuum t",
        "load 'x'",
        "create role x",
        "create database x",
    ] {
        let code = refused(sql);
        assert!(matches!(code, Code::StatementNotAllowed | Code::QuerySqlExecutionFailed), "{code} {sql}");
    }
    for sql in ["attach database 'x' as y", "pragma writable_schema = 1", "vacuum into '/tmp/x'", "detach database x"] {
        let fault = Script::parse(Backend::Sqlite, sql, Mode::SingleTransaction, false).expect_err(sql);
        assert!(matches!(fault.code, Code::StatementNotAllowed | Code::QuerySqlExecutionFailed), "{fault} {sql}");
    }
    Script::parse(Backend::Postgres, "vacuum t", Mode::PerStatement, false).unwrap();
}

#[test]
fn what_is_no_sql_is_said_to_be_none() {
    for sql in ["selekt 1", "select 'a", "select (1", "select 1) t", "select 1 2 3 from", "do $$ begin end $$", "\0"] {
        assert_eq!(refused(sql), Code::QuerySqlExecutionFailed, "{sql}");
    }
    assert_eq!(refused("select 1 --\r into x\n from t"), Code::QuerySqlExecutionFailed);
    assert_eq!(parse("select 1 --\r\n as x;\r\nselect 2").statement_count(), 2);
    let deep = format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(refused(&deep), Code::QuerySqlExecutionFailed);
}

/// What the parser reads in a loop, so that its bound on recursion does not count it, makes a tree as deep as the text is
/// long; walking and dropping such a tree would overflow the stack of the thread, and end the process.
#[test]
fn chains_as_long_as_a_query_may_be_do_not_overflow_the_stack() {
    for (start, link) in [
        ("select 1", "+1"),
        ("select 'a'", "||'a'"),
        ("select a", "::int"),
        ("select a", "[1]"),
        ("select a", ".b"),
        ("select a", " is null"),
        ("select a", " collate c"),
        ("select a", " at time zone 'x'"),
        ("select a", " in (1)"),
        ("select a", " between 1 and 2"),
        ("select a", " and b"),
        ("select a", " or b"),
        ("select a", " like b"),
        ("select a", "->b"),
        ("select 1", " union select 1"),
        ("select 1", " union all values (1)"),
        ("select 1 from t", " join t on true"),
        ("select 1 from t", " natural join t"),
        ("select case", " when 1 then 1"),
        ("select ", "- "),
        ("select ", "not "),
        ("select ", "("),
        ("select f", "()"),
        ("select ", "(select "),
        ("select ", "array["),
        ("select ", "case when "),
        ("", "explain "),
        ("", "("),
        ("select * from ", "("),
        ("", "with a as ("),
        ("select f(", "f("),
        ("create table t (a int default 1", "+1"),
        ("create view v as select 1", "+1"),
        ("insert into t values (1", "+1"),
    ] {
        // Far more than a stack of 2 MiB has held, and less than a query may have.
        let sql = format!("{start}{}", link.repeat(50_000.min(QUERY_BYTES_MAX / link.len())));
        for sql in [format!("{sql} 1"), sql] {
            let _ = Script::parse(Backend::Postgres, &sql, Mode::SingleTransaction, true);
        }
    }
}

#[test]
fn links_of_a_statement_are_counted_along_the_longest_chain() {
    let chain = |links: usize| format!("select 1{}", "+1".repeat(links - 1));
    parse(&chain(QUERY_LINKS_MAX));
    assert_eq!(refused(&chain(QUERY_LINKS_MAX + 1)), Code::QuerySqlExecutionFailed);
    let half = QUERY_LINKS_MAX / 2;
    let nested = format!("select 1{} + (1{})", "+1".repeat(half), "+1".repeat(half));
    assert_eq!(refused(&nested), Code::QuerySqlExecutionFailed, "what stands inside counts with what is around it");
    // Neither elements of a list nor statements lie within each other.
    let terms = vec!["a + 1"; 5_000].join(", ");
    parse(&format!("select {terms} from t where a in ({terms})"));
    parse(&format!("insert into t values {}", vec!["(1, -2, null)"; 5_000].join(", ")));
    parse(&vec![chain(half); 3].join(";"));
    parse(&format!("select * from t where {}", vec!["a = 1"; 3_000].join(" or ")));
}

#[test]
fn writing_is_recognised_at_every_depth() {
    let reads = [
        "select 1",
        "values (1)",
        "with a as (select 1) select * from a",
        "(select 1) union (select 2)",
        "explain select 1",
        "show timezone",
        "select 'insert into t'",
    ];
    for sql in reads {
        Script::parse(Backend::Postgres, sql, Mode::SingleTransaction, true)
            .unwrap_or_else(|fault| panic!("{fault} {sql}"));
    }
    for sql in [
        "insert into t values (1)",
        "update t set a = 1",
        "delete from t",
        "truncate t",
        "with a as (insert into t values (1) returning id) select * from a",
        "with a as (with b as (delete from t returning 1) select * from b) select * from a",
        "with a as (select 1) insert into t select * from a",
        "select * into x from t",
        "explain analyze delete from t",
        "create table x (id int)",
        "drop table x",
        "select 1; delete from t",
        "merge into t using s on t.id = s.id when matched then delete",
    ] {
        let fault = Script::parse(Backend::Postgres, sql, Mode::SingleTransaction, true).expect_err(sql);
        assert_eq!(fault.code, Code::ReadOnlyViolation, "{sql}");
        assert!(parse(sql).writes(), "{sql}");
    }
}

#[test]
fn the_body_begins_after_the_list_of_common_tables() {
    let body = |sql: &str| match parse(sql).pieces[0].form {
        Form::Rows { body } => format!("rows {}", &parse(sql).pieces[0].sql[body..]),
        Form::Returning { body } => format!("returning {}", &parse(sql).pieces[0].sql[body..]),
        Form::Direct => "direct".to_owned(),
    };
    assert_eq!(body("select 1"), "rows select 1");
    assert_eq!(body("(select 1) union select 2"), "rows (select 1) union select 2");
    assert_eq!(
        body("with ä as (select 'select'), b(x) as materialized (values (1)) select * from b"),
        "rows select * from b"
    );
    assert_eq!(body("insert into t select 1 returning id"), "returning insert into t select 1 returning id");
    assert_eq!(
        body("with a as (select 1) insert into t select * from a returning id"),
        "returning insert into t select * from a returning id"
    );
    assert_eq!(body("insert into t values (1)"), "direct");
    assert_eq!(body("update t set a = 1 returning *"), "returning update t set a = 1 returning *");
    assert_eq!(body("explain select 1"), "direct");
}

#[test]
fn changes_of_the_schema_are_recognised_with_their_names() {
    let changes = |sql: &str| {
        let told =
            |change: &SchemaChange| format!("{} {} {}", change.kind.as_str(), change.name, change.columns.join("+"));
        parse(sql).schema_changes().map(told).collect::<Vec<_>>().join(", ")
    };
    for (sql, expected) in [
        ("create table if not exists Shop.\"Orders\" (id int)", "schema_table_created shop.Orders "),
        ("create table a as select 1", "schema_table_created a "),
        ("select 1 as x into b", "schema_table_created b "),
        ("drop table a, s.b cascade", "schema_table_dropped a , schema_table_dropped s.b "),
        ("create or replace view v as select 1", "schema_view_created v "),
        ("create materialized view v as select 1", "schema_view_created v "),
        ("drop view v", "schema_view_dropped v "),
        ("alter table t add column a int, add b int", "schema_column_added t a, schema_column_added t b"),
        ("alter table t drop column a", "schema_column_dropped t a"),
        ("alter table t rename column a to b", "schema_column_renamed t a"),
        ("alter table t alter column a type bigint", "schema_column_altered t a"),
        ("alter table t alter column a set not null", "schema_column_altered t a"),
        ("create unique index i on s.t (a)", "schema_index_created s.t "),
        ("drop index i", "schema_index_dropped i "),
        ("create extension if not exists citext", "schema_extension_installed citext "),
        ("select 'create table x'; alter table t rename to u", ""),
        ("select 1; create table a (id int); drop table a", "schema_table_created a , schema_table_dropped a "),
    ] {
        assert_eq!(changes(sql), expected, "{sql}");
    }
}

#[test]
fn names_become_numbers_by_token() {
    let named = |sql: &str, declared: &[&str]| {
        let declared: BTreeSet<String> = declared.iter().map(|&name| name.to_owned()).collect();
        Named::parse(sql, &declared).map(|named| (named.sql, named.names.join(",")))
    };
    let sql = "select id::text, ':sku' /* :sku */ from ö where sku = :sku and n > :n or sku = :sku -- :x";
    let expected = "select id::text, ':sku' /* :sku */ from ö where sku = $1 and n > $2 or sku = $1 -- :x";
    assert_eq!(named(sql, &["sku", "n"]).unwrap(), (expected.to_owned(), "sku,n".to_owned()));
    assert_eq!(named("select :a::int", &["a"]).unwrap().0, "select $1::int");
    assert!(named("select :b", &["a"]).unwrap_err().contains(":b"));
    assert!(named("select 1", &["a"]).unwrap_err().contains('a'));
    assert!(named("select $1", &[]).unwrap_err().contains("by name"));
    assert!(named("select 'x", &[]).is_err());
}

proptest! {
    /// Whatever the text is: no panic, and what would be run is a part of it, cut at whole characters.
    #[test]
    fn what_is_run_is_the_callers_own_text(words in prop::collection::vec(prop::sample::select(WORDS), 1..25), postgres: bool) {
        let sql = words.concat();
        let backend = if postgres { Backend::Postgres } else { Backend::Sqlite };
        if let Ok(script) = Script::parse(backend, &sql, Mode::SingleTransaction, false) {
            let mut rest = sql.as_str();
            for piece in &script.pieces {
                let at = rest.find(&piece.sql);
                prop_assert!(at.is_some(), "{:?} is not in {rest:?}", piece.sql);
                rest = &rest[at.unwrap_or(0) + piece.sql.len()..];
                if let Form::Rows { body } | Form::Returning { body } = piece.form {
                    prop_assert!(piece.sql.split_at_checked(body).is_some());
                }
            }
        }
        let declared = BTreeSet::from(["a".to_owned()]);
        if let Ok(named) = Named::parse(&sql, &declared) {
            // A name such as `ä$1` holds what looks like a parameter.
            prop_assert_eq!(named.sql.replace("$1", ":a"), sql.replace("$1", ":a"));
        }
    }
}

/// What statements, and what only looks like them, are made of.
const WORDS: &[&str] = &[
    "select ",
    "with x as ",
    "(",
    ")",
    "insert into t values ",
    "returning * ",
    "from t ",
    "where ",
    "1",
    " ",
    ",",
    ";",
    "'",
    "\"",
    "$$",
    "$q$",
    "--",
    "/*",
    "*/",
    "\n",
    "\r\n",
    "ä",
    "\u{1f600}",
    ":a",
    "::",
    ":",
    "$1",
    "?",
    "a",
    "begin ",
    "end",
    "create trigger x after insert on t ",
    "E'",
    "\\",
    "union ",
    "update t set a = ",
    "delete ",
    "values ",
    "\t",
    "\u{a0}",
    "drop table t",
];
