//! What an outbox consists of in a client's database, and how it comes there and goes away again.
//!
//! **A program's write must not fail because of the outbox.** So the function that writes changes down does without a row
//! that JSON cannot hold, and without a key whose column somebody has renamed; and nothing in it depends on the settings of
//! the session that makes the change.

use super::{ASLEEP, PATH, begin, open, server, told};
use crate::identifier::Table;
use crate::limits::OUTBOX_ROW_BYTES_MAX;
use crate::postgres::connection::Connection;
use crate::settings::Settings;
use crate::uri::Uri;
use crate::{Code, Fault};

/// Creates the outbox and the triggers of `tables`, all or none; what is there already is brought up to date.
///
/// # Errors
/// `invalid_table_name` for a table that is not there, has no primary key to order its changes by, or speaks through
/// another one; `permission_denied`; `backend_unavailable`; `statement_timeout` when a table is in use for too long.
pub async fn install(uri: &Uri, settings: &Settings, tables: &[Table]) -> Result<(), Fault> {
    let connection = open(uri, settings).await?;
    installed_on(&connection, tables, false).await
}

/// As [`install`], and no other table's changes are written to the outbox any longer. No change is missed in between: the
/// database goes from one state to the other in one transaction. The names of the tables, with their schemas.
///
/// # Errors
/// As [`install`].
pub async fn install_exactly(uri: &Uri, settings: &Settings, tables: &[Table]) -> Result<Vec<String>, Fault> {
    let connection = open(uri, settings).await?;
    installed_on(&connection, tables, true).await?;
    names(&connection).await
}

async fn installed_on(connection: &Connection, tables: &[Table], exactly: bool) -> Result<(), Fault> {
    // What fails ends the connection, and its transaction with it.
    begin(connection).await?;
    let found = find(connection, tables).await?;
    run(connection, CREATE).await?;
    run(connection, &write_function()).await?;
    run(connection, REVOKE).await?;
    let mut script = String::from(if exactly { DROP_TRIGGERS } else { "" });
    for (table, oid) in tables.iter().zip(found) {
        let chosen = chosen(connection, table, oid).await?;
        script.push_str(&triggers(&chosen));
    }
    run(connection, &format!("{script}COMMIT")).await
}

/// Removes the triggers of all tables. The outbox stays, and with it what has not been drained.
///
/// # Errors
/// `permission_denied`, `backend_unavailable`, `statement_timeout`.
pub async fn uninstall_triggers(uri: &Uri, settings: &Settings) -> Result<(), Fault> {
    let connection = open(uri, settings).await?;
    begin(&connection).await?;
    run(&connection, &format!("{DROP_TRIGGERS}COMMIT")).await
}

/// Removes everything that [`install`] has ever created, unless a change waits in it or, with `discard`, whatever waits.
/// Whether it is gone.
///
/// # Errors
/// As [`uninstall_triggers`].
pub async fn uninstall(uri: &Uri, settings: &Settings, discard: bool) -> Result<bool, Fault> {
    let connection = open(uri, settings).await?;
    begin(&connection).await?;
    run(&connection, DROP_TRIGGERS).await?;
    if exists(&connection).await? {
        // Whoever still writes has done so before this is had.
        run(&connection, "LOCK TABLE public.postrider_outbox IN ACCESS EXCLUSIVE MODE").await?;
        let sql = "SELECT EXISTS (SELECT FROM public.postrider_outbox)";
        if !discard && connection.client.query_one(sql, &[]).await.map_err(told)?.get::<_, bool>(0) {
            run(&connection, "COMMIT").await?;
            return Ok(false);
        }
    }
    // The triggers are gone; of whatever else somebody has made with the function, nothing is taken along.
    let script = "DROP FUNCTION IF EXISTS public.postrider_outbox_write(); \
                  DROP FUNCTION IF EXISTS public.postrider_outbox_told(record, text[]); \
                  DROP TABLE IF EXISTS public.postrider_outbox; COMMIT";
    run(&connection, script).await?;
    Ok(true)
}

