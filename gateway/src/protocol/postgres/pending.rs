//! What the backend still has to answer, in order; and how to take back what was assumed when it does not.
//!
//! Clients pipeline: a statement is prepared, bound and executed before the answer to the first of these is there.
//! The gateway judges on the assumption that each succeeds, which errs on no side: after an error the backend
//! discards everything up to the next `Sync`, and then each assumption made meanwhile is undone, newest first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::portal::{Portal, Prepared};

/// The client's prepared statements and portals by name, as the gateway assumes they will be.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) statements: HashMap<Bytes, Arc<Prepared>>,
    pub(super) portals: HashMap<Bytes, Arc<Portal>>,
}

/// How to take an assumption back.
#[derive(Debug)]
pub(super) enum Undo {
    Nothing,
    Statement(Bytes, Option<Arc<Prepared>>),
    Portal(Bytes, Option<Arc<Portal>>),
}

/// One answer that is awaited.
#[derive(Debug)]
pub(super) struct Await {
    pub(super) what: What,
    pub(super) undo: Undo,
    /// Whether this answer is the last of an operation.
    pub(super) ends_operation: bool,
}

/// What kind of answer is awaited.
#[derive(Debug)]
pub(super) enum What {
    /// A simple query's, up to `ReadyForQuery`.
    Query(Arc<Portal>),
    /// `ParseComplete`.
    Parse,
    /// `BindComplete`.
    Bind,
    /// `CloseComplete`.
    Close,
    /// `ParameterDescription`, then `RowDescription` or `NoData`.
    DescribeStatement,
    /// `RowDescription` or `NoData`; `own` when the gateway asked, so the client must not see it.
    DescribePortal { portal: Arc<Portal>, own: bool },
    /// Rows, then `CommandComplete`, `EmptyQueryResponse` or `PortalSuspended`.
    Execute(Arc<Portal>),
    /// `ReadyForQuery`.
    Sync,
    /// `ReadyForQuery`, if the backend read the `Sync` after a failed COPY; nothing if it read it during the COPY.
    MaybeSync,
    /// Nothing: marks where the client ended its COPY data.
    CopyEnd,
    /// Nothing from the backend: the gateway's own words, in their place.
    Local(Bytes),
    /// An error, in whose place the client gets these words.
    Poison(Bytes),
    /// An error, in whose place the client gets these words, then `ReadyForQuery`.
    PoisonQuery(Bytes),
}

impl Await {
    pub(super) fn plain(what: What) -> Self {
        Self { what, undo: Undo::Nothing, ends_operation: false }
    }

    pub(super) fn ending(what: What) -> Self {
        Self { what, undo: Undo::Nothing, ends_operation: true }
    }
}

impl Names {
    /// Assumes that a statement now has this name (or that none has).
    pub(super) fn assume_statement(&mut self, name: Bytes, prepared: Option<Arc<Prepared>>) -> Undo {
        let before = match prepared {
            Some(prepared) => self.statements.insert(name.clone(), prepared),
            None => self.statements.remove(&name),
        };
        Undo::Statement(name, before)
    }

    /// Assumes that a portal now has this name (or that none has).
    pub(super) fn assume_portal(&mut self, name: Bytes, portal: Option<Arc<Portal>>) -> Undo {
        let before = match portal {
            Some(portal) => self.portals.insert(name.clone(), portal),
            None => self.portals.remove(&name),
        };
        Undo::Portal(name, before)
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Statement(name, Some(before)) => drop(self.statements.insert(name, before)),
            Undo::Statement(name, None) => drop(self.statements.remove(&name)),
            Undo::Portal(name, Some(before)) => drop(self.portals.insert(name, before)),
            Undo::Portal(name, None) => drop(self.portals.remove(&name)),
        }
    }

    /// Takes back `awaited`, newest first; says how many operations were among them.
    pub(super) fn undo_all(&mut self, awaited: impl DoubleEndedIterator<Item = Await>) -> usize {
        let mut operations = 0;
        for one in awaited.rev() {
            operations += usize::from(one.ends_operation);
            self.undo(one.undo);
        }
        operations
    }
}

/// Takes off everything before the next `Sync`: the backend discards it after an error. `None` when no `Sync` is
/// there yet, with everything taken off: the client has yet to send one.
pub(super) fn discard_to_sync(pending: &mut VecDeque<Await>) -> (Vec<Await>, bool) {
    let sync = pending.iter().position(|one| matches!(one.what, What::Sync | What::MaybeSync));
    let discarded = pending.drain(..sync.unwrap_or(pending.len())).collect();
    (discarded, sync.is_some())
}
