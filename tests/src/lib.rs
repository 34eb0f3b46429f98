//! The root-test lab: the real `holdpoint`, real kernel hooks, a real PostgreSQL and unmodified clients, one set per test.
//!
//! A test opens a [`Lab`], starts what it needs in it, and asks three witnesses what happened: the backend's own log
//! ([`Postgres::logged_statements`]), what the client got ([`Outcome`]), and what the record holds ([`Record`]).
//!
//! A lab owns a cgroup v2 subtree, a mount namespace with its own bpffs, a directory for state, settings and sockets,
//! and every process started in it. Nothing has a fixed port, pin or name, so tests run side by side. `Drop` undoes
//! everything in reverse and fails the test over what is left.
//!
//! Root is required. Without it a test fails and says which command would work; nothing is skipped.

#![allow(
    clippy::disallowed_methods,
    reason = "the lab waits for other processes, which tell nobody; every wait has a deadline"
)]

mod approvals;
mod backend;
mod bot;
mod certificates;
mod cgroup;
mod child;
mod desk;
mod eventually;
mod flood;
pub mod forger;
mod gateway;
pub mod keycloak;
mod kube_apiserver;
mod lab;
mod load;
pub mod meddler;
mod namespace;
mod node;
pub mod oidc;
mod openbao;
mod pace;
mod postgres;
mod python;
mod raw;
mod record;
mod rules;
mod sinks;
#[path = "../../xtask/src/tool_name.rs"]
mod tool_name;
pub mod wire;
mod witness;

pub use approvals::{Request, request_ids};
pub use backend::FakeBackend;
pub use bot::Bot;
pub use certificates::Certificates;
pub use child::{Outcome, Running};
pub use desk::{Answer, Authenticator, Desk};
pub use eventually::{eventually, never};
pub use flood::{CLIENT_SEED, client_frames, server_frame};
pub use gateway::Gateway;
pub use keycloak::{Keycloak, SamlClient};
pub use kube_apiserver::{ApiServer, tool};
pub use lab::{Lab, binary};
pub use load::{Load, Seen};
pub use namespace::{Ends, Net};
pub use node::{browser, node};
pub use oidc::Oidc;
pub use openbao::OpenBao;
pub use pace::Pace;
pub use postgres::{Method, Postgres, Statement, Version};
pub use python::{schemathesis, venv};
pub use raw::{Conn, Raw, shown};
pub use record::{Event, Record, Session};
pub use rules::Rules;
pub use sinks::{HttpSink, MailServer, Mood, Posted, http_post};
pub use witness::{CLIENT, Witness};
