//! A resource's mask rules, compiled once for all its connections.

use std::sync::{Arc, Mutex, Weak};

use crate::{
    mask::{MaskRule, Masks, Salt},
    policy::Resource,
};

/// The compiled masks of the resources in force.
#[derive(Clone)]
pub struct MaskCache {
    salt: Salt,
    compiled: Arc<Mutex<Vec<(Weak<Resource>, Arc<Masks>)>>>,
}

impl MaskCache {
    /// Empty; `salt` is the key of the node's masking hashes.
    pub fn new(salt: Salt) -> Self {
        Self { salt, compiled: Arc::default() }
    }

    /// The key of the node's masking hashes.
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// The masks of `resource`; none where there is no resource.
    pub fn of(&self, resource: Option<&Arc<Resource>>) -> Arc<Masks> {
        let Some(resource) = resource else { return Arc::default() };
        let mut compiled = self.compiled.lock().expect("nothing panics while it holds this lock");
        compiled.retain(|(of, _)| of.strong_count() > 0);
        if let Some((_, masks)) = compiled.iter().find(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(resource))) {
            return masks.clone();
        }
        let masks = compile_masks(resource).expect("a policy set is loaded only when its masks compile");
        let masks = Arc::new(masks);
        compiled.push((Arc::downgrade(resource), masks.clone()));
        masks
    }
}

/// Compiles a resource's mask rules.
///
/// # Errors
/// Which rule is wrong, and how.
pub fn compile_masks(resource: &Resource) -> Result<Masks, (Option<usize>, String)> {
    let rules = resource.masks.iter().enumerate().map(|(index, rule)| {
        let written = serde_json::to_value(rule).map_err(|error| (Some(index), error.to_string()))?;
        serde_json::from_value::<MaskRule>(written).map_err(|error| (Some(index), error.to_string()))
    });
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    Masks::compile(&rules).map_err(|error| (None, error.to_string()))
}
