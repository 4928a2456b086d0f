//! Opening a client's file: only inside the allowed directories, and with nothing in reach but the file itself.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::limits::{BODY_BYTES_MAX, QUERY_BYTES_MAX, REPLY_BYTES_MAX};
use crate::{Code, Fault};

/// The file's place with every symlink resolved.
///
/// # Errors
/// `backend_unavailable`: it is outside, no plain file, or in no directory.
pub(super) fn resolve(path: &Path, allowed: &[PathBuf]) -> Result<PathBuf, Fault> {
    let gone = || unavailable("The directory of the database file is not there.");
    let resolved = match path.canonicalize() {
        Ok(resolved) => resolved,
        // A link to nowhere is not a new file.
        Err(_) if path.symlink_metadata().is_ok() => return Err(unavailable("The database file is no plain file.")),
        Err(_) => {
            let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(gone)?;
            parent.canonicalize().map_err(|_| gone())?.join(name)
        }
    };
    let inside = |directory: &PathBuf| directory.canonicalize().is_ok_and(|directory| resolved.starts_with(directory));
    if !allowed.iter().any(inside) {
        return Err(unavailable("The database file is outside the directories for SQLite clients."));
    }
    match resolved.symlink_metadata() {
        Ok(found) if !found.is_file() => Err(unavailable("The database file is no plain file.")),
        _ => Ok(resolved),
    }
}

/// # Errors
/// `backend_unavailable`.
pub(super) fn open(path: &Path, allowed: &[PathBuf], writes: bool) -> Result<Connection, Fault> {
    let resolved = resolve(path, allowed)?;
    let before = identity(&resolved);
    if before.is_none() && !writes {
        drop(open(path, allowed, true)?);
    }
    // A link that took the file's place meanwhile is not followed, in any part of the path.
    let kind = if writes {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    let flags =
        kind | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut connection = Connection::open_with_flags(&resolved, flags)
        .map_err(|_| unavailable("The database file cannot be opened."))?;
    let set_up = set_up(&mut connection, writes).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => unavailable("The file is no SQLite database."),
        _ => unavailable("The database file cannot be used."),
    });
    set_up?;
    let after = identity(&resolved);
    if resolve(path, allowed)? != resolved || after.is_none() || (before.is_some() && before != after) {
        return Err(unavailable("The database file was replaced while it was opened."));
    }
    Ok(connection)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()))
}

fn set_up(connection: &mut Connection, writes: bool) -> rusqlite::Result<()> {
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        // A misspelt column in double quotes is an error, not a text.
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
    ] {
        connection.set_db_config(config, on)?;
    }
    if writes {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
    }
    connection.pragma_update(None, "case_sensitive_like", true)?;
    let bytes = i32::try_from(REPLY_BYTES_MAX.max(BODY_BYTES_MAX)).unwrap_or(i32::MAX);
    let sql = i32::try_from(QUERY_BYTES_MAX * 2).unwrap_or(i32::MAX);
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LENGTH, bytes),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, sql),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    connection.authorizer(Some(authorize))
}

/// Pragmas that only tell about tables.
const PRAGMAS: [&str; 6] = ["table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"];
const FUNCTIONS_REFUSED: [&str; 5] = ["load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"];
const MODULES: [&str; 3] = ["fts5", "rtree", "rtree_i32"];

fn authorize(asked: AuthContext<'_>) -> Authorization {
    let refused = match asked.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } | AuthAction::Unknown { .. } => true,
        AuthAction::Pragma { pragma_name, .. } => !PRAGMAS.iter().any(|name| pragma_name.eq_ignore_ascii_case(name)),
        AuthAction::Function { function_name } => {
            FUNCTIONS_REFUSED.iter().any(|name| function_name.eq_ignore_ascii_case(name))
        }
        AuthAction::CreateVtable { module_name, .. } => {
            !MODULES.iter().any(|name| module_name.eq_ignore_ascii_case(name))
        }
        _ => false,
    };
    if refused { Authorization::Deny } else { Authorization::Allow }
}

fn unavailable(message: &str) -> Fault {
    Fault::new(Code::BackendUnavailable, message)
}
