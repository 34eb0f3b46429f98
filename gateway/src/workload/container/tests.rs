//! Paths as kubelets and runtimes make them, and as a container would like to be read.

use super::*;

const UID: &str = "0f4a9d2c-6a3b-4c1e-9f00-1234567890ab";
const OTHER: &str = "ffffffff-6a3b-4c1e-9f00-1234567890ab";
const ID: &str = "9c3f0d1e2b4a59687766554433221100ffeeddccbbaa99887766554433221100";

fn roots() -> Roots {
    Roots::usual(None)
}

#[track_caller]
fn check(roots: &Roots, template: &str, own: &str, runtime: Option<&str>) {
    let fill = |text: &str| text.replace("UID_", &UID.replace('-', "_")).replace("UID", UID).replace("ID", ID);
    let path = fill(template);
    let pod = roots.pod(&path).unwrap_or_else(|| panic!("no pod in {path}"));
    assert_eq!((pod.uid.as_ref(), pod.path), (UID, fill(own).as_str()), "{path}");
    let found = pod.inside.and_then(container);
    let (id, name) = (found.map(|found| found.id), found.and_then(|found| found.runtime));
    assert_eq!((id, name), ((path != pod.path).then_some(ID), runtime), "{path}");
}

#[track_caller]
fn no_pod(path: &str) {
    let path = path.replace("UID_", &UID.replace('-', "_")).replace("UID", UID).replace("ID", ID);
    assert_eq!(roots().pod(&path), None, "{path}");
}

fn facts(path: &str) -> Facts {
    let mut facts = Facts::default();
    Containers(roots()).describe(path, &mut facts);
    facts
}

#[test]
fn pods_of_the_cgroupfs_driver() {
    check(&roots(), "/kubepods/podUID/ID", "/kubepods/podUID", None);
    check(&roots(), "/kubepods/burstable/podUID/ID", "/kubepods/burstable/podUID", None);
    check(&roots(), "/kubepods/besteffort/podUID/ID/init.scope", "/kubepods/besteffort/podUID", None);
    check(&roots(), "/kubepods/burstable/podUID/crio-ID", "/kubepods/burstable/podUID", Some("cri-o"));
    check(&roots(), "/kubelet/kubepods/besteffort/podUID/ID", "/kubelet/kubepods/besteffort/podUID", None);
}

#[test]
fn pods_of_the_systemd_driver() {
    let pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice";
    check(&roots(), &format!("{pod}/cri-containerd-ID.scope"), pod, Some("containerd"));
    check(&roots(), &format!("{pod}/crio-ID.scope/container"), pod, Some("cri-o"));
    check(&roots(), &format!("{pod}/docker-ID.scope"), pod, Some("docker"));
    let guaranteed = "/kubepods.slice/kubepods-podUID_.slice";
    check(&roots(), &format!("{guaranteed}/cri-containerd-ID.scope"), guaranteed, Some("containerd"));
    let kind = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
                kubelet-kubepods-besteffort-podUID_.slice";
    check(&roots(), &format!("{kind}/cri-containerd-ID.scope"), kind, Some("containerd"));
}

#[test]
fn a_pods_own_cgroup_is_the_pod_without_a_container() {
    check(&roots(), "/kubepods/burstable/podUID", "/kubepods/burstable/podUID", None);
    // CRI-O's monitor is beside the container, not in it.
    let path = format!("/kubepods/pod{UID}/crio-conmon-{ID}");
    assert_eq!(roots().pod(&path).and_then(|pod| pod.inside).and_then(container), None);
}

#[test]
fn pods_from_files_have_an_id_without_dashes() {
    let path = "/kubepods.slice/kubepods-pod0123456789abcdef0123456789abcdef.slice";
    assert_eq!(roots().pod(path).map(|pod| pod.uid.into_owned()).as_deref(), Some("0123456789abcdef0123456789abcdef"));
}

