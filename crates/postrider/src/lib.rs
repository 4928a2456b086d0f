//! Postrider: the webhook platform in one binary. `ARCHITECTURE.md` is the map of this crate.

pub mod accounts;
pub mod ambient;
pub mod api;
pub mod app;
pub mod auth;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod console;
pub mod egress;
pub mod event_schema;
pub mod gateway;
pub mod health;
pub mod inbound;
pub mod lifecycle;
pub mod listeners;
pub mod pipeline;
pub mod portal;
pub mod registry;
pub mod schemas;
pub mod sealing;
pub mod store;
pub mod telemetry;
