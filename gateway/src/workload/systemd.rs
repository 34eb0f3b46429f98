//! Which systemd unit a cgroup's path belongs to.
//!
//! # Security
//! systemd lets users make cgroups of any name below their own units (delegation), so the unit is the *first* part of
//! the path that is not a slice, as `sd_pid_get_unit(3)` has it: a directory `deploy.service` further down is no unit.

use super::{Facts, Source, labels};

/// Units, as paths tell them.
#[derive(Debug)]
pub(super) struct Units;

impl Source for Units {
    fn describe(&self, path: &str, facts: &mut Facts) {
        let Some(unit) = unit(path) else { return };
        unit.slice.into_iter().for_each(|slice| facts.label(labels::SLICE, slice));
        facts.unit = Some(unit.name.to_owned());
        facts.name(|| unit.name.to_owned());
    }
}

/// What systemd's part of a path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit<'a> {
    /// The service or scope.
    pub name: &'a str,
    /// The slice that it is in, where there is one.
    pub slice: Option<&'a str>,
}

/// The unit of the cgroup at `path` (below the mount, with a leading slash).
pub fn unit(path: &str) -> Option<Unit<'_>> {
    let mut slice = None;
    for part in path.split('/').filter(|part| !part.is_empty()).map(unescape) {
        if part.ends_with(".slice") {
            slice = Some(part);
        } else {
            let named = part.ends_with(".service") || part.ends_with(".scope");
            return named.then_some(Unit { name: part, slice });
        }
    }
    None
}

/// systemd puts `_` before names that would clash with the kernel's own files.
fn unescape(part: &str) -> &str {
    part.strip_prefix('_').unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_that_is_no_slice_is_the_unit() {
        let nightly = Unit { name: "nightly.service", slice: Some("system.slice") };
        assert_eq!(unit("/system.slice/nightly.service"), Some(nightly));
        assert_eq!(unit("/system.slice/nightly.service/worker"), Some(nightly));
        assert_eq!(unit("/init.scope"), Some(Unit { name: "init.scope", slice: None }));
        assert_eq!(unit("/system.slice/_cgroup.service").map(|unit| unit.name), Some("cgroup.service"));
    }

    #[test]
    fn a_user_cannot_name_himself_a_unit() {
        let path = "/user.slice/user-1000.slice/user@1000.service/app.slice/deploy.service";
        assert_eq!(unit(path), Some(Unit { name: "user@1000.service", slice: Some("user-1000.slice") }));
    }

    #[test]
    fn other_paths_have_no_unit() {
        assert_eq!(unit("/"), None);
        assert_eq!(unit("/system.slice"), None);
        assert_eq!(unit("/holdpoint/ci-0a1b2c3d"), None);
        assert_eq!(unit("/ci/deploy.service"), None);
    }
}
