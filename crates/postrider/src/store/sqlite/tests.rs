//! The conformance suite on SQLite, and what only SQLite does.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::SqliteStore;
use crate::store::Store;
use crate::store::conformance::Backend;

struct Directory(TempDir);

fn backend() -> Directory {
    Directory(TempDir::new().unwrap())
}

#[async_trait]
impl Backend for Directory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.0.path()).unwrap())
    }
}

mod suite {
    crate::store::conformance::suite!(super::super::backend);
}
