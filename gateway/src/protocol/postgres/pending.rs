//! What the backend still has to answer, in order; and how to take back what was assumed when it does not.
//!
//! Clients pipeline: a statement is prepared, bound and executed before the answer to the first of these is there.
//! The gateway assumes that each succeeds. After an error the backend discards everything up to the next `Sync`, and
//! then each assumption made meanwhile is undone, newest first; what was sent behind that `Sync` before the error came
//! was judged by everything that its names could stand for (`names`).

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{names::Undo, portal::Portal};

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
    /// That the transaction was rolled back, in whose place the client gets these words; then `ReadyForQuery`, which the
    /// client must not see where it is the gateway's `own`.
    RolledBack { words: Bytes, own: bool },
    /// `ReadyForQuery`, which the client must not see.
    OwnReady,
}

impl Await {
    pub(super) fn plain(what: What) -> Self {
        Self { what, undo: Undo::Nothing, ends_operation: false }
    }

    pub(super) fn ending(what: What) -> Self {
        Self { what, undo: Undo::Nothing, ends_operation: true }
    }
}

/// Takes off everything before the next `Sync`: the backend discards it after an error. `None` when no `Sync` is
/// there yet, with everything taken off: the client has yet to send one.
pub(super) fn discard_to_sync(pending: &mut VecDeque<Await>) -> (Vec<Await>, bool) {
    let sync = pending.iter().position(|one| matches!(one.what, What::Sync | What::MaybeSync));
    let discarded = pending.drain(..sync.unwrap_or(pending.len())).collect();
    (discarded, sync.is_some())
}
