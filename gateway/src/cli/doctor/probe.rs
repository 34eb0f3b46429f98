//! `holdpoint doctor --probe`: from inside a workload's place, towards listeners of our own that are governed for a
//! moment. What reaches them directly went round the gateway.

use std::{
    fs,
    io::{BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::{Value, json};
use socket2::{Domain, Socket as Made, Type};

use super::{
    super::{Output, client::Socket},
    paths::{Did, Expected, PATHS},
    place::{self, Place, Plan},
};
use crate::{intercept::trial::Outside, net::Namespace, workload::Hierarchy};

/// What became of one path.
#[derive(Debug, Serialize)]
struct Tried {
    path: &'static str,
    expected: Expected,
    seen: Seen,
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Seen {
    #[serde(rename = "intercepted")]
    Intercepted,
    #[serde(rename = "refused")]
    Refused,
    #[serde(rename = "not tried")]
    NotTried,
    /// It went round the gateway.
    #[serde(rename = "DIRECT")]
    Direct,
}

impl Seen {
    const fn as_str(self) -> &'static str {
        match self {
            Seen::Intercepted => "intercepted",
            Seen::Refused => "refused",
            Seen::NotTried => "not tried",
            Seen::Direct => "DIRECT",
        }
    }
}

/// Probes, prints, and exits with 1 when something went round.
///
/// # Errors
/// The workload is not found, or no gateway governs it.
pub(super) fn run(socket: &Socket, workload: &str, output: Output) -> Result<ExitCode> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("only root may enter a workload's place: run this with sudo");
    }
    let hierarchy = Hierarchy::find()?;
    let place = place::find(&hierarchy, socket, workload)?;
    let outside = Outside::enter(&hierarchy).context("cannot make a cgroup outside of all guards and enter it")?;
    let tried = attempt(socket, &place, &outside)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&tried)?),
        Output::Table => print!("{}", lines(&place, &tried)),
    }
    let went_round = tried.iter().any(|one| one.seen == Seen::Direct);
    Ok(if went_round { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn attempt(socket: &Socket, place: &Place, outside: &Outside) -> Result<Vec<Tried>> {
    let mut chance = [0; 8];
    getrandom::fill(&mut chance).context("no random numbers for a token")?;
    let token = chance.iter().fold("hp".to_owned(), |text, byte| format!("{text}{byte:02x}"));
    let mut listeners = Listeners::open(&place.namespace, token.clone())?;
    let port = listeners.port;
    let plan = Plan {
        cgroup: place.cgroup.clone(),
        outside: outside.path().to_owned(),
        pid: place.pid,
        port,
        unix: listeners.unix_path(),
        token,
    };
    let mut inside = Inside::start(&plan)?;
    // Ungoverned so far: this one goes direct, and is the connection from before.
    inside.hear().context("the probe did not get inside")?;
    listeners.keep_the_first();
    let body = json!({ "port": port, "pid": inside.child.id() });
    let governed: Value = socket
        .ask(&Method::POST, "/api/v1/probe", Some(&body))
        .context("the gateway does not govern the probe's port, so nothing was tried")?;
    let trial = Trial { socket, port };
    let made = place.namespace.within(|| Made::new(Domain::IPV4, Type::STREAM, None))?;
    inside.hand_in(&made.into())?;
    let mut tried = Vec::new();
    for path in &PATHS {
        let did = inside.go()?;
        let (seen, detail) = judge(did, listeners.arrived()?, path.expected);
        tried.push(Tried { path: path.name, expected: path.expected, seen, detail });
    }
    drop(trial);
    if let Some(why) = governed["namespace"]["deaf"].as_str() {
        eprintln!("holdpoint: the gateway does not serve this network namespace: {why}");
    }
    Ok(tried)
}

/// What arrived decides; what the probe says of itself only tells refused from intercepted.
fn judge(did: Did, arrived: bool, expected: Expected) -> (Seen, String) {
    match (arrived, did, expected) {
        (true, _, _) => (Seen::Direct, "it reached a listener without the gateway".to_owned()),
        (false, Did::Connected, _) => (Seen::Intercepted, String::new()),
        (false, Did::Sent, _) => (Seen::Refused, "sent, and never arrived".to_owned()),
        (false, Did::Refused(why), _) => (Seen::Refused, why),
        (false, Did::Absent(why), _) => (Seen::NotTried, why),
    }
}

fn lines(place: &Place, tried: &[Tried]) -> String {
    let mut table = crate::cli::store::table(["PATH", "EXPECTED", "SEEN", "DETAIL"]);
    for one in tried {
        let expected = if one.expected == Expected::Intercepted { "intercepted" } else { "refused" };
        table.add_row([one.path, expected, one.seen.as_str(), one.detail.as_str()]);
    }
    let round = tried.iter().filter(|one| one.seen == Seen::Direct).count();
    let mut text = format!("{table}\n");
    text += &match round {
        0 => "nothing went round the gateway\n".to_owned(),
        1 => "1 path goes round the gateway\n".to_owned(),
        many => format!("{many} paths go round the gateway\n"),
    };
    if place.shared && round > 0 {
        text += "the workload shares this network namespace, where a socket made outside its cgroup cannot be told from \
                 others': give it one of its own\n";
    }
    text
}

/// The governed port, given back when this is dropped; the gateway forgets it by itself as well.
struct Trial<'s> {
    socket: &'s Socket,
    port: u16,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        let _ = self.socket.ask::<Value>(&Method::DELETE, &format!("/api/v1/probe/{}", self.port), None);
    }
}

