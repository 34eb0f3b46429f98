//! Queries for names: asked of the server that the bot meant, from inside its namespace, and learnt from.
//!
//! An address that a resource's host has for one bot is governed before that bot hears it, whatever address the gateway
//! would be given for the same name.
//!
//! # Security
//! A query that the kernel programs have no entry for is dropped. An answer is delivered only when it is from the server
//! that was asked, for the question that was asked, and what it teaches is in force; any other is withheld.
//! What is learnt never weakens what the policy's own addresses say: see [`Destinations`].

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use crate::{
    crowd::Crowd,
    drain::Drain,
    intercept::{Interceptor, Queried, netns_cookie},
    net::{Claim, Namespace, OriginalDst, ask, dial},
    resources::{Destinations, Taught},
    rulebook::Rulebook,
    workload::CgroupId,
};

mod message;

use message::Question;

/// Asks and learns. A cheap handle.
#[derive(Clone)]
pub struct Names {
    /// The kernel's side.
    pub interceptor: Arc<Interceptor>,
    /// What is learnt.
    pub destinations: Arc<Destinations>,
    /// Puts what was not known before in force.
    pub rulebook: Arc<Rulebook>,
    /// How many queries of each workload are on their way.
    pub crowd: Crowd<CgroupId>,
    /// Hears that the gateway stops.
    pub drain: Drain,
}

impl Names {
    /// Answers queries on `socket`, which is in `namespace`, until the gateway stops.
    pub async fn run(self, socket: UdpSocket, namespace: Namespace) {
        let (Ok(netns), Ok(local)) = (netns_cookie(&socket), socket.local_addr()) else { return };
        let socket = Arc::new(socket);
        let mut drain = self.drain.clone();
        let mut buffer = vec![0; LONGEST_QUERY];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                // Another gateway may have the same address, and is given whatever comes from here on.
                () = drain.signalled() => return,
            };
            // An error here is about a client that has gone.
            let Ok((length, client)) = received else { continue };
            let Some(queried) = self.interceptor.queried(netns, client, local.port()) else {
                tracing::debug!(%client, "dropped a query that was not intercepted");
                continue;
            };
            let who = queried.cgroup;
            let Some(place) = self.crowd.enter(who, |open| open.get(&who).is_none_or(|count| *count < PER_WORKLOAD))
            else {
                tracing::debug!(
                    cgroup = who.0,
                    PER_WORKLOAD,
                    "dropped a query: its workload has too many on their way"
                );
                continue;
            };
            let (names, socket, namespace) = (self.clone(), socket.clone(), namespace.clone());
            let query = buffer.get(..length).unwrap_or_default().to_vec();
            tokio::spawn(async move {
                let _place = place;
                if let Some(answer) = names.answer(&namespace, &queried, query).await {
                    let _ = socket.send_to(&answer, client).await;
                }
            });
        }
    }

    /// Answers the queries of one connection to `server`, until one side ends it, nobody asks for [`IDLE`], or the gateway
    /// stops.
    pub async fn serve(&self, client: TcpStream, namespace: &Namespace, server: OriginalDst) {
        let mut drain = self.drain.clone();
        let ended = tokio::select! {
            ended = self.relay(client, namespace, server) => ended,
            () = drain.signalled() => return,
        };
        tracing::debug!(server = %server.0, ended = ?ended.err(), "a connection to a name server");
    }

    async fn relay(&self, mut client: TcpStream, namespace: &Namespace, server: OriginalDst) -> io::Result<()> {
        let mut upstream = dial(namespace, server, &self.claim()).await?;
        loop {
            let query = tokio::time::timeout(IDLE, read_frame(&mut client)).await??;
            let question = Question::of(&query).ok_or(io::ErrorKind::InvalidData)?;
            upstream.write_all(&frame(&query)).await?;
            let answer = tokio::time::timeout(PATIENCE, read_frame(&mut upstream)).await??;
            if !question.is_answered_by(&answer, question.id()) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let answer = if self.learn(namespace, &answer).await { Some(answer) } else { question.failed() };
            client.write_all(&frame(&answer.ok_or(io::ErrorKind::InvalidData)?)).await?;
        }
    }

    async fn answer(&self, namespace: &Namespace, queried: &Queried, query: Vec<u8>) -> Option<Vec<u8>> {
        let question = Question::of(&query)?;
        match self.forward(namespace, queried.server, &question, query).await {
            Ok(answer) if self.learn(namespace, &answer).await => Some(answer),
            Ok(_) => question.failed(),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
            Err(error) => {
                tracing::debug!(server = %queried.server, %error, "a name server does not answer");
                question.failed()
            }
        }
    }

    /// From a port and under an id that nobody can guess; the socket takes nothing but the server's own datagrams.
    async fn forward(
        &self,
        namespace: &Namespace,
        server: SocketAddr,
        question: &Question,
        mut query: Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        message::put_id(&mut query, id);
        let upstream = ask(namespace, server, &self.claim()).await?;
        upstream.send(&query).await?;
        let mut buffer = vec![0; LONGEST_ANSWER];
        let answered = async {
            loop {
                let length = upstream.recv(&mut buffer).await?;
                let answer = buffer.get(..length).unwrap_or_default();
                if question.is_answered_by(answer, id) {
                    let mut answer = answer.to_vec();
                    message::put_id(&mut answer, question.id());
                    return Ok(answer);
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether the answer may be delivered: what it teaches is in force.
    async fn learn(&self, namespace: &Namespace, answer: &[u8]) -> bool {
        let Ok(id) = namespace.id() else { return false };
        match self.destinations.learn(id, &message::lessons(answer)) {
            Taught::Known => return true,
            Taught::New => {}
            Taught::TooMuch => {
                tracing::warn!(
                    namespace = id.0,
                    "an answer is withheld: this namespace has been told of too many addresses of governed hosts"
                );
                return false;
            }
        }
        let rulebook = self.rulebook.clone();
        // nftables and the kernel's tables make a thread wait.
        match tokio::task::spawn_blocking(move || rulebook.learn(id)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(namespace = id.0, %error, "an answer is withheld: what it teaches cannot be put in force");
                false
            }
            Err(_) => false,
        }
    }

    fn claim(&self) -> Claim {
        let interceptor = self.interceptor.clone();
        Arc::new(move |socket| interceptor.claim(socket))
    }
}

async fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// RFC 1035, 4.2.2.
fn frame(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("it came in such a frame");
    [&length.to_be_bytes()[..], message].concat()
}

/// Bytes of a query. A real one has a name of 255 and some options.
const LONGEST_QUERY: usize = 4096;
/// Bytes of a datagram.
const LONGEST_ANSWER: usize = 65_535;
/// Queries that one workload may have on their way; each takes a descriptor.
const PER_WORKLOAD: usize = 256;
/// How long a server may take: as long as the usual resolver waits before it asks again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection to a name server may be silent.
const IDLE: Duration = Duration::from_secs(30);
