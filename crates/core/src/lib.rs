//! Postrider's pure decisions.
//!
//! What an event's body looks like, how it is signed, when it is tried again, whom it is for and which
//! addresses may be dialled: everything here is a function of its arguments. No I/O, no clock and no
//! randomness, so each rule can be tested by the million.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod colour;
pub mod cookie;
pub mod delivery;
pub mod dialect;
pub mod egress_policy;
pub mod filter;
pub mod form;
pub mod forwarded;
pub mod gateway;
pub mod ids;
pub mod inbound;
pub mod jws;
pub mod limits;
pub mod retry;
pub mod signing;
pub mod subscription;
pub mod time;
pub mod webhook;

/// Runs the Rust listings of the page for receivers.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/verifying-signatures.md")]
struct VerifyingSignatures;
