//! Whether anybody has asked a database anything: by its log of connections and statements, and by its own list of
//! sessions. Nothing that looks leaves a trace in what is looked at.

use std::collections::HashSet;

use anyhow::Result;
use tokio_postgres::Client;

use crate::database::Database;

/// What a line of the log holds that tells of a connection or of a statement.
const CONNECTIONS: &str = "connection received";
const STATEMENTS: [&str; 3] = ["LOG:  statement: ", "LOG:  execute ", "LOG:  fastpath "];

/// A session, and when it has last done anything.
type Session = (i32, String);

/// A database that is to be left alone from here on.
pub(super) struct Watch<'a> {
    database: &'a Database,
    /// To another database of the same server.
    observer: Client,
    sessions: HashSet<Session>,
    logged_bytes: usize,
}

impl<'a> Watch<'a> {
    pub(super) async fn begin(database: &'a Database) -> Result<Watch<'a>> {
        let observer = database.connect_beside().await?;
        for setting in ["log_connections = on", "log_statement = 'all'"] {
            observer.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await?;
        }
        observer.batch_execute("SELECT pg_reload_conf()").await?;
        let noted = database.log().len();
        // A session of before has heard of it when it is next used, and a new one at once.
        while !database.log()[noted..].contains(STATEMENTS[0]) {
            drop(database.connect_beside().await?.batch_execute("SELECT 1").await);
        }
        let sessions = sessions(&observer).await?;
        Ok(Watch { database, observer, sessions, logged_bytes: database.log().len() })
    }

    /// Connections and statements since then.
    pub(super) async fn end(self) -> Result<(usize, usize)> {
        let log = self.database.log();
        let (mut connections, statements) = told(&log[self.logged_bytes..]);
        let now = sessions(&self.observer).await?;
        let (known, changed): (Vec<&Session>, Vec<&Session>) =
            now.iter().partition(|session| self.sessions.contains(*session));
        drop(known);
        let is_new = |session: &&&Session| self.sessions.iter().all(|(pid, _)| *pid != session.0);
        connections = connections.max(changed.iter().filter(is_new).count());
        for setting in ["log_connections", "log_statement"] {
            self.observer.batch_execute(&format!("ALTER SYSTEM RESET {setting}")).await?;
        }
        self.observer.batch_execute("SELECT pg_reload_conf()").await?;
        Ok((connections, statements.max(changed.len())))
    }
}

/// Connections and statements of which a piece of the log tells.
fn told(log: &str) -> (usize, usize) {
    let count = |what: &[&str]| log.lines().filter(|line| what.iter().any(|word| line.contains(word))).count();
    (count(&[CONNECTIONS]), count(&STATEMENTS))
}

async fn sessions(observer: &Client) -> Result<HashSet<Session>> {
    let question = "SELECT pid, coalesce(state_change::text, '') FROM pg_stat_activity \
                    WHERE datname = $1 AND backend_type = 'client backend'";
    let rows = observer.query(question, &[&crate::database::NAME]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_log_tells_of_connections_and_of_statements_of_all_kinds() {
        let log = "2026-01-01 00:00:00.000 UTC [1] LOG:  checkpoint starting: time\n\
                   2026-01-01 00:00:00.000 UTC [2] LOG:  connection received: host=127.0.0.1 port=1\n\
                   2026-01-01 00:00:00.000 UTC [2] LOG:  statement: BEGIN\n\
                   2026-01-01 00:00:00.000 UTC [2] LOG:  execute s0: SELECT 1\n";
        assert_eq!(told(log), (1, 2));
    }

    #[tokio::test]
    async fn what_touches_a_database_is_counted_and_looking_at_it_is_not() {
        // Where there is no PostgreSQL, there is no such scenario either.
        if private_postgres::Binaries::find().is_none() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let database = Database::start(scratch.path(), &[]).await.unwrap();
        let known = database.connect().await.unwrap();
        known.batch_execute("SELECT 1").await.unwrap();
        let watch = Watch::begin(&database).await.unwrap();
        assert_eq!(watch.end().await.unwrap(), (0, 0));

        let watch = Watch::begin(&database).await.unwrap();
        known.batch_execute("SELECT 2").await.unwrap();
        assert_eq!(watch.end().await.unwrap(), (0, 1));

        let watch = Watch::begin(&database).await.unwrap();
        drop(database.connect().await.unwrap());
        let (connections, _) = watch.end().await.unwrap();
        assert_eq!(connections, 1);
    }
}
