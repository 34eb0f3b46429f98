//! Selectors: which pods and which units are guarded.

use crate::{
    config::{self, OneOrMany},
    policy::Pattern,
    workload::kubernetes::Pod,
};

/// All selectors of the settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Selectors {
    pods: Vec<Pods>,
    units: Vec<Globs>,
}

/// One selector of pods: everything that is written must match.
#[derive(Debug, Clone)]
struct Pods {
    namespace: Option<Globs>,
    service_account: Option<Globs>,
    image: Option<Globs>,
    labels: Vec<(String, Globs)>,
}

/// Of several globs one must match.
#[derive(Debug, Clone)]
struct Globs(Vec<Pattern>);

/// What is wrong with a selector.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// It says nothing.
    #[error("an empty selector under `guard:` would select every pod; write `{{namespace: \"*\"}}` if that is meant")]
    Empty,
    /// It speaks of two things.
    #[error("a selector under `guard:` speaks of a unit and of pods; nothing is both, so write two selectors")]
    Both,
    /// A list without entries.
    #[error("`{key}` of a selector under `guard:` is an empty list, which matches nothing; leave it out to match all")]
    Nothing {
        /// The key.
        key: String,
    },
    /// A glob is none.
    #[error("`{glob}` is no glob for `{key}` of a selector under `guard:`: {why}")]
    Glob {
        /// The key.
        key: String,
        /// As written.
        glob: String,
        /// The reason.
        why: String,
    },
    /// Pods are selected and nobody knows them.
    #[error("`guard:` selects pods, but nothing is said about Kubernetes: add `kubernetes: {{}}`, or its kubeconfig")]
    NoKubernetes,
}

impl Selectors {
    pub(super) fn read<'a>(written: impl Iterator<Item = &'a config::Selector>) -> Result<Self, SelectorError> {
        let mut selectors = Self::default();
        for one in written {
            let config::Selector { namespace, service_account, labels, image, unit } = one;
            let of_pods = namespace.is_some() || service_account.is_some() || image.is_some() || !labels.is_empty();
            match unit {
                Some(_) if of_pods => return Err(SelectorError::Both),
                Some(unit) => selectors.units.push(Globs::read("unit", unit)?),
                None if !of_pods => return Err(SelectorError::Empty),
                None => {
                    let read = |key: &str, globs: &Option<OneOrMany>| {
                        globs.as_ref().map(|globs| Globs::read(key, globs)).transpose()
                    };
                    let labels = labels.iter().map(|(name, globs)| Ok((name.clone(), Globs::read(name, globs)?)));
                    selectors.pods.push(Pods {
                        namespace: read("namespace", namespace)?,
                        service_account: read("service_account", service_account)?,
                        image: read("image", image)?,
                        labels: labels.collect::<Result<_, _>>()?,
                    });
                }
            }
        }
        Ok(selectors)
    }

    pub(super) fn of_pods(&self) -> bool {
        !self.pods.is_empty()
    }

    pub(super) fn of_units(&self) -> bool {
        !self.units.is_empty()
    }

    pub(super) fn selects(&self, pod: &Pod) -> bool {
        self.pods.iter().any(|selector| selector.selects(pod))
    }

    pub(super) fn selects_unit(&self, name: &str) -> bool {
        self.units.iter().any(|globs| globs.is_match(name))
    }
}

impl Pods {
    fn selects(&self, pod: &Pod) -> bool {
        let matches = |globs: &Option<Globs>, value: &str| globs.as_ref().is_none_or(|globs| globs.is_match(value));
        let image = |globs: &Globs| pod.containers.iter().any(|container| globs.is_match(&container.image));
        let label = |(name, globs): &(String, Globs)| pod.labels.get(name).is_some_and(|value| globs.is_match(value));
        matches(&self.namespace, &pod.namespace)
            && matches(&self.service_account, &pod.service_account)
            && self.image.as_ref().is_none_or(image)
            && self.labels.iter().all(label)
    }
}

impl Globs {
    fn read(key: &str, globs: &OneOrMany) -> Result<Self, SelectorError> {
        let glob = |text: &String| {
            Pattern::new(text).map_err(|why| SelectorError::Glob { key: key.into(), glob: text.clone(), why })
        };
        let globs: Vec<_> = globs.globs().iter().map(glob).collect::<Result<_, _>>()?;
        if globs.is_empty() { Err(SelectorError::Nothing { key: key.into() }) } else { Ok(Self(globs)) }
    }

    fn is_match(&self, name: &str) -> bool {
        self.0.iter().any(|glob| glob.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Selectors, SelectorError> {
        let selectors: Vec<config::Selector> = serde_saphyr::from_str(text).expect("it can be read");
        Selectors::read(selectors.iter())
    }

    fn pod() -> Pod {
        serde_json::from_str(
            r#"{"uid": "1", "namespace": "ci", "name": "deploy-7c9f", "service_account": "deployer",
                "labels": {"app": "deploy"}, "owner": null, "runtime_class": null, "host_network": false,
                "containers": [{"name": "main", "image": "registry/tool:1", "id": null, "digest": null},
                               {"name": "side", "image": "registry/proxy:2", "id": null, "digest": null}],
                "static_uid": null, "running": true}"#,
        )
        .expect("it is a pod")
    }

    #[track_caller]
    fn check(text: &str, expected: bool) {
        assert_eq!(read(text).expect("it is right").selects(&pod()), expected, "{text}");
    }

    #[test]
    fn all_that_is_written_must_match() {
        check("[{namespace: ci}]", true);
        check("[{namespace: c*, service_account: [other, 'deploy*']}]", true);
        check("[{namespace: ci, service_account: other}]", false);
        check("[{labels: {app: deploy}}]", true);
        check("[{labels: {app: deploy, tier: '*'}}]", false);
        check("[{image: 'registry/proxy:*'}]", true);
        check("[{image: '*:3'}]", false);
        check("[{namespace: other}, {namespace: ci}]", true);
        check("[{unit: '*'}]", false);
    }

    #[test]
    fn what_would_select_nothing_or_everything_is_refused() {
        assert!(matches!(read("[{}]"), Err(SelectorError::Empty)));
        assert!(matches!(read("[{unit: a, namespace: b}]"), Err(SelectorError::Both)));
        assert!(matches!(read("[{namespace: []}]"), Err(SelectorError::Nothing { .. })));
        assert!(matches!(read("[{namespace: 'a['}]"), Err(SelectorError::Glob { .. })));
    }

    #[test]
    fn units_are_selected_by_name() {
        let units = read("[{unit: 'nightly*'}]").expect("it is right");
        assert!(units.selects_unit("nightly-report.service") && !units.selects_unit("sshd.service"));
        assert!(units.of_units() && !units.of_pods());
    }
}
