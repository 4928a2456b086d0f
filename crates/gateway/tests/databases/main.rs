//! The gateway's operations on real databases: a SQLite file always, PostgreSQL where `POSTRIDER_TEST_POSTGRES` names a
//! superuser of a server for tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bounds;
mod cases;
mod hostile;
mod outbox;
mod queries;
mod values;
mod world;
