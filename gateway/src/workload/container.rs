//! Which container and which pod a cgroup's path belongs to, by the shapes that runtimes and the kubelet give their
//! paths.
//!
//! # Security
//! A path is read from the outside in, and the first container ends the reading: what lies below it is its own to name,
//! so a container that makes itself a directory `pod<uid of another>` is still itself. Pods are looked for in the
//! kubelet's own directories only ([`Roots`]), and other containers only where each directory above is systemd's slice
//! or the runtime's.

use std::{borrow::Cow, path::Path, sync::Arc};

use super::{Facts, Source, labels};

/// Where the kubelet keeps its pods' cgroups.
#[derive(Debug, Clone)]
pub struct Roots(Arc<[String]>);

/// The cgroup of a pod, found in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCgroup<'a> {
    /// The pod's unique id, with dashes.
    pub uid: Cow<'a, str>,
    /// The pod's own cgroup below the mount: part of the path that was read.
    pub path: &'a str,
    /// The first directory below it, where the path goes on: a container's.
    pub inside: Option<&'a str>,
}

/// A container, as a runtime names its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Container<'a> {
    /// `containerd`, `cri-o`, `docker`, `podman`; `None` where the path does not say.
    pub(super) runtime: Option<&'static str>,
    /// Its id: 64 hexadecimal digits.
    pub(super) id: &'a str,
}

impl Roots {
    /// Those below the directory `base` (below the mount): what the kubelet makes under its `--cgroup-root`.
    pub fn below(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        let mut roots: Vec<_> = USUAL.iter().map(|usual| format!("{base}{usual}")).collect();
        // systemd has the slice `a-b.slice` in `a.slice`, so below a slice the kubelet's bears its name.
        if let Some(stem) = last(base).strip_suffix(".slice") {
            roots.push(format!("{base}/{stem}-kubepods.slice"));
        }
        Self(roots.into())
    }

    /// Those of this machine. `own` is the cgroup of this process: when it runs in a pod, its pod's root is the node's.
    pub fn usual(own: Option<&str>) -> Self {
        let mut roots = Self::below("/").0.to_vec();
        if let Some(root) = own.and_then(root_of).filter(|root| !roots.iter().any(|known| known == root)) {
            roots.push(root.to_owned());
        }
        Self(roots.into())
    }

    /// The directories, below the mount, with a leading slash. Most of them are not there.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The pod that the cgroup `path` is in, or is.
    pub fn pod<'a>(&self, path: &'a str) -> Option<PodCgroup<'a>> {
        self.iter().find_map(|root| pod(path, root))
    }
}

/// The paths that the kubelet uses, with the cgroupfs and the systemd driver, and as kind starts it.
const USUAL: [&str; 4] = ["/kubepods", "/kubepods.slice", "/kubelet/kubepods", "/kubelet.slice/kubelet-kubepods.slice"];

/// The outermost of the kubelet's directories in `path`.
fn root_of(path: &str) -> Option<&str> {
    let mut end = 0;
    for part in path.split('/').skip(1) {
        end += 1 + part.len();
        if matches!(part, "kubepods" | "kubepods.slice") || part.ends_with("-kubepods.slice") {
            return path.get(..end);
        }
    }
    None
}

fn pod<'a>(path: &'a str, root: &str) -> Option<PodCgroup<'a>> {
    let below = path.strip_prefix(root)?.strip_prefix('/')?;
    let systemd = last(root).strip_suffix(".slice");
    let mut parts = below.split('/');
    let mut part = parts.next()?;
    let mut length = root.len() + 1 + part.len();
    let mut stem = systemd.map(str::to_owned);
    for class in ["burstable", "besteffort"] {
        let is_class = match systemd {
            Some(stem) => part == format!("{stem}-{class}.slice"),
            None => part == class,
        };
        if is_class {
            stem = stem.map(|stem| format!("{stem}-{class}"));
            part = parts.next()?;
            length += 1 + part.len();
            break;
        }
    }
    let uid = match stem {
        Some(stem) => {
            let uid = part.strip_suffix(".slice")?.strip_prefix(&stem)?.strip_prefix("-pod")?;
            // A slice's name has its dashes for its own purposes.
            is_uid(uid, '_').then(|| Cow::Owned(uid.replace('_', "-")))?
        }
        None => {
            let uid = part.strip_prefix("pod")?;
            is_uid(uid, '-').then_some(Cow::Borrowed(uid))?
        }
    };
    Some(PodCgroup { uid, path: path.get(..length)?, inside: parts.next().filter(|inside| !inside.is_empty()) })
}

/// A UUID with this separator or, for pods from files on the node, 32 digits without one.
fn is_uid(text: &str, separator: char) -> bool {
    let groups: Vec<_> = text.split(separator).collect();
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let lengths: Vec<_> = groups.iter().map(|group| group.len()).collect();
    (lengths == [8, 4, 4, 4, 12] || lengths == [32]) && groups.iter().all(|group| hex(group))
}

/// The container that a directory of this name is.
pub(super) fn container(directory: &str) -> Option<Container<'_>> {
    let name = directory.strip_suffix(".scope").unwrap_or(directory);
    let (runtime, id) = match name.rsplit_once('-') {
        None => (None, name),
        Some((prefix, id)) => {
            let (_, runtime) = RUNTIMES.iter().find(|(known, _)| *known == prefix)?;
            (Some(*runtime), id)
        }
    };
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_id.then_some(Container { runtime, id })
}

/// What runtimes write before the id. `crio-conmon` and `libpod-conmon` are their monitors, and in no container.
const RUNTIMES: [(&str, &str); 4] =
    [("cri-containerd", "containerd"), ("crio", "cri-o"), ("docker", "docker"), ("libpod", "podman")];

/// The container outside of pods that the cgroup `path` is in.
fn outside_pods(path: &str) -> Option<Container<'_>> {
    let mut parts = path.split('/').skip(1);
    let first = parts.next()?;
    match first {
        "docker" => parts.next().and_then(container).map(|found| Container { runtime: Some("docker"), ..found }),
        "libpod_parent" => parts.next().and_then(container).filter(|found| found.runtime == Some("podman")),
        _ => {
            let part = std::iter::once(first).chain(parts).find(|part| !part.ends_with(".slice"))?;
            container(part).filter(|found| part.ends_with(".scope") && found.runtime.is_some())
        }
    }
}

fn last(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Containers and pods, as far as a path tells.
#[derive(Debug)]
pub(super) struct Containers(pub(super) Roots);

impl Source for Containers {
    fn describe(&self, path: &str, facts: &mut Facts) {
        let pod = self.0.pod(path);
        let found = match &pod {
            Some(pod) => pod.inside.and_then(container),
            None => outside_pods(path),
        };
        if let Some(pod) = &pod {
            facts.label(labels::POD_UID, &pod.uid);
            facts.name(|| format!("pod {}", pod.uid));
        }
        if let Some(found) = found {
            facts.label(labels::CONTAINER_ID, found.id);
            found.runtime.into_iter().for_each(|runtime| facts.label(labels::RUNTIME, runtime));
        }
    }
}

#[cfg(test)]
mod tests;
