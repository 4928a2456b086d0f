//! The customers' portal: a product's customers look after their own webhooks, on pages that the product shows them.
//!
//! A product's backend asks for a link (`POST /v1/portal-sessions`), which is good for one use and becomes a session that
//! reaches one tenant's webhooks, deliveries and event types, and nothing else ([`crate::auth::Guest`]). The pages are
//! those of the console, under `/portal`; what is the portal's own is its sessions and how it looks.

pub mod sessions;
pub mod theme;