/// Whether there is an outbox.
pub(super) async fn exists(connection: &Connection) -> Result<bool, Fault> {
    let sql = "SELECT to_regclass('public.postrider_outbox') IS NOT NULL";
    Ok(connection.client.query_one(sql, &[]).await.map_err(told)?.get(0))
}

/// The tables whose changes are written to the outbox. One whose primary key has become another since is not among them.
///
/// # Errors
/// `backend_unavailable`.
pub async fn installed(uri: &Uri, settings: &Settings) -> Result<Vec<String>, Fault> {
    names(&open(uri, settings).await?).await
}

pub(super) async fn names(connection: &Connection) -> Result<Vec<String>, Fault> {
    let sql = r"
        SELECT n.nspname || '.' || c.relname FROM pg_trigger t
        JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE t.tgname = 'postrider_outbox_row' AND NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled IN ('O', 'A')
            AND t.tgfoid = to_regprocedure('public.postrider_outbox_write()')
            AND t.tgargs = (
                SELECT string_agg(convert_to(a.attname::text, getdatabaseencoding()) || '\x00'::bytea, ''::bytea
                                  ORDER BY k.place)
                FROM pg_index i
                CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                WHERE i.indrelid = c.oid AND i.indisprimary)
        ORDER BY 1";
    let rows = connection.client.query(sql, &[]).await.map_err(told)?;
    Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
}

async fn run(connection: &Connection, script: &str) -> Result<(), Fault> {
    connection.client.batch_execute(script).await.map_err(told)
}

/// Whether an outbox can be had there at all.
///
/// # Errors
/// `statement_not_allowed` if it is no PostgreSQL.
pub fn check(uri: &Uri) -> Result<(), Fault> {
    server(uri).map(drop)
}

/// The oids of tables, as the login's own search path has it.
async fn find(connection: &Connection, tables: &[Table]) -> Result<Vec<u32>, Fault> {
    run(connection, "RESET search_path").await?;
    let mut found = Vec::with_capacity(tables.len());
    for table in tables {
        let sql = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid";
        let row = connection.client.query_one(sql, &[&table.quoted()]).await.map_err(told)?;
        found.push(row.get::<_, Option<u32>>(0).ok_or_else(|| wrong(table, "does not exist"))?);
    }
    run(connection, PATH).await?;
    Ok(found)
}

fn wrong(table: &Table, why: &str) -> Fault {
    Fault::new(Code::InvalidTableName, format!("The table {table} {why}.")).with("table", table.to_string())
}

/// A table that can have triggers: quoted, with its schema, and the columns of its primary key.
struct Chosen {
    name: String,
    key: Vec<String>,
}

async fn chosen(connection: &Connection, table: &Table, oid: u32) -> Result<Chosen, Fault> {
    let sql = "SELECT relkind IN ('r', 'p') AND relpersistence <> 't', relispartition, \
               oid = to_regclass('public.postrider_outbox'), oid::regclass::text FROM pg_class WHERE oid = $1";
    let found = connection.client.query_one(sql, &[&oid]).await.map_err(told)?;
    if !found.get::<_, bool>(0) {
        return Err(wrong(table, "is no lasting table"));
    }
    if found.get(1) {
        return Err(wrong(table, "is a partition: its changes are those of the table that it is part of"));
    }
    if found.get(2) {
        return Err(wrong(table, "is the outbox itself"));
    }
    let sql = "SELECT a.attname::text, i.indimmediate FROM pg_index i \
               CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) \
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
               WHERE i.indrelid = $1 AND i.indisprimary ORDER BY k.place";
    let rows = connection.client.query(sql, &[&oid]).await.map_err(told)?;
    if rows.is_empty() {
        return Err(wrong(table, "has no primary key, so its changes have no order"));
    }
    // Two transactions may have the same key until one of them commits.
    if rows.iter().any(|row| !row.get::<_, bool>(1)) {
        return Err(wrong(table, "has a deferrable primary key, so its changes have no order"));
    }
    Ok(Chosen { name: found.get(3), key: rows.iter().map(|row| row.get(0)).collect() })
}

