//! The promises, kept or broken by the built binary: each story starts real processes, real receivers, and looks at
//! nothing but what a user could see.
//!
//! Run by `cargo xtask test --only blackbox`; one story with `-- name_of_the_story`. See `docs/testing.md`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a failed step of a story fails it")]

mod harness;

mod attempts;
mod audit;
mod by_hand;
mod clocks;
mod command_line;
mod crashes;
mod database;
mod disks;
mod egress;
mod full_disk;
mod gateway;
mod isolation;
mod names;
mod nodes;
mod operations;
mod ordering;
mod outbox;
mod platform;
mod receiving;
mod replays;
mod resources;
mod restarts;
mod secrets;
mod shutdown;
mod strangers;
mod webhooks;