/// The process inside. Ended when this is dropped.
struct Inside {
    child: Child,
    says: BufReader<ChildStdout>,
    told: UnixStream,
}

impl Inside {
    fn start(plan: &Plan) -> Result<Self> {
        let (told, its) = UnixStream::pair()?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["doctor", "--inside", &serde_json::to_string(plan)?])
            .stdin(Stdio::from(OwnedFd::from(its)))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the probe")?;
        let says = BufReader::new(child.stdout.take().context("the probe has no output")?);
        Ok(Self { child, says, told })
    }

    fn hear(&mut self) -> Result<Did> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        serde_json::from_str(&line).context("the probe ended early; its own words are above")
    }

    fn go(&mut self) -> Result<Did> {
        self.told.write_all(b"g")?;
        self.hear()
    }

    fn hand_in(&self, socket: &OwnedFd) -> Result<()> {
        use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
        let rights = [socket.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&rights)];
        sendmsg::<UnixAddr>(self.told.as_raw_fd(), &[IoSlice::new(b"s")], &message, MsgFlags::empty(), None)?;
        Ok(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Listeners inside the workload's network namespace, on one port.
struct Listeners {
    port: u16,
    token: String,
    streams: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
    others: Vec<Made>,
    unix: UnixListener,
    directory: PathBuf,
    first: Option<TcpStream>,
}

impl Listeners {
    fn open(namespace: &Namespace, token: String) -> Result<Self> {
        let mut last = None;
        // Somebody may have the port of the one under another.
        for _ in 0..TRIES {
            match namespace.within(ports) {
                Ok((port, streams, datagrams, others)) => {
                    let (directory, unix) = runtime_socket(&token)?;
                    return Ok(Self { port, token, streams, datagrams, others, unix, directory, first: None });
                }
                Err(error) => last = Some(error),
            }
        }
        bail!(
            "cannot listen inside the workload's network namespace: {}",
            last.map_or_else(String::new, |error| error.to_string())
        )
    }

    fn unix_path(&self) -> PathBuf {
        self.directory.join(RUNTIME)
    }

    fn keep_the_first(&mut self) {
        let _waited = wait([self.streams[0].as_fd()], ARRIVAL);
        self.first = self.streams[0].accept().ok().map(|(stream, _)| stream);
        if let Some(first) = &self.first {
            let _blocking_is_short = first.set_nonblocking(true);
        }
    }

    /// Whether something of ours arrived, within [`ARRIVAL`].
    fn arrived(&mut self) -> Result<bool> {
        let until = Instant::now() + ARRIVAL;
        loop {
            if self.look() {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let streams = self.streams.iter().map(AsFd::as_fd);
            let rest = self.datagrams.iter().map(AsFd::as_fd).chain(self.others.iter().map(AsFd::as_fd));
            let last = [self.unix.as_fd()].into_iter().chain(self.first.as_ref().map(AsFd::as_fd));
            wait(streams.chain(rest).chain(last), left)?;
        }
    }

    /// A connection on this port is the probe's: nobody else knows it. A datagram has to say so.
    fn look(&mut self) -> bool {
        let connected = self.streams.iter().any(|one| one.accept().is_ok())
            || self.others.iter().any(|one| one.accept().is_ok())
            || self.unix.accept().is_ok();
        let token = self.token.as_bytes();
        let mut buffer = [0; 256];
        let heard = self.datagrams.iter().any(|one| one.recv(&mut buffer).is_ok_and(|count| &buffer[..count] == token));
        let again = match self.first.as_mut().map(|first| first.read(&mut buffer)) {
            Some(Ok(0)) => {
                self.first = None;
                false
            }
            Some(Ok(_)) => true,
            _ => false,
        };
        connected || heard || again
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

type Opened = (u16, Vec<TcpListener>, Vec<UdpSocket>, Vec<Made>);

fn ports() -> std::io::Result<Opened> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = first.local_addr()?.port();
    let mut streams = vec![first];
    let mut datagrams = vec![UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?];
    // A namespace without IPv6 has no way round over it.
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(second) => {
            streams.push(second);
            datagrams.push(UdpSocket::bind((Ipv6Addr::LOCALHOST, port))?);
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
        Err(_) => {}
    }
    streams.iter().try_for_each(|one| one.set_nonblocking(true))?;
    datagrams.iter().try_for_each(|one| one.set_nonblocking(true))?;
    Ok((port, streams, datagrams, others(port)))
}

/// Where this kernel has them: SCTP and vsock.
fn others(port: u16) -> Vec<Made> {
    /// `VMADDR_CID_ANY`
    const ANY: u32 = u32::MAX;
    let open = |made: std::io::Result<Made>, at: socket2::SockAddr| {
        let made = made.ok()?;
        let ready = made.bind(&at).and_then(|()| made.listen(4)).and_then(|()| made.set_nonblocking(true));
        ready.ok().map(|()| made)
    };
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let sctp = Made::new(Domain::IPV4, Type::STREAM, Some(socket2::Protocol::from(132)));
    let vsock = Made::new(Domain::VSOCK, Type::STREAM, None);
    [open(sctp, v4.into()), open(vsock, socket2::SockAddr::vsock(ANY, port.into()))].into_iter().flatten().collect()
}

/// A socket that everybody may connect to, under a name that guarded workloads may not.
fn runtime_socket(token: &str) -> Result<(PathBuf, UnixListener)> {
    let directory = std::env::temp_dir().join(format!("holdpoint-doctor-{token}"));
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let path = directory.join(RUNTIME);
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok((directory, listener))
}

fn wait<'f>(fds: impl IntoIterator<Item = BorrowedFd<'f>>, limit: Duration) -> Result<()> {
    let mut waiting: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    poll(&mut waiting, PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO))?;
    Ok(())
}

const RUNTIME: &str = "docker.sock";

/// How long something may take over a loopback: a busy machine, twenty times over.
const ARRIVAL: Duration = Duration::from_millis(150);

/// Ports are taken by chance; this many times in a row they are not.
const TRIES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_decides_whatever_the_probe_says() {
        let refused = || Did::Refused("no".into());
        for did in [Did::Connected, Did::Sent, refused(), Did::Absent("none".into())] {
            assert_eq!(judge(did, true, Expected::Refused).0, Seen::Direct);
        }
        assert_eq!(judge(Did::Connected, false, Expected::Intercepted).0, Seen::Intercepted);
        assert_eq!(judge(Did::Sent, false, Expected::Refused).0, Seen::Refused);
        assert_eq!(judge(refused(), false, Expected::Intercepted).0, Seen::Refused);
        assert_eq!(judge(Did::Absent("none".into()), false, Expected::Refused).0, Seen::NotTried);
    }
}