/// What somebody else has put in the outbox's place would run with our rights: that is refused. What the database's default
/// privileges give to others is taken away: the outbox holds rows of every table.
const CREATE: &str = r#"
    DO $postrider$
    DECLARE
        found oid := to_regclass('public.postrider_outbox');
    BEGIN
        IF found IS NULL THEN
            CREATE TABLE public.postrider_outbox (
                id bigserial PRIMARY KEY,
                schema_name text NOT NULL,
                table_name text NOT NULL,
                op text NOT NULL CHECK (op IN ('insert', 'update', 'delete', 'truncate')),
                key text,
                "row" text,
                created_at timestamptz NOT NULL DEFAULT clock_timestamp()
            );
        ELSIF EXISTS (SELECT FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                      WHERE c.oid = found AND (c.relkind <> 'r' OR r.rolname <> current_user)) THEN
            RAISE insufficient_privilege USING MESSAGE = 'public.postrider_outbox is not a table of ' || current_user;
        END IF;
        IF EXISTS (SELECT FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
                   WHERE p.oid IN (to_regprocedure('public.postrider_outbox_write()'),
                                   to_regprocedure('public.postrider_outbox_told(record, text[])'))
                       AND r.rolname <> current_user) THEN
            RAISE insufficient_privilege USING MESSAGE = 'the functions of the outbox are not those of ' || current_user;
        END IF;
    END
    $postrider$;"#;

/// `postrider_outbox_told` says a row's key, and the row as JSON; null where there is none that can be told. Text that JSON
/// cannot be taken apart with, such as `\u0000` in a column of type json, needs the second way to the key.
///
/// `postrider_outbox_write` runs with its owner's rights: whoever may change a table need not be allowed to touch the
/// outbox. It pins what the text of a value depends on.
fn write_function() -> String {
    r#"
    CREATE OR REPLACE FUNCTION public.postrider_outbox_told(told record, names text[], OUT key text, OUT "row" text)
    LANGUAGE plpgsql AS $postrider$
    DECLARE
        whole json;
        texts text[];
    BEGIN
        -- Far above the bound: most of such a row cannot be told in less, and JSON of it may be too large for the server.
        IF pg_column_size(told) <= 16 * {bound} THEN
            BEGIN
                whole := to_json(told);
                IF octet_length(whole::text) <= {bound} THEN
                    "row" := whole::text;
                END IF;
                SELECT array_agg(whole ->> name ORDER BY place) INTO texts
                FROM unnest(names) WITH ORDINALITY AS k (name, place);
            EXCEPTION WHEN OTHERS THEN
                texts := NULL;
            END;
        END IF;
        IF texts IS NULL THEN
            BEGIN
                EXECUTE (SELECT 'SELECT ARRAY[' || string_agg(format('to_json(($1).%I) #>> ''{}''', name), ', '
                                                              ORDER BY place) || ']'
                         FROM unnest(names) WITH ORDINALITY AS k (name, place)) INTO texts USING told;
            EXCEPTION WHEN OTHERS THEN
                texts := NULL;
            END;
        END IF;
        IF array_position(texts, NULL) IS NULL THEN
            key := CASE array_length(texts, 1) WHEN 1 THEN texts[1] ELSE to_json(texts)::text END;
        END IF;
    END
    $postrider$;
    CREATE OR REPLACE FUNCTION public.postrider_outbox_write() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
    SET extra_float_digits = 1 SET bytea_output = 'hex' AS $postrider$
    DECLARE
        told_schema text := TG_TABLE_SCHEMA;
        told_table text := TG_TABLE_NAME;
        root regclass := pg_partition_root(TG_RELID);
        old_key text;
        old_row text;
        new_key text;
        new_row text;
    BEGIN
        -- A partition speaks for its table.
        IF root <> TG_RELID THEN
            SELECT n.nspname, c.relname INTO told_schema, told_table
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = root;
        END IF;
        IF TG_LEVEL = 'ROW' AND TG_OP <> 'INSERT' THEN
            SELECT f.key, f."row" INTO old_key, old_row FROM public.postrider_outbox_told(OLD, TG_ARGV) AS f;
        END IF;
        IF TG_LEVEL = 'ROW' AND TG_OP <> 'DELETE' THEN
            SELECT f.key, f."row" INTO new_key, new_row FROM public.postrider_outbox_told(NEW, TG_ARGV) AS f;
        END IF;
        IF TG_OP = 'UPDATE' AND old_key IS DISTINCT FROM new_key THEN
            INSERT INTO public.postrider_outbox (schema_name, table_name, op, key, "row")
            VALUES (told_schema, told_table, 'delete', old_key, old_row),
                   (told_schema, told_table, 'insert', new_key, new_row);
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO public.postrider_outbox (schema_name, table_name, op, key, "row")
            VALUES (told_schema, told_table, 'delete', old_key, old_row);
        ELSE
            INSERT INTO public.postrider_outbox (schema_name, table_name, op, key, "row")
            VALUES (told_schema, told_table, lower(TG_OP), new_key, new_row);
        END IF;
        -- Transactions that notify commit one by one: it is done for a drainer that sleeps. One that is awake does not fall
        -- asleep while somebody has this lock.
        IF NOT pg_try_advisory_xact_lock_shared({lock}, {asleep}) THEN
            PERFORM pg_notify('postrider_outbox', '');
        END IF;
        RETURN NULL;
    END
    $postrider$;"#
        .replace("{bound}", &OUTBOX_ROW_BYTES_MAX.to_string())
    .replace("{lock}", &ASLEEP.0.to_string())
    .replace("{asleep}", &ASLEEP.1.to_string())
}

