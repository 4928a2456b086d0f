//! Operations with exact replies, one after the other on the same tables, on both databases.

use postrider_gateway::Backend;
use postrider_gateway::operation::Kind::{self, Delete, Fetch, Insert, Update};
use postrider_gateway::operation::Mode;

use crate::world::{World, on_both, text, told};

on_both!(
    every_operation_gives_its_exact_reply,
    free_queries_follow_their_mode_and_their_rules,
    ddl_beside_the_gateway_is_noticed_at_once,
    constraints_tell_their_names,
    a_lookup_gives_one_value,
);

const TABLES: &str = "
    create table customers (id bigint primary key, name text not null);
    create table orders (
        id integer primary key, sku text not null unique, n integer default 1 check (n >= 0),
        customer bigint references customers (id), note text, paid boolean);
    insert into customers values (1, 'Ann'), (2, 'Bob');
    insert into orders (id, sku, n, customer, note, paid) values
        (1, 'a-1', 3, 1, 'first', true), (2, 'a_2', 1, 1, null, false), (3, 'b%3', 2, 2, 'A\\B', null),
        (4, 'c 4', 5, null, 'ä', true), (5, 'A-1', 2, 2, '', false);
    create view dear as select id, sku from orders where n > 2;
    create table \"Odd Names\" (\"Select\" integer, \"größe\" text, \"a-b\" text, \"from\" text);
    insert into \"Odd Names\" values (1, 'x', 'y', 'z')";

async fn world(backend: Backend) -> World {
    let world = World::new(backend).await;
    world.run(TABLES).await;
    world
}

