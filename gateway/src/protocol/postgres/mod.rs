//! PostgreSQL.
pub mod classify;
