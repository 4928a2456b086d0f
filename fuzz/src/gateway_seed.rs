//! What runs over the gateway start from.

/// A template, and a payload for it.
pub(crate) const TEMPLATES: [&str; 10] = [
    "https://hooks.example.com/orders/{{payload.insert_body.sku}}?id={{response.data.id}}\n\n{\"insert_body\":{\"sku\":\"a/../b\"}}",
    "https://a.example:8443/.{{payload}}.\n\n\"%2e\"",
    "{\"order\": {{payload.id}}, \"sku\": \"{{payload.sku}}\", \"all\": [{{payload}}]}\n\n{\"id\":1e400,\"sku\":\"\\\",\\\"admin\\\":true\"}",
    "{{ ATHENA.public.users.email }} {{ ATHENA.a.b }} {{a..b}} {{{payload}}}\n\n[[[[[[[[[[[[[[1]]]]]]]]]]]]]]",
    "<order id=\"{{payload.id}}\">{{payload}}</order>\n\n{\"id\":\"\\u0000<&'>\"}",
    "a={{payload.a}}&b={{headers.x_user_id}}\n\n{\"a\":\"&b=2\\r\\n\"}",
    "Bearer {{payload}}\n\nx\r\nset-cookie: a=b",
    "\"\\u12{{payload}}\"\n\n\"34\"",
    "{{}} }} {{ {{request.path}} {{ x\n\nnull",
    "{{headers.x_athena_key}}{{headers.authorization}}\n\ntrue",
];