const REVOKE: &str = r"
    REVOKE ALL ON FUNCTION public.postrider_outbox_write(), public.postrider_outbox_told(record, text[]) FROM PUBLIC;
    DO $postrider$
    DECLARE
        given record;
    BEGIN
        FOR given IN
            SELECT 'TABLE public.postrider_outbox' AS what, a.grantee FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid = 'public.postrider_outbox'::regclass AND a.grantee <> c.relowner
            UNION
            SELECT 'SEQUENCE public.postrider_outbox_id_seq', a.grantee FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid = 'public.postrider_outbox_id_seq'::regclass AND a.grantee <> c.relowner
            UNION
            SELECT 'FUNCTION ' || p.oid::regprocedure, a.grantee FROM pg_proc p, aclexplode(p.proacl) a
            WHERE p.oid IN ('public.postrider_outbox_write()'::regprocedure,
                            'public.postrider_outbox_told(record, text[])'::regprocedure) AND a.grantee <> p.proowner
        LOOP
            EXECUTE format('REVOKE ALL ON %s FROM %s', given.what,
                           CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(given.grantee)) END);
        END LOOP;
    END
    $postrider$;";

fn triggers(chosen: &Chosen) -> String {
    let literals: Vec<_> = chosen.key.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    let (table, columns) = (&chosen.name, literals.join(", "));
    format!(
        "DROP TRIGGER IF EXISTS postrider_outbox_row ON {table};\
         DROP TRIGGER IF EXISTS postrider_outbox_truncate ON {table};\
         CREATE TRIGGER postrider_outbox_row AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW \
         EXECUTE FUNCTION public.postrider_outbox_write({columns});\
         CREATE TRIGGER postrider_outbox_truncate AFTER TRUNCATE ON {table} FOR EACH STATEMENT \
         EXECUTE FUNCTION public.postrider_outbox_write();"
    )
}

/// Of whatever tables there are: also of those that have been renamed since.
const DROP_TRIGGERS: &str = r"
    DO $postrider$
    DECLARE
        found record;
    BEGIN
        FOR found IN
            SELECT t.tgname, t.tgrelid::regclass AS relation FROM pg_trigger t
            WHERE t.tgfoid = to_regprocedure('public.postrider_outbox_write()')
                AND NOT t.tgisinternal AND t.tgparentid = 0
        LOOP
            EXECUTE format('DROP TRIGGER %I ON %s', found.tgname, found.relation);
        END LOOP;
    END
    $postrider$;";
