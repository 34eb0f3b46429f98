//! Who is on call, by the rotations of the settings.

use std::{collections::BTreeMap, sync::Arc};

use crate::config::Rota;

/// The rotations, by name. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct OnCall(Arc<BTreeMap<String, Rota>>);

impl OnCall {
    /// These rotations.
    pub fn of(rotas: BTreeMap<String, Rota>) -> Self {
        Self(Arc::new(rotas))
    }

    /// Whose turn it is in a rotation; nobody's in one that there is not.
    pub fn who(&self, rota: &str, at: jiff::Timestamp) -> Option<&str> {
        self.0.get(rota)?.on_call(at)
    }
}
