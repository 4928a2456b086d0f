//! A deterministic simulation of the delivery pipeline.
//!
//! [`run`] gives a seed to the real engine in a world that is not: its clock, its store, its receivers and its users are
//! simulated, on one thread and in virtual time, and go wrong as chance wants. Whatever happens is looked at for what must
//! always hold ([`Invariant`]). The same seed does the same again, to the last detail.
//!
//! `docs/simulation.md` says how to use it, and what it does not model.

mod chance;
mod checks;
mod client;
mod faults;
mod ledger;
mod model;
mod receivers;
mod run;
mod script;
mod store;
mod watch;
mod world;

pub use checks::{Checks, Invariant};
pub use run::{Outcome, run, watch_panics};
