//! The Kubernetes API server that other tests use: that it is a real one, and leaves nothing.

use std::{fs, time::Duration};

use tests::{ApiServer, eventually};

/// It authorises by RBAC, hands out tokens that name a service account, keeps its data over a crash, and is gone with
/// its directory when the test is.
#[test]
fn it_is_real_and_leaves_nothing() {
    let mut api = ApiServer::start();
    api.namespace("ci");
    api.kubectl(&["--namespace", "ci", "create", "serviceaccount", "deployer"]).ok();
    api.apply(POD);
    let account = "--as=system:serviceaccount:ci:deployer";
    api.kubectl(&["auth", "can-i", "list", "pods", account]).failed().says(&["no"]);
    let theirs = api.kubeconfig_of("ci", "deployer").display().to_string();
    api.kubectl(&["--kubeconfig", &theirs, "auth", "whoami"]).ok().says(&["system:serviceaccount:ci:deployer"]);

    api.kill();
    api.kubectl(&["get", "--raw", "/readyz"]).failed();
    api.restart();
    let selector = "--field-selector=spec.nodeName=node-1";
    api.kubectl(&["get", "pods", "--all-namespaces", selector]).ok().says(&["deploy-1"]);

    let (pid, directory) = (api.pid(), api.kubeconfig());
    let resident = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    println!("{}", resident.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default());
    drop(api);
    assert!(!directory.exists(), "{} is left", directory.display());
    eventually("the API server's process ends", Duration::from_secs(5), || {
        (!fs::exists(format!("/proc/{pid}")).unwrap_or(true)).then_some(())
    });
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: deploy-1, namespace: ci }
spec:
  nodeName: node-1
  serviceAccountName: deployer
  containers: [{ name: main, image: registry.example/bot:1 }]
";
