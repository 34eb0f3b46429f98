//! A statement as prepared, and as bound to values: what is judged, and how its rows are masked.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{
    classify::{Classified, Sense},
    mask::Plan,
    names::Weigh,
};
use crate::operation::Parameter;

/// A statement known under a name.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) text: Bytes,
    pub(super) classified: Arc<Classified>,
    /// What it does on this backend. What `EXECUTE`, `FETCH` and the like inside it stand for is in here too.
    pub(super) sense: Arc<Sense>,
    pub(super) parameter_types: Vec<u32>,
    /// What had changed the session before it was prepared; see `History`.
    pub(super) past: Option<u64>,
}

/// A statement bound to values, or a simple query.
#[derive(Debug)]
pub(super) struct Portal {
    /// `None` for one that the gateway did not see made: everything about it is unknown.
    pub(super) prepared: Option<Arc<Prepared>>,
    pub(super) parameters: Vec<Parameter>,
    /// How its rows are masked; set by its description, which always precedes its rows.
    pub(super) plan: OnceLock<Arc<Plan>>,
}

impl Portal {
    pub(super) fn new(prepared: Option<Arc<Prepared>>, parameters: Vec<Parameter>) -> Arc<Self> {
        Arc::new(Self { prepared, parameters, plan: OnceLock::new() })
    }

    /// The same, yet to be described: by now its name may be another's.
    pub(super) fn again(&self) -> Arc<Self> {
        Self::new(self.prepared.clone(), self.parameters.clone())
    }
}

impl Weigh for Prepared {
    fn weight(&self) -> usize {
        self.text.len()
    }
}

impl Weigh for Portal {
    fn weight(&self) -> usize {
        self.parameters.iter().filter_map(|parameter| parameter.value.as_ref()).map(Bytes::len).sum()
    }
}
