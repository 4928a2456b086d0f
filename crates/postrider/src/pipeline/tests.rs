//! Stories about the dispatcher, stepped by hand, and about the running engine over a real store.

#![allow(clippy::unwrap_used)]

mod dispatching;
mod running;
