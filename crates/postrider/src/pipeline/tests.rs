//! Stories about the dispatcher, stepped by hand: no threads, no clock, no store.

#![allow(clippy::unwrap_used)]

mod dispatching;
