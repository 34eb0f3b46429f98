//! Where a statement stands to the transaction that is open, and how that is rolled back in a refused commit's place.
//!
//! # Security
//! The backend says whether a transaction is open only when it is ready; for what was sent since, it is worked out from
//! what was sent. A `BEGIN` counts up to the next `Sync`: had it failed, the backend would discard what follows it
//! until then. What ends a transaction counts at once. A name that may stand for several statements may commit.

use bytes::{Bytes, BytesMut};

use super::{
    classify::Statement,
    dialect::{PostgresDialect, Submission},
    pending::{Await, What},
    portal::{Portal, Prepared},
    wire,
};
use crate::{
    gate::Place,
    operation::{Effect, Effects, Frame, Object, Operation},
};

/// Whether what is executed next is executed inside a transaction, for certain.
#[derive(Debug, Clone, Copy)]
struct Inside {
    is: bool,
    /// It began behind the last `Sync`.
    is_fresh: bool,
}

impl Inside {
    const NOT: Inside = Inside { is: false, is_fresh: false };

    fn after(self, prepared: &Prepared, statement: &Statement) -> Self {
        // What has a backslash may have been read in two ways, and its statements are those of both.
        let is_sure = !prepared.text.contains(&b'\\');
        match statement {
            Statement::Begin if !self.is && is_sure => Inside { is: true, is_fresh: true },
            Statement::Commit { chain: true } | Statement::Rollback { chain: true } => {
                Inside { is: self.is && is_sure, is_fresh: true }
            }
            Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::PrepareTransaction
            | Statement::Unread => Inside::NOT,
            _ => self,
        }
    }

    fn after_all(self, portal: &Portal) -> Self {
        let Some(prepared) = known(portal) else { return Inside::NOT };
        prepared.classified.statements.iter().fold(self, |inside, statement| inside.after(prepared, statement))
    }

    /// Behind a `Sync` whatever came before it may have failed.
    fn synced(self) -> Self {
        Inside { is: self.is && !self.is_fresh, is_fresh: false }
    }
}

/// What it was made from, where its name can stand for nothing else.
fn known(portal: &Portal) -> Option<&Prepared> {
    portal.prepared.as_deref().filter(|prepared| prepared.past.is_some())
}

impl PostgresDialect {
    /// Where what was just submitted stands to the transaction that is open.
    pub(super) fn place_of(&self, operation: &Operation) -> Place {
        let Some(portal) = self.submitted.as_ref().and_then(|submitted| submitted.runs.as_ref()) else {
            // It executes nothing.
            return Place { taken_back: false, may_commit: false };
        };
        let Some(prepared) = known(portal) else { return Place::UNKNOWN };
        let statements = &prepared.classified.statements[..];
        let effects = operation.meaning.effects;
        let (mut inside, mut taken_back) = (self.inside(), true);
        for statement in statements {
            inside = inside.after(prepared, statement);
            taken_back &= inside.is;
        }
        let commits = |statement: &Statement| {
            matches!(statement, Statement::Commit { .. } | Statement::PrepareTransaction | Statement::Unread)
        };
        // A sequence's place is in no transaction. (`nextval` moves it too, by one, as every insert may.)
        let stays = |object: &Object| object.kind == "function" && object.name == "setval";
        taken_back &= !operation.meaning.objects.iter().any(stays);
        // A transaction that has failed is rolled back whatever ends it.
        let is_lost = self.transaction == b'E' && self.pending.is_empty() && statements.len() == 1;
        Place {
            taken_back: taken_back && effects.intersects(CHANGES) && effects.within(HARMLESS),
            may_commit: statements.iter().any(commits) && !is_lost,
        }
    }

    /// Whether the next execution will be inside a transaction.
    fn inside(&self) -> Inside {
        let now = Inside { is: self.transaction != b'I', is_fresh: false };
        self.pending.iter().fold(now, |inside, one| match &one.what {
            What::Execute(portal) => inside.after_all(portal),
            What::Query(portal) => inside.after_all(portal).synced(),
            What::Sync | What::MaybeSync | What::PoisonQuery(_) => inside.synced(),
            What::RolledBack { .. } => Inside::NOT,
            _ => inside,
        })
    }

    /// A refused commit: the backend rolls back in its place, and the client is told `error`, after which its
    /// transaction is over, as after a commit that failed. `None` where the backend discards what it is sent, because
    /// something before it failed.
    pub(super) fn roll_back(&mut self, error: BytesMut, kind: Submission) -> Option<(&'static str, Frame)> {
        let is_simple = kind == Submission::Simple;
        let mut out = BytesMut::new();
        wire::query(&mut out, "ROLLBACK /* holdpoint: commit refused */");
        self.pending.push_back(Await::plain(What::RolledBack { words: error.freeze(), own: !is_simple }));
        if let Submission::Extended { sync, .. } = kind {
            if sync {
                wire::message(&mut out, b'S', |_| {});
                self.pending.push_back(Await::plain(What::Sync));
            }
            self.skipping = !sync;
        }
        self.since.rolled_back();
        Some(("rollback in place of a refused commit", Frame::new(out.freeze())))
    }

    /// The gateway's rollback is answered: what the client is told in place of that.
    pub(super) fn rolled_back(&mut self) -> Option<Bytes> {
        let front = self.pending.front_mut()?;
        let What::RolledBack { words, own } = &mut front.what else { return None };
        let words = std::mem::take(words);
        front.what = if *own { What::OwnReady } else { What::Sync };
        Some(words)
    }
}

/// What changes something, all of which a rollback takes back.
const CHANGES: Effects = Effects::of(Effect::Write).with(Effect::Delete).with(Effect::Schema).with(Effect::Privilege);

/// What may be beside that: it reads, and changes the connection itself.
const HARMLESS: Effects = CHANGES.with(Effect::Read).with(Effect::Session);
