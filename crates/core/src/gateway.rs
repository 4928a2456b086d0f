//! What the data gateway decides without a database: which operations may fire, whom they fire at, what the requests are
//! made of, who may do what, and which client a hostname stands for.

pub mod events;
pub mod firing;
pub mod hostname;
pub mod key;
pub mod rights;
pub mod template;
pub mod webhook;
