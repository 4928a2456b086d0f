//! A look at a store from outside, without taking it over: for `postrider doctor` and `postrider migrate`. Safe while
//! a server runs on it.

use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};

use super::{SqliteStore, gateway, replies};
use crate::store::{Result, Unopened};

/// Problems that the integrity check reports at most.
const PROBLEMS_MAX: u32 = 10;

impl SqliteStore {
    /// The version of the schema of the store in `directory`; `None` if there is no store.
    ///
    /// # Errors
    /// The file is no database, or cannot be read.
    pub fn schema_version(directory: &Path) -> Result<Option<u32>> {
        let Some(conn) = open(directory)? else { return Ok(None) };
        Ok(Some(conn.pragma_query_value(None, "user_version", |row| row.get(0))?))
    }

    /// What SQLite's quick check finds wrong with the store in `directory`; empty if nothing. Reads all of it.
    ///
    /// # Errors
    /// As [`SqliteStore::schema_version`].
    pub fn problems(directory: &Path) -> Result<Vec<String>> {
        let Some(conn) = open(directory)? else { return Ok(Vec::new()) };
        let mut statement = conn.prepare(&format!("PRAGMA quick_check({PROBLEMS_MAX})"))?;
        let found = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// What the store in `directory` has of the gateway; `None` if there is no store.
    ///
    /// # Errors
    /// As [`SqliteStore::schema_version`]; also of a store that is older than the gateway.
    pub fn unopened(directory: &Path) -> Result<Option<Unopened>> {
        let Some(conn) = open(directory)? else { return Ok(None) };
        let data_key = replies::get_setting(&conn, crate::sealing::DATA_KEY)?;
        Ok(Some(Unopened { objects: gateway::objects(&conn)?, data_key }))
    }
}

fn open(directory: &Path) -> Result<Option<Connection>> {
    let path = directory.join("postrider.db");
    if !path.try_exists().with_context(|| format!("cannot look for {}", path.display()))? {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(&path, flags).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Some(conn))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_store_is_looked_at_while_it_is_open_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(SqliteStore::schema_version(directory.path()).unwrap(), None);
        let store = SqliteStore::open(directory.path()).unwrap();
        assert!(SqliteStore::schema_version(directory.path()).unwrap().is_some_and(|version| version > 0));
        assert!(SqliteStore::problems(directory.path()).unwrap().is_empty());
        let unopened = SqliteStore::unopened(directory.path()).unwrap().unwrap();
        assert!(unopened.objects.is_empty() && unopened.data_key.is_none());
        drop(store);

        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("postrider.db"), [b'x'; 8192]).unwrap();
        assert!(SqliteStore::schema_version(other.path()).is_err());
    }
}