#[test]
fn a_kubelet_with_a_root_of_its_own() {
    check(&Roots::below("/some/where"), "/some/where/kubepods/podUID/ID", "/some/where/kubepods/podUID", None);
    let below = Roots::below("/node.slice/");
    let pod = "/node.slice/node-kubepods.slice/node-kubepods-podUID_.slice";
    check(&below, &format!("{pod}/cri-containerd-ID.scope"), pod, Some("containerd"));
    assert_eq!(below.pod(&format!("/kubepods/pod{UID}")), None);
}

#[test]
fn a_gateway_in_a_pod_knows_the_root_that_it_is_in() {
    let node = format!("/system.slice/docker-{ID}.scope");
    let own = format!("{node}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podx.slice/kubepods");
    let pod = format!("{node}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice");
    check(&Roots::usual(Some(&own)), &pod, &pod, None);
    assert_eq!(root_of("/system.slice/holdpoint.service"), None);
}

#[test]
fn a_container_is_not_another_pod_by_what_it_makes_below_itself() {
    let below = format!("/kubepods/burstable/pod{UID}/{ID}/kubepods/burstable/pod{OTHER}/{ID}");
    assert_eq!(roots().pod(&below).map(|pod| pod.uid.into_owned()).as_deref(), Some(UID));
    let directly = format!("/kubepods/pod{UID}/pod{OTHER}/{ID}");
    assert_eq!(roots().pod(&directly).map(|pod| pod.uid.into_owned()).as_deref(), Some(UID));
}

#[test]
fn pods_elsewhere_are_nobodys_pods() {
    no_pod("/holdpoint/deploy-bot-0a1b2c3d/kubepods/podUID/ID");
    no_pod("/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-podUID_.slice");
    no_pod("/system.slice/docker-ID.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice");
    no_pod("/kubepods2/podUID/ID");
    no_pod("/kubepods");
    no_pod("/kubepods/");
}

#[test]
fn names_that_are_nearly_a_pods_are_none() {
    no_pod("/kubepods/podUIDx/ID");
    no_pod("/kubepods/pod../ID");
    no_pod("/kubepods/pod/ID");
    no_pod("/kubepods/podUID_/ID");
    no_pod("/kubepods/guaranteed/podUID/ID");
    no_pod("/kubepods/burstable/besteffort/podUID/ID");
    no_pod("/kubepods/podFFFFFFFF-6a3b-4c1e-9f00-1234567890ab/ID");
    no_pod("/kubepods.slice/kubepods-podUID.slice");
    no_pod("/kubepods.slice/podUID_.slice");
    no_pod("/kubepods.slice/kubepods-burstable-podUID_.slice");
    no_pod("/kubepods.slice/kubepods-burstable.slice/kubepods-podUID_.slice");
    no_pod("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice.d");
}

#[test]
fn containers_outside_of_pods() {
    let found = |path: &str| facts(&path.replace("ID", ID)).labels.get(labels::RUNTIME).cloned();
    for path in ["/docker/ID", "/system.slice/docker-ID.scope", "/bots.slice/bots-ci.slice/docker-ID.scope/deep/down"] {
        assert_eq!(found(path).as_deref(), Some("docker"), "{path}");
    }
    for path in ["/libpod_parent/libpod-ID", "/machine.slice/libpod-ID.scope/container"] {
        assert_eq!(found(path).as_deref(), Some("podman"), "{path}");
    }
    assert_eq!(found("/system.slice/cri-containerd-ID.scope").as_deref(), Some("containerd"));
}

#[test]
fn what_a_user_or_a_unit_names_below_itself_is_no_container() {
    for path in [
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
        "/system.slice/nightly.service/docker-ID.scope",
        "/holdpoint/deploy-bot-0a1b2c3d/docker/ID",
        "/system.slice/docker-ID",
        "/system.slice/docker-1D.scope",
        "/docker/buildx",
        "/machine.slice/libpod-conmon-ID.scope",
    ] {
        let path = path.replace("ID", ID);
        assert!(facts(&path).labels.is_empty(), "{path}");
    }
}
