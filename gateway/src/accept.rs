//! Accept → identify → choose → serve: what happens to an intercepted connection before its first byte is read.
//!
//! # Security
//! A socket that the kernel programs know nothing of is closed: somebody dialled the gateway's port by hand, and what
//! it wants and who it is cannot be known.

use std::{sync::Arc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use crate::{
    crowd::{Crowd, Place},
    dns::Names,
    drain::Drain,
    gate::{Connection, Gate, Services},
    intercept::{Arrival, Intercepted, Interceptor},
    live::Live,
    net::{ClientAddr, Dialer, Namespace, OriginalDst, split_tcp},
    operation::{ProtocolName, SessionId},
    protocol::Protocol,
    resources::Destinations,
    workload::{CgroupId, Processes, Workloads},
};

/// Everything that accepting needs. A cheap handle.
#[derive(Clone)]
pub struct Acceptor {
    /// The kernel's side.
    pub interceptor: Arc<Interceptor>,
    /// cgroup → workload.
    pub workloads: Workloads,
    /// pid → process.
    pub processes: Processes,
    /// Address → resource.
    pub destinations: Arc<Destinations>,
    /// What each connection's gate shares.
    pub services: Services,
    /// The protocols, by name.
    pub protocols: Arc<Vec<Arc<dyn Protocol>>>,
    /// Where the workloads' sockets live.
    pub namespace: Namespace,
    /// Answers queries for names, where they are intercepted.
    pub names: Option<Names>,
    /// How often a waiting client is told that it still waits.
    pub remind: Duration,
    /// Which connections are open.
    pub live: Live,
    /// How many connections each workload has.
    pub crowd: Crowd<CgroupId>,
    /// Hears that the gateway stops.
    pub drain: Drain,
}

impl Acceptor {
    /// Accepts until the gateway stops.
    pub async fn run(self, listener: Arc<TcpListener>) {
        let mut drain = self.drain.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.signalled() => return,
            };
            match accepted {
                Ok((stream, peer)) => drop(tokio::spawn(self.clone().connection(stream, ClientAddr(peer)))),
                Err(error) => {
                    // Out of descriptors, most likely. The connection waits in the backlog; trying again at once
                    // would only burn the processor.
                    tracing::error!(%error, "cannot accept a guarded connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, client: ClientAddr) {
        // Taken even when the client has hung up already, so that its entry is not left in the kernel.
        let arrival = Arrival::of(&stream, client.0)
            .and_then(|arrival| self.interceptor.take(&arrival).map_err(std::io::Error::other));
        match arrival {
            Ok(intercepted) => self.serve(stream, client, intercepted).await,
            Err(error) => tracing::warn!(%error, client = %client.0, "closed a connection that was not intercepted"),
        }
    }

    async fn serve(self, stream: TcpStream, client: ClientAddr, intercepted: Intercepted) {
        let Some(_place) = enter(&self.crowd, intercepted.caller.cgroup) else {
            let cgroup = intercepted.caller.cgroup.0;
            return tracing::warn!(cgroup, PER_WORKLOAD, "closed a connection: its workload has too many open");
        };
        let destination = OriginalDst(intercepted.dialled);
        let (found, ambiguous) = match self.destinations.resource(destination) {
            Ok(found) => (found, None),
            Err(ambiguous) => (None, Some(ambiguous)),
        };
        if let (None, None, NAME_PORT, Some(names)) = (&found, &ambiguous, destination.0.port(), &self.names) {
            return names.serve(stream, &self.namespace, destination).await;
        }
        let learnt = found.as_ref().is_some_and(|found| found.learnt);
        let (resource, host) = found.map_or((None, None), |found| (Some(found.resource), found.host));
        let protocol =
            resource.as_ref().and_then(|resource| self.protocols.iter().find(|one| one.name() == resource.protocol));
        let connection = Arc::new(Connection {
            id: SessionId::now(),
            workload: self.workloads.find(intercepted.caller.cgroup),
            process: self.processes.describe(intercepted.caller).await,
            client,
            destination,
            host,
            protocol: protocol.map_or(UNRECOGNISED, |protocol| protocol.name()),
            resource,
            learnt,
        });
        tracing::debug!(session = %connection.id, workload = %connection.workload.name, destination = %destination.0, "connection");
        let session = connection.id;
        let (read, write) = match split_tcp(stream) {
            Ok(halves) => halves,
            Err(error) => return tracing::debug!(%error, "the client has gone"),
        };
        let interceptor = self.interceptor.clone();
        let dialer =
            Dialer::tcp(self.namespace.clone(), destination, Arc::new(move |socket| interceptor.claim(socket)));
        let gate = match Gate::open(connection, self.services.clone(), write, dialer) {
            Ok(gate) => gate,
            Err(error) => return tracing::error!(%error, "cannot record a connection, so it is closed"),
        };
        match protocol {
            Some(protocol) => {
                let (_presence, ended) = self.live.enter(session, &gate.facts());
                protocol.clone().serve(read, gate, self.drain.of_connection(ended), self.remind).await;
            }
            None => {
                let why = ambiguous.map(|why| format!("refused: {why}"));
                gate.incident(why.as_deref().unwrap_or("refused: no resource of the policy is at this destination"));
                gate.close("refused: no resource at this destination").await;
            }
        }
    }
}

fn enter(crowd: &Crowd<CgroupId>, workload: CgroupId) -> Option<Place<CgroupId>> {
    crowd.enter(workload, |open| open.get(&workload).is_none_or(|count| *count < PER_WORKLOAD))
}

/// What a connection speaks when no resource says.
const UNRECOGNISED: ProtocolName = ProtocolName::from_static("unrecognised");

/// Connections that one workload may have open. Each takes two descriptors once it moves, of the 20,000 that are usual.
const PER_WORKLOAD: usize = 4096;

/// The port of name servers.
const NAME_PORT: u16 = 53;

/// How long accepting pauses when it fails.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowded_workload_leaves_room_for_others_and_gets_its_own_back() {
        let crowd = Crowd::default();
        let mut places: Vec<_> = (0..PER_WORKLOAD).map_while(|_| enter(&crowd, CgroupId(1))).collect();
        assert_eq!(places.len(), PER_WORKLOAD);
        assert!(enter(&crowd, CgroupId(1)).is_none() && enter(&crowd, CgroupId(2)).is_some());
        places.pop();
        assert!(enter(&crowd, CgroupId(1)).is_some());
    }
}
