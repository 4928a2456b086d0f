//! How the gateway behaves towards all its databases.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits::STATEMENT_TIMEOUT;

/// What [`Backends::new`](crate::Backends::new) needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PostgreSQL connections of one client.
    pub connections_per_client: usize,
    /// PostgreSQL connections of all clients together.
    pub connections_total: usize,
    /// A connection that nobody has used for so long is closed.
    pub idle_max: Duration,
    /// Making a connection, encryption and login included.
    pub connect_timeout: Duration,
    /// How long a caller waits for a connection or a thread.
    pub wait_max: Duration,
    /// The longest that any statement may take; a caller may allow less.
    pub statement_timeout: Duration,
    /// Directories whose files may be SQLite clients. None: there are no SQLite clients.
    pub sqlite_directories: Vec<PathBuf>,
    /// SQLite statements that run at a time, over all clients.
    pub sqlite_threads: usize,
}

/// Between two looks for idle connections, at least.
pub(crate) const IDLE_LOOK_MIN: Duration = Duration::from_millis(20);

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connections_per_client: 8,
            connections_total: 64,
            idle_max: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            wait_max: Duration::from_secs(5),
            statement_timeout: STATEMENT_TIMEOUT,
            sqlite_directories: Vec::new(),
            sqlite_threads: 8,
        }
    }
}