/// The operation, its body without the braces around it, the reply on PostgreSQL, and where it differs on SQLite.
type Case = (Kind, &'static str, &'static str, &'static str);

/// A fetch of the ids in `orders`.
macro_rules! ids {
    ($rest:literal, $ids:literal) => {
        (Fetch, concat!(r#""table_name":"orders","columns":["id"],"sort_by":{"field":"id"},"#, $rest), $ids, "=")
    };
}

/// A fetch of `orders` that is refused.
macro_rules! refused {
    ($rest:literal, $fault:literal) => {
        (Fetch, concat!(r#""table_name":"orders","columns":["id"],"#, $rest), $fault, "=")
    };
}

const READS: &[Case] = &[
    // Columns.
    (Fetch, r#""table_name":"customers""#, r#"[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"}]"#, "="),
    (Fetch, r#""table_name":"customers","columns":"name , id","limit":1"#, r#"[{"name":"Ann","id":1}]"#, "="),
    (Fetch, r#""table_name":"customers","columns":["name","name"],"limit":1"#, r#"[{"name":"Ann"}]"#, "="),
    (Fetch, r#""table_name":"customers","columns":["nothing"]"#, "!invalid_column_name", "="),
    (Fetch, r#""table_name":"nothing""#, "!invalid_table_name table_name", "="),
    (Fetch, r#""table_name":"customers","schema_name":"nothing""#, "!invalid_table_name table_name", "="),
    (
        Fetch,
        r#""table_name":"Customers""#,
        "!invalid_table_name table_name",
        r#"[{"id":1,"name":"Ann"},{"id":2,"name":"Bob"}]"#,
    ),
    (Fetch, r#""table_name":"dear","sort_by":{"field":"id"}"#, r#"[{"id":1,"sku":"a-1"},{"id":4,"sku":"c 4"}]"#, "="),
    (Fetch, r#""table_name":"Odd Names""#, r#"[{"Select":1,"größe":"x","a-b":"y","from":"z"}]"#, "="),
    (
        Fetch,
        r#""table_name":"Odd Names","columns":["größe","Select"],"conditions":[{"eq_column":"from","eq_value":"z"}]"#,
        r#"[{"größe":"x","Select":1}]"#,
        "=",
    ),
    // Conditions.
    ids!(r#""conditions":[]"#, r#"[{"id":1},{"id":2},{"id":3},{"id":4},{"id":5}]"#),
    ids!(r#""conditions":[{"eq_column":"sku","eq_value":"a-1"}]"#, r#"[{"id":1}]"#),
    ids!(r#""conditions":[{"eq_column":"n","eq_value":2}]"#, r#"[{"id":3},{"id":5}]"#),
    ids!(r#""conditions":[{"eq_column":"n","eq_value":"2"}]"#, r#"[{"id":3},{"id":5}]"#),
    ids!(
        r#""conditions":[{"eq_column":"n","eq_value":2},{"eq_column":"customer","eq_value":2}]"#,
        r#"[{"id":3},{"id":5}]"#
    ),
    ids!(r#""conditions":[{"eq_column":"n","eq_value":2},{"eq_column":"sku","eq_value":"A-1"}]"#, r#"[{"id":5}]"#),
    ids!(r#""conditions":[{"eq_column":"note","eq_value":null}]"#, r#"[{"id":2}]"#),
    ids!(r#""conditions":[{"eq_column":"note","eq_value":""}]"#, r#"[{"id":5}]"#),
    ids!(r#""conditions":[{"eq_column":"paid","eq_value":true}]"#, r#"[{"id":1},{"id":4}]"#),
    ids!(r#""conditions":[{"eq_column":"note","eq_value":"A\\B"}]"#, r#"[{"id":3}]"#),
    ids!(r#""conditions":[{"eq_column":"id","eq_value":99}]"#, "[]"),
    refused!(r#""conditions":[{"eq_column":"nothing","eq_value":1}]"#, "!invalid_column_name"),
    refused!(r#""conditions":[{"eq_column":"n","eq_value":"x"}]"#, "!invalid_condition_value conditions[0].eq_value"),
    refused!(
        r#""conditions":[{"eq_column":"id","eq_value":1},{"eq_column":"n","eq_value":1.5}]"#,
        "!invalid_condition_value conditions[1].eq_value"
    ),
    refused!(
        r#""conditions":[{"eq_column":"sku","eq_value":"a\u0000"}]"#,
        "!invalid_condition_value conditions[0].eq_value"
    ),
    refused!(
        r#""conditions":[{"eq_column":"n","eq_value":99999999999999999999}]"#,
        "!invalid_condition_value conditions[0].eq_value"
    ),
    refused!(r#""conditions":{}"#, "!invalid_fetch_condition conditions"),
    refused!(r#""conditions":[{"eq_column":"a;b","eq_value":1}]"#, "!invalid_fetch_condition conditions[0].eq_column"),
    // Operators.
    ids!(r#""where_filters":[{"column":"n","operator":"neq","value":2}]"#, r#"[{"id":1},{"id":2},{"id":4}]"#),
    ids!(r#""where_filters":[{"column":"note","operator":"neq","value":"first"}]"#, r#"[{"id":3},{"id":4},{"id":5}]"#),
    ids!(
        r#""where_filters":[{"column":"note","operator":"neq","value":null}]"#,
        r#"[{"id":1},{"id":3},{"id":4},{"id":5}]"#
    ),
    ids!(r#""where_filters":[{"column":"n","operator":"gt","value":2}]"#, r#"[{"id":1},{"id":4}]"#),
    ids!(r#""where_filters":[{"column":"n","operator":"gte","value":2}]"#, r#"[{"id":1},{"id":3},{"id":4},{"id":5}]"#),
    ids!(r#""where_filters":[{"column":"n","operator":"lt","value":2}]"#, r#"[{"id":2}]"#),
    ids!(r#""where_filters":[{"column":"n","operator":"lte","value":2}]"#, r#"[{"id":2},{"id":3},{"id":5}]"#),
    ids!(
        r#""where_filters":[{"column":"n","operator":"gt","value":1},{"column":"n","operator":"lt","value":5}]"#,
        r#"[{"id":1},{"id":3},{"id":5}]"#
    ),
    ids!(r#""where_filters":[{"column":"id","operator":"in","value":[5,1,99]}]"#, r#"[{"id":1},{"id":5}]"#),
    ids!(r#""where_filters":[{"column":"sku","operator":"in","value":["a-1","b%3"]}]"#, r#"[{"id":1},{"id":3}]"#),
    ids!(r#""where_filters":[{"column":"sku","operator":"like","value":"a%"}]"#, r#"[{"id":1},{"id":2}]"#),
    ids!(r#""where_filters":[{"column":"sku","operator":"like","value":"a_2"}]"#, r#"[{"id":2}]"#),
    ids!(r#""where_filters":[{"column":"sku","operator":"like","value":"a\\_2"}]"#, r#"[{"id":2}]"#),
    ids!(r#""where_filters":[{"column":"sku","operator":"like","value":"b\\%3"}]"#, r#"[{"id":3}]"#),
    ids!(r#""where_filters":[{"column":"sku","operator":"like","value":"%\\%%"}]"#, r#"[{"id":3}]"#),
    ids!(r#""where_filters":[{"column":"note","operator":"like","value":"A\\\\B"}]"#, r#"[{"id":3}]"#),
    ids!(r#""where_filters":[{"column":"note","operator":"like","value":"%ä%"}]"#, r#"[{"id":4}]"#),
    ids!(r#""where_filters":[{"column":"note","operator":"is","value":null}]"#, r#"[{"id":2}]"#),
    ids!(
        r#""where_filters":[{"column":"note","operator":"is","value":"not_null"}]"#,
        r#"[{"id":1},{"id":3},{"id":4},{"id":5}]"#
    ),
    ids!(r#""where_filters":[{"column":"paid","operator":"is","value":true}]"#, r#"[{"id":1},{"id":4}]"#),
    ids!(r#""where_filters":[{"column":"paid","operator":"is","value":"false"}]"#, r#"[{"id":2},{"id":5}]"#),
    ids!(r#""where_filters":[{"column":"paid","operator":"is","value":"null"}]"#, r#"[{"id":3}]"#),
    ids!(
        r#""conditions":[{"eq_column":"customer","eq_value":2}],"where_filters":[{"column":"n","operator":"gte","value":2},{"column":"paid","operator":"is","value":null}]"#,
        r#"[{"id":3}]"#
    ),
    refused!(
        r#""where_filters":[{"column":"id","operator":"in","value":[1,"x"]}]"#,
        "!invalid_condition_value where_filters[0].value[1]"
    ),
    refused!(
        r#""where_filters":[{"column":"id","operator":"between","value":1}]"#,
        "!invalid_fetch_condition where_filters[0].operator"
    ),
    refused!(r#""where_filters":[{"column":"nothing","operator":"like","value":"x"}]"#, "!invalid_column_name"),
    // Order and pages.
    (
        Fetch,
        r#""table_name":"orders","columns":["id"],"sort_by":{"field":"sku","direction":"desc"},"limit":2"#,
        r#"[{"id":4},{"id":3}]"#,
        "=",
    ),
    (
        Fetch,
        r#""table_name":"orders","columns":["id"],"sort_by":[{"field":"n","direction":"desc"},{"field":"id","direction":"desc"}]"#,
        r#"[{"id":4},{"id":1},{"id":5},{"id":3},{"id":2}]"#,
        "=",
    ),
    (
        Fetch,
        r#""table_name":"orders","columns":["id"],"sort_by":[{"field":"paid"},{"field":"id"}]"#,
        r#"[{"id":2},{"id":5},{"id":1},{"id":4},{"id":3}]"#,
        "=",
    ),
    (
        Fetch,
        r#""table_name":"orders","columns":["id"],"sort_by":[{"field":"paid","direction":"desc"},{"field":"id"}]"#,
        r#"[{"id":3},{"id":1},{"id":4},{"id":2},{"id":5}]"#,
        "=",
    ),
    ids!(r#""page_size":2"#, r#"[{"id":1},{"id":2}]"#),
    ids!(r#""page_size":2,"current_page":2"#, r#"[{"id":3},{"id":4}]"#),
    ids!(r#""page_size":2,"current_page":3"#, r#"[{"id":5}]"#),
    ids!(r#""page_size":2,"current_page":4"#, "[]"),
    ids!(r#""limit":2,"offset":1"#, r#"[{"id":2},{"id":3}]"#),
    ids!(r#""page_size":2,"current_page":2,"offset":1"#, r#"[{"id":4},{"id":5}]"#),
    ids!(r#""limit":0"#, "[]"),
    ids!(r#""offset":1000000000"#, "[]"),
    refused!(r#""sort_by":{"field":"nothing"}"#, "!invalid_column_name"),
    refused!(r#""sort_by":{"field":"id","direction":"sideways"}"#, "!invalid_field sort_by.direction"),
    refused!(r#""limit":-1"#, "!invalid_field limit"),
];

const WRITES: &[Case] = &[
    (
        Insert,
        r#""table_name":"orders","insert_body":{"id":6,"sku":"d"}"#,
        r#"[{"id":6,"sku":"d","n":1,"customer":null,"note":null,"paid":null}]"#,
        "=",
    ),
    (
        Insert,
        r#""table_name":"orders","data":{"id":7,"sku":"e","n":null,"paid":true}"#,
        r#"[{"id":7,"sku":"e","n":null,"customer":null,"note":null,"paid":true}]"#,
        "=",
    ),
    (Insert, r#""table_name":"orders","insert_body":{"id":8,"sku":"d"}"#, "!unique_violation", "="),
    (Insert, r#""table_name":"orders","insert_body":{"id":6,"sku":"f"}"#, "!unique_violation", "="),
    (Insert, r#""table_name":"orders","insert_body":{"id":8,"sku":"f","customer":99}"#, "!foreign_key_violation", "="),
    (Insert, r#""table_name":"orders","insert_body":{"id":8,"sku":"f","n":-1}"#, "!check_violation", "="),
    (Insert, r#""table_name":"orders","insert_body":{"id":8}"#, "!not_null_violation sku", "="),
    (Insert, r#""table_name":"orders","insert_body":{"id":8,"sku":null}"#, "!not_null_violation sku", "="),
    (Insert, r#""table_name":"orders","insert_body":{"id":8,"sku":"f","colour":"red"}"#, "!invalid_column_name", "="),
    (Insert, r#""table_name":"orders","insert_body":{"id":"x","sku":"f"}"#, "!invalid_value insert_body.id", "="),
    (Insert, r#""table_name":"nothing","insert_body":{"id":8}"#, "!invalid_table_name table_name", "="),
    (Insert, r#""table_name":"orders"}"#, "!malformed_json_payload", "="),
    (
        Fetch,
        r#""table_name":"orders","columns":["id"],"where_filters":[{"column":"id","operator":"gt","value":5}],"sort_by":{"field":"id"}"#,
        r#"[{"id":6},{"id":7}]"#,
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":6}],"data":{"n":4,"note":"ü"}"#,
        r#"[{"id":6,"sku":"d","n":4,"customer":null,"note":"ü","paid":null}]"#,
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":6}],"columns":[{"n":5},{"note":null}]"#,
        r#"[{"id":6,"sku":"d","n":5,"customer":null,"note":null,"paid":null}]"#,
        "=",
    ),
    (Update, r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":99}],"set":{"n":5}"#, "[]", "="),
    (
        Update,
        r#""table_name":"customers","conditions":[{"eq_column":"id","eq_value":1},{"eq_column":"name","eq_value":"Bob"}],"set":{"name":"x"}"#,
        "[]",
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":6}],"set":{"sku":"e"}"#,
        "!unique_violation",
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":6}],"set":{"customer":99}"#,
        "!foreign_key_violation",
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":6}],"set":{"n":"many"}"#,
        "!invalid_value data.n",
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":"six"}],"set":{"n":1}"#,
        "!invalid_condition_value conditions[0].eq_value",
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":null}],"set":{"n":1}"#,
        "!invalid_condition_value conditions[0].eq_value",
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"colour","eq_value":1}],"set":{"n":1}"#,
        "!invalid_column_name",
        "=",
    ),
    (
        Update,
        r#""table_name":"orders","conditions":[{"eq_column":"id","eq_value":6}],"set":{"colour":1}"#,
        "!invalid_column_name",
        "=",
    ),
    (Update, r#""table_name":"orders","set":{"n":1}"#, "!missing_conditions conditions", "="),
    (Delete, r#""table_name":"orders","resource_id":7"#, "[]", "="),
    (Delete, r#""table_name":"orders","resource_id":"6""#, "[]", "="),
    (Delete, r#""table_name":"orders","resource_id":99"#, "[]", "="),
    (Delete, r#""table_name":"orders","column_name":"sku","resource_id":"A-1""#, "[]", "="),
    (Delete, r#""table_name":"orders","resource_id":"six""#, "!invalid_condition_value resource_id", "="),
    (Delete, r#""table_name":"orders","column_name":"colour","resource_id":1"#, "!invalid_column_name", "="),
    (Delete, r#""table_name":"nothing","resource_id":1"#, "!invalid_table_name table_name", "="),
    (Delete, r#""table_name":"customers","resource_id":1"#, "!foreign_key_violation", "="),
    (
        Fetch,
        r#""table_name":"orders","columns":["id"],"sort_by":{"field":"id"}"#,
        r#"[{"id":1},{"id":2},{"id":3},{"id":4}]"#,
        "=",
    ),
];

async fn every_operation_gives_its_exact_reply(backend: Backend) {
    let world = world(backend).await;
    let mut wrong = Vec::new();
    for (kind, body, postgres, sqlite) in READS.iter().chain(WRITES) {
        let expected = match backend {
            Backend::Sqlite if *sqlite != "=" => sqlite,
            _ => postgres,
        };
        let found = told(&world.operate(*kind, &format!("{{{body}}}")).await);
        if found != *expected {
            wrong.push(format!("{} {body}:\n   {found}\n   instead of\n   {expected}", kind.as_str()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn free_queries_follow_their_mode_and_their_rules(backend: Backend) {
    let world = world(backend).await;
    let single = Mode::SingleTransaction;
    let reply = world
        .query("select id, sku from orders where n = $1 and sku <> $2 order by id", "[2, \"x\"]", single)
        .await
        .unwrap();
    assert_eq!(text(&reply), r#"[{"id":3,"sku":"b%3"},{"id":5,"sku":"A-1"}]"#);
    assert_eq!((reply.rows_affected, reply.statement_count), (0, 1));

    // Comments, common tables, writes with and without rows.
    for (sql, params, rows, affected) in [
        ("select 1 as x -- ; the end", "[]", r#"[{"x":1}]"#, 0),
        ("with a as (select 2 as x) select * from a", "[]", r#"[{"x":2}]"#, 0),
        (
            "insert into customers (id, name) values ($1, $2) returning name, id",
            r#"[3,"Cyd"]"#,
            r#"[{"name":"Cyd","id":3}]"#,
            1,
        ),
        ("update customers set name = $1 where id >= 2", r#"["x"]"#, "[]", 2),
        ("delete from customers where id = 3 returning id", "[]", r#"[{"id":3}]"#, 1),
        ("select 1 as a; select 2 as b;", "[]", r#"[{"b":2}]"#, 0),
        (
            "insert into customers (id, name) values (4, 'd'); select name from customers where id = 4",
            "[]",
            r#"[{"name":"d"}]"#,
            1,
        ),
        ("create table fresh (id integer); insert into fresh values (1), (2)", "[]", "[]", 2),
        ("drop table fresh", "[]", "[]", 0),
    ] {
        let reply = world.query(sql, params, single).await.unwrap_or_else(|fault| panic!("{fault}: {sql}"));
        assert_eq!((text(&reply).as_str(), reply.rows_affected), (rows, affected), "{sql}");
    }

    // All or none, against each for itself.
    let failing = "insert into customers (id, name) values (5, 'e'); insert into customers (id, name) values (5, 'e')";
    assert_eq!(world.query(failing, "[]", single).await.unwrap_err().code.as_str(), "unique_violation");
    let count =
        async || text(&world.query("select count(*) as n from customers where id = 5", "[]", single).await.unwrap());
    assert_eq!(count().await, r#"[{"n":0}]"#);
    assert_eq!(world.query(failing, "[]", Mode::PerStatement).await.unwrap_err().code.as_str(), "unique_violation");
    assert_eq!(count().await, r#"[{"n":1}]"#);

    for (sql, params, code) in [
        ("", "[]", "empty_query"),
        ("select * from absent", "[]", "invalid_table_name"),
        ("select absent from orders", "[]", "invalid_column_name"),
        ("selekt", "[]", "query_sql_execution_failed"),
        ("begin", "[]", "statement_not_allowed"),
        ("select $1", "[]", "invalid_query_payload"),
        ("select 1", "[1]", "invalid_query_payload"),
        ("insert into orders (id, sku, customer) values (9, 'q', 99)", "[]", "foreign_key_violation"),
        ("insert into customers (id) values (9)", "[]", "not_null_violation"),
    ] {
        let fault = world.query(sql, params, single).await.expect_err(sql);
        assert_eq!(fault.code.as_str(), code, "{sql}: {fault}");
    }
}

async fn ddl_beside_the_gateway_is_noticed_at_once(backend: Backend) {
    let world = World::new(backend).await;
    let changes = match backend {
        Backend::Postgres => [
            "alter table t alter column v type text using 'x' || v",
            "alter table t alter column v type bytea using v::bytea",
        ],
        Backend::Sqlite => [
            "alter table t drop column v; alter table t add column v text default 'x7'",
            "alter table t drop column v; alter table t add column v blob default x'7837'",
        ],
    };
    world.run("create table t (id integer, v integer); insert into t values (1, 7)").await;
    let fetch = r#"{"table_name":"t"}"#;
    let by_value =
        |value: &str| format!(r#"{{"table_name":"t","conditions":[{{"eq_column":"v","eq_value":{value}}}]}}"#);
    // Several connections, each with its own prepared statements.
    let reads = async |body: &str, expected: &str| {
        for _ in 0..3 {
            assert_eq!(world.fetch(body).await, expected, "{body}");
        }
    };
    reads(fetch, r#"[{"id":1,"v":7}]"#).await;
    reads(&by_value("7"), r#"[{"id":1,"v":7}]"#).await;
    world.run(changes[0]).await;
    reads(fetch, r#"[{"id":1,"v":"x7"}]"#).await;
    reads(&by_value("\"x7\""), r#"[{"id":1,"v":"x7"}]"#).await;
    world.run(changes[1]).await;
    reads(fetch, r#"[{"id":1,"v":"eDc="}]"#).await;
    reads(&by_value("\"eDc=\""), r#"[{"id":1,"v":"eDc="}]"#).await;
    world.run("alter table t add column w text").await;
    reads(fetch, r#"[{"id":1,"v":"eDc=","w":null}]"#).await;
    world.run("drop table t; create table t (w integer)").await;
    let insert = r#"{"table_name":"t","insert_body":{"w":5}}"#;
    world.operate(postrider_gateway::operation::Kind::Insert, insert).await.unwrap();
    reads(fetch, r#"[{"w":5}]"#).await;
}

async fn constraints_tell_their_names(backend: Backend) {
    let world = world(backend).await;
    let detail = async |body: &str| {
        let fault =
            world.operate(Insert, &format!(r#"{{"table_name":"orders","insert_body":{body}}}"#)).await.unwrap_err();
        (fault.status(), fault.details.iter().find(|(name, _)| *name == "constraint").map(|(_, value)| value.clone()))
    };
    let expected = match backend {
        Backend::Postgres => ["orders_sku_key", "orders_pkey", "orders_n_check"],
        Backend::Sqlite => ["orders.sku", "orders.id", "n >= 0"],
    };
    assert_eq!(detail(r#"{"id":9,"sku":"a-1"}"#).await, (409, Some(expected[0].to_owned())));
    assert_eq!(detail(r#"{"id":1,"sku":"z"}"#).await, (409, Some(expected[1].to_owned())));
    assert_eq!(detail(r#"{"id":9,"sku":"z","n":-1}"#).await, (400, Some(expected[2].to_owned())));
}

async fn a_lookup_gives_one_value(backend: Backend) {
    use postrider_gateway::identifier::{Identifier, Table};
    let world = world(backend).await;
    let lookup = async |column: &str, key: &str, value: &str| {
        let table = Table::parse("orders", None).unwrap();
        let (column, key) = (Identifier::new(column).unwrap(), Identifier::new(key).unwrap());
        world.client().lookup(&table, &column, &key, value).await
    };
    assert_eq!(lookup("note", "id", "4").await.unwrap().as_deref(), Some("ä"));
    assert_eq!(lookup("n", "sku", "a-1").await.unwrap().as_deref(), Some("3"));
    assert_eq!(lookup("note", "id", "2").await.unwrap(), None);
    assert_eq!(lookup("note", "id", "99").await.unwrap(), None);
    assert!(lookup("note", "id", "x").await.is_err());
    assert!(lookup("nothing", "id", "1").await.is_err());
}
