//! The language end to end, in memory: a client's bytes in, a scripted backend's bytes out, and what the record says.
//!
//! The backend is the only thing that is not real; PostgreSQL itself stands at the other end in the root tests.
//! Scripts are explained in [`stage`], their words in [`notation`].

mod committing;
mod copying;
mod extended;
mod frames;
mod holding;
mod masking;
mod names;
mod notation;
mod previews;
mod queries;
mod stage;
mod startup;

/// Reads, inserts and COPY pass, `schema` waits for people, `delete` comes again, the rest is refused.
const POLICY: &str = "
resource: orders-db
protocol: postgres
postgres: { classify: text }
endpoints: ['10.0.3.7:5432']
default: refuse
approval: { from: [{ group: dba }], timeout: 15m }
---
policy: ordinary
match: { resource: orders-db, effects: [read, write, session, transfer] }
decide: allow
---
policy: shape
match: { resource: orders-db, effects: [schema] }
decide: hold
---
policy: rows
match: { resource: orders-db, effects: [delete] }
decide: hold
on_hold: retry
";

/// Nothing passes.
const REFUSING: &str = "
resource: orders-db
protocol: postgres
postgres: { classify: text }
endpoints: ['10.0.3.7:5432']
default: refuse
";