/// An operation, a contract, and a call.
pub(crate) const CONTRACTS: [&str; 12] = [
    concat!(
        "fetch\n",
        r#"{"fetch":{"anonymous":true,"statement_timeout_ms":1000,"rate":{"per_ip_per_second":5},"tables":{"orders":{"columns":["id","sku"],"filters":{"sku":["eq","in","is"]},"sorts":["id"],"max_rows":100,"required_filters":["sku"]}}}}"#,
        "\n",
        r#"{"table_name":"orders","columns":"*","where_filters":[{"column":"sku","operator":"in","value":["a","b"]}],"sort_by":{"field":"id","direction":"desc"},"page_size":500,"current_page":2}"#
    ),
    concat!(
        "fetch\n",
        r#"{"fetch":{"tables":["orders","sales.orders"]}}"#,
        "\n",
        r#"{"table_name":"orders","schema_name":"sales","columns":["id"],"conditions":[{"eq_column":"sku","eq_value":null}],"limit":0,"offset":3}"#
    ),
    concat!(
        "fetch\n",
        r#"{"fetch":{"tables":{"orders":{"columns":"*","filters":"*","sorts":["*"]}}}}"#,
        "\n",
        r#"{"table_name":"orders","where_filters":[{"column":"n","operator":"is","value":"not_null"},{"column":"n","operator":"like","value":"a%"},{"column":"n","operator":"neq","value":1e400}],"sort_by":[{"field":"a"},{"field":"b","direction":"asc"}]}"#
    ),
    concat!(
        "insert\n",
        r#"{"insert":{"tables":{"orders":{"columns":["sku","n"],"set":{"channel":"public"},"returning":["id"]}}}}"#,
        "\n",
        r#"{"table_name":"orders","insert_body":{"sku":"a","n":12345678901234567890}}"#
    ),
    concat!(
        "insert\n",
        r#"{"insert":{"tables":{"orders":{"columns":"*","set":{"channel":"public"}}}}}"#,
        "\n",
        r#"{"table_name":"orders","data":{"CHANNEL":"mine","a":[1,{"b":null}]}}"#
    ),
    concat!(
        "update\n",
        r#"{"update":{"anonymous":false,"tables":{"orders":{"columns":["n"],"filters":{"id":["eq"]},"required_filters":["id"],"set":{"seen":true},"max_rows":1}}}}"#,
        "\n",
        r#"{"table_name":"orders","conditions":[{"eq_column":"id","eq_value":4}],"columns":[{"n":1},{"n":2}]}"#
    ),
    concat!(
        "delete\n",
        r#"{"delete":{"tables":{"orders":{"filters":{"id":["eq"]}}}}}"#,
        "\n",
        r#"{"table_name":"orders","resource_id":4}"#
    ),
    concat!(
        "query\n",
        r#"{"query":{"anonymous":true,"statement":"select id, sku from orders where sku = :sku","params":{"sku":"text"},"max_rows":50}}"#,
        "\n",
        r#"{"params":{"sku":"a' or 1=1 --"}}"#
    ),
    concat!(
        "query\n",
        r#"{"query":{"raw":true,"read_only":true,"max_rows":5}}"#,
        "\n",
        r#"{"query":"select 1; select $1","params":[1],"execution_mode":"per_statement","schema_name":"public"}"#
    ),
    concat!("query\n", r#"{"fetch":{"tables":["t"]}}"#, "\n", r#"{"query":"drop table t"}"#),
    concat!("fetch\n", r#"{"fetch":{"tables":{"t":{"columns":[]}}}}"#, "\n", r#"{"table_name":"T"}"#),
    "insert\n{}\n[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

pub(crate) const QUERIES: [&str; 16] = [
    "select a, b from t where a = $1 and b like '%;%' -- ; \n order by c",
    "with x as (select * from t) select count(*) from x union all values (1)",
    "with x as (delete from t returning *) select * from x",
    "insert into t (a) values (1) on conflict do nothing returning a",
    "select 1; update t set a = 1; ; drop table u",
    "explain query plan select * from v",
    "explain insert into t values (1)",
    "create trigger x after insert on t begin insert into u values (1, 2); delete from u where a = new.a; end; select 1",
    "(((select 1)))",
    "select ';', $$;$$, $q$;$q$, \"a;b\" /* ; /* ; */ ; */",
    "select * into w from t",
    "select E'\\';' || x'00' || a->>'$.b' from t",
    "select id from t where sku = :sku and a = :a::int",
    "replace into t values (1, 2, 3)",
    "select 1+1+1+1+1+1 union select 1 union select 1 except select not not not 1",
    "select f from f where f match 'a' and rowid in (select max(rowid) from f)",
];

pub(crate) const HOSTNAMES: [&str; 5] = [
    "*.v3.athena-cluster.com\nAcme.V3.athena-cluster.com.:443\n\n",
    "*.example.com\n[::1]:80\nacme.example.com, other.example.com\nfor=192.0.2.1;host=\"b.example.com:8443\";proto=https, host=c.example.com",
    "*.example.com\na.b.example.com\n_x-1.example.com\nhost=\"a\\\"b.example.com\"",
    "*.Example.COM\nevilexample.com\nexample.com\nHOST = d.example.com",
    "*.a.b\na.b:\n.a.b\n;;,,host=",
];

pub(crate) const RIGHTS: [&str; 4] = [
    "orders\norders.read\n orders.* \n*.write\n*\ngateway.query",
    "sales.orders\norders.read\nsales.*\nsales.orders.delete\ngateway.*",
    "gateway\ngateway.read\n*.query\n*.*",
    "*\n*.read\n.read\na..read\na*.read\nt\u{e4}ble.read",
];

/// Words that mutations should know.
pub(crate) const WORDS: [&str; 44] = [
    "{{payload.",
    "{{ATHENA.",
    "}}",
    "{{",
    "https://",
    "fetch",
    "insert",
    "update",
    "delete",
    "query",
    "columns",
    "where_filters",
    "eq_column",
    "eq_value",
    "operator",
    "not_null",
    "insert_body",
    "resource_id",
    "column_name",
    "required_filters",
    "returning",
    "max_rows",
    "tables",
    "table_name",
    "schema_name",
    "sort_by",
    "direction",
    "select ",
    "values ",
    "union ",
    " returning ",
    "explain ",
    "with x as (",
    "create trigger ",
    "begin ",
    "$$",
    "/*",
    "*/",
    "--",
    "host=",
    "for=",
    ".example.com",
    "gateway.",
    "params",
];
