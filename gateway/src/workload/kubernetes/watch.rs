//! Watching the API: the pods of this node and the runtime classes, for as long as the gateway runs.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures_util::TryStreamExt as _;
use k8s_openapi::api::{core::v1 as core, node::v1::RuntimeClass};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};

use super::{Api, Pod, Pods, file};

/// Watches until it is dropped, and keeps what it hears in the file. The API may come and go.
pub async fn follow(pods: Pods, api: Api) {
    let keep = keep(pods.clone());
    let watch = async {
        let mut wait = SOON;
        loop {
            match client(&api).await {
                Ok(client) => {
                    break tokio::join!(watch_pods(&pods, client.clone(), &api.node), watch_classes(&pods, client));
                }
                Err(why) => pods.away(why),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LATEST);
        }
    };
    tokio::join!(watch, keep);
}

/// A client; says what is wrong with the settings where there is none. It asks nobody yet.
async fn client(api: &Api) -> Result<Client, String> {
    let mut config = match &api.kubeconfig {
        Some(path) => {
            let named = |error: &dyn std::fmt::Display| format!("the kubeconfig {}: {error}", path.display());
            let read = Kubeconfig::read_from(path).map_err(|error| named(&error))?;
            let made = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            made.map_err(|error| named(&error))?
        }
        None => Config::incluster().map_err(|error| {
            format!("not in a pod with a service account ({error}); set `kubernetes: {{kubeconfig: FILE}}`")
        })?,
    };
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|error| error.to_string())
}

async fn watch_pods(pods: &Pods, client: Client, node: &str) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = pin!(watcher(kube::Api::<core::Pod>::all(client), config).default_backoff());
    let mut listed = Vec::new();
    loop {
        match events.try_next().await {
            Ok(Some(event)) => hear(pods, event, &mut listed),
            Ok(None) => return pods.away("the watch has ended".to_owned()),
            Err(error) => pods.away(reason(&error)),
        }
    }
}

fn hear(pods: &Pods, event: Event<core::Pod>, listed: &mut Vec<Pod>) {
    match event {
        Event::Apply(object) => {
            pods.here();
            Pod::of(object).into_iter().for_each(|pod| pods.put(pod));
        }
        Event::Delete(object) => {
            pods.here();
            object.metadata.uid.into_iter().for_each(|uid| pods.delete(&uid));
        }
        Event::Init => listed.clear(),
        Event::InitApply(object) => listed.extend(Pod::of(object)),
        Event::InitDone => {
            pods.here();
            pods.put_all(std::mem::take(listed));
        }
    }
}

/// Without these a runtime class is known by its name only, which is no reason to do without the rest.
async fn watch_classes(pods: &Pods, client: Client) {
    let mut events =
        pin!(watcher(kube::Api::<RuntimeClass>::all(client), watcher::Config::default()).default_backoff());
    let mut handlers = BTreeMap::new();
    let mut said = false;
    loop {
        let named = |class: RuntimeClass| Some((class.metadata.name?, class.handler));
        match events.try_next().await {
            Ok(Some(Event::Init)) => handlers.clear(),
            Ok(Some(Event::InitApply(class))) => handlers.extend(named(class)),
            Ok(Some(Event::InitDone)) => pods.put_handlers(handlers.clone()),
            Ok(Some(Event::Apply(class))) => {
                handlers.extend(named(class));
                pods.put_handlers(handlers.clone());
            }
            Ok(Some(Event::Delete(class))) => {
                handlers.remove(&class.metadata.name.unwrap_or_default());
                pods.put_handlers(handlers.clone());
            }
            Ok(None) => return,
            Err(error) if !said => {
                said = true;
                tracing::warn!(error = reason(&error), "runtime classes are not known");
            }
            Err(_) => {}
        }
    }
}

/// The error with its causes: the outer ones say little.
fn reason(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut said: Vec<String> = Vec::new();
    for cause in causes.map(ToString::to_string) {
        if !said.iter().any(|before| before.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

/// Writes the file some time after each change.
async fn keep(pods: Pods) {
    let mut changes = pods.changes();
    while changes.changed().await.is_ok() {
        tokio::time::sleep(SETTLE).await;
        changes.borrow_and_update();
        let writer = pods.clone();
        let written = tokio::task::spawn_blocking(move || file::write(&writer)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "cannot keep what is known of pods: a restart while the API is away would not know them");
        }
    }
}

/// How long connecting to the API may take.
const CONNECT: Duration = Duration::from_secs(5);

/// When a client is tried again that could not be made, at first and at last.
const SOON: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

/// How long changes are gathered before they are written.
const SETTLE: Duration = Duration::from_millis(300);
