//! PostgreSQL, protocol 3.x: simple and extended queries, pipelining, COPY, cancelling.
//!
//! *Judged:* `Query`, `Execute` (with what `Parse` and `Bind` said before), a `Bind` that is not followed by its
//! `Execute` before the backend answers (binding plans, and planning runs immutable functions), the connection itself,
//! and a cancel request. *Control*, recorded and forwarded: `Parse`, `Describe`, `Close`, `Sync`, `Flush`,
//! `Terminate`; none of them makes the backend execute a statement. *Never let through:* the function-call fast path
//! and replication.

use std::{pin::Pin, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    drain::Drain,
    gate::Gate,
    mask::Masks,
    net::{ReadHalf, tls},
    operation::{Operation, ProtocolName, State},
    protocol::{Protocol, Renderer, Wrong, drive},
};

mod access;
mod cancel;
mod claim;
pub mod classify;
pub mod code;
mod commit;
mod copying;
mod dialect;
pub mod fuzz;
mod impact;
mod login;
mod lookup;
pub mod mask;
mod names;
mod pending;
mod portal;
mod recall;
pub mod render;
mod replies;
mod requests;
mod reveal;
mod scram;
mod session;
mod shape;
mod sight;
mod startup;
#[cfg(test)]
mod tests;
mod wire;

use dialect::PostgresDialect;

/// The protocol's name in resource files.
pub const NAME: ProtocolName = ProtocolName::from_static("postgres");

/// The protocol, with what its connections share.
pub struct Postgres(Arc<Shared>);

/// What all connections share.
struct Shared {
    classifier: classify::Classifier,
    cancels: Arc<cancel::Cancels>,
    catalogs: lookup::Catalogs,
    codes: lookup::Codes,
}

impl Postgres {
    /// With empty caches.
    pub fn new() -> Self {
        Self(Arc::new(Shared::new()))
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            classifier: classify::Classifier::new(CLASSIFIED),
            cancels: Arc::default(),
            catalogs: lookup::Catalogs::default(),
            codes: lookup::Codes::default(),
        }
    }
}

/// How many bytes of classified statements are remembered.
const CLASSIFIED: usize = 8 * 1024 * 1024;

impl Protocol for Postgres {
    fn name(&self) -> ProtocolName {
        NAME
    }

    fn check(&self, settings: &Map<String, Value>) -> Result<(), Wrong> {
        let wrong = |(section, message)| Wrong { section, message };
        tls::Settings::read(settings.get("tls")).map_err(|message| wrong(("tls", message)))?;
        access::Access::read(settings).map(drop).map_err(wrong)
    }

    fn serve(
        self: Arc<Self>,
        client: ReadHalf,
        gate: Gate,
        drain: Drain,
        remind: Duration,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let dialect = PostgresDialect::new(self.0.clone(), &gate);
            drive(dialect, client, gate, drain, remind).await;
        })
    }

    fn operation(&self, statement: &str, masks: &Masks) -> Operation {
        let classified = self.0.classifier.classify(statement.as_bytes(), &classify::Lexical::default());
        Operation {
            kind: "query".into(),
            text: statement.to_owned().into(),
            parameters: Vec::new(),
            meaning: reveal::revealing(classified.meaning.clone(), &reveal::revealed(&classified.reads, masks, None)),
            state: Arc::new(State::new()),
        }
    }

    fn renderer(&self) -> Box<dyn Renderer> {
        Box::new(render::Rows::default())
    }
}
