//! Databases behind the gateway: operations on the PostgreSQL databases and SQLite files of clients.
//!
//! This crate knows neither HTTP nor webhooks nor Postrider's store. Its user goes through these steps:
//!
//! 1. [`Uri::parse`] checks where a client's database is; [`Backends::client`] gives its [`Client`]. Neither connects.
//! 2. [`operation::Operation::parse`] reads a request's JSON. For a public route [`contract::Contract::allow`] does that
//!    and decides in the same step; what it allows comes back narrowed, with [`Bounds`].
//! 3. [`Client::run`] does it. [`Reply::rows`] are JSON as the database has them: big integers and long numerics are as
//!    exact in a reply as in the table, and values of requests never pass through a float either.
//! 4. What went wrong is a [`Fault`] with a [`Code`] of the contract, which knows its HTTP status. No fault holds an
//!    address or a password.
//!
//! For a free query [`Client::script`] comes first: it applies the rules of [`query`] without a connection and tells
//! which changes of the schema the statements make. [`Client::lookup`] reads one value, for templates. [`outbox`] turns
//! changes that other programs make into events.
//!
//! **Isolation.** A client has a few connections at most, all clients together have a bound, and idle connections are
//! closed, so thousands of registered clients need few. One that cannot be reached fails alone: its callers are told at
//! once for a moment after each failed attempt. Statements have a timeout, replies a bound on rows and on bytes; a row
//! beyond the bound never leaves the server. A caller that gives up has its statement canceled.
//!
//! **What is promised of a write.** It is committed when [`Client::run`] answers, and was not done when it answers with
//! a fault, with one exception: after `backend_unavailable` nobody knows.
//!
//! Not done here: rights, keys, rate limits, HTTP statuses of anything but faults, firing webhooks.

mod backends;
pub mod contract;
pub mod fault;
pub mod identifier;
pub mod json;
pub mod limits;
pub mod operation;
pub mod outbox;
mod postgres;
pub mod query;
pub mod reply;
pub mod settings;
mod sqlite;
mod statement;
pub mod uri;

pub use backends::{Backends, Client};
pub use fault::{Code, Fault};
pub use reply::{Bounds, Reply};
pub use settings::Settings;
pub use uri::{Backend, Uri};
