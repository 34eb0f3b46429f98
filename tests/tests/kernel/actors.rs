//! The children: a client and a gateway, each asked line by line.
//!
//! A question is a line on the child's standard input; its answer is a line with `@` in front on its standard output
//! (the test harness writes there, too), made of `name=value` words.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use holdpoint::{
    intercept::{Action, Arrival, Interceptor, Options, Rule},
    workload::{Hierarchy, Processes, Workloads, exec},
};
use nix::{
    libc,
    sys::{prctl::set_pdeathsig, signal::Signal, socket},
};

use crate::sockets;

/// A child and the pipes to it. Ends with this value, or with the test's thread.
pub(crate) struct Actor {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts `role`, in `cgroup` from its first instruction on.
    pub(crate) fn start(role: &str, arguments: &[&str], cgroup: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("we run"));
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(ARGUMENTS, arguments.join("\n"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let procs = cgroup.map(|cgroup| cgroup.join("cgroup.procs"));
        let mut procs = procs.map(|path| std::fs::OpenOptions::new().write(true).open(path).expect("a cgroup"));
        // SAFETY: between fork and exec only two system calls are made.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                procs.as_mut().map_or(Ok(()), |procs| procs.write_all(b"0"))
            });
        }
        let mut child = command.spawn().expect("we can be started again");
        let questions = child.stdin.take().expect("it is a pipe");
        let answers = BufReader::new(child.stdout.take().expect("it is a pipe"));
        Self { child, questions, answers }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ask(&mut self, question: &str) -> Answer {
        self.send(question);
        self.answer()
    }

    pub(crate) fn send(&mut self, question: &str) {
        writeln!(self.questions, "{question}").expect("the child lives");
    }

    pub(crate) fn answer(&mut self) -> Answer {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.answers.read_line(&mut line).expect("text"), 0, "the child has died");
            if let Some(rest) = line.trim_end().strip_prefix('@') {
                return Answer { rest: rest.to_owned() };
            }
        }
    }

    pub(crate) fn rules(&mut self, rules: &[&str]) {
        self.send(&format!("rules {}", rules.len()));
        rules.iter().for_each(|rule| self.send(rule));
        self.answer();
    }

    /// Kills it, as hard as it goes.
    pub(crate) fn end(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) rest: String,
}

impl Answer {
    fn find(&self, name: &str) -> Option<&str> {
        self.rest.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no `{name}` in {self:?}"))
    }

    pub(crate) fn number(&self, name: &str) -> usize {
        self.field(name).parse().expect("a number")
    }
}

const ROLE: &str = "HOLDPOINT_KERNEL_TEST_ROLE";
const ARGUMENTS: &str = "HOLDPOINT_KERNEL_TEST_ARGUMENTS";

/// In the child: plays the role that it was started for, until nobody asks any more.
#[expect(clippy::disallowed_methods, reason = "the child ends with the code of the command that it ran")]
pub(crate) fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let arguments = std::env::var(ARGUMENTS).unwrap_or_default();
    let arguments: Vec<_> = arguments.lines().collect();
    match role.as_str() {
        "client" => answer_all(&mut Client::default()),
        "gateway" => answer_all(&mut Gateway::start(&arguments)),
        "pauper" => {
            nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).expect("we are root");
            answer_all(&mut Pauper);
        }
        "exec" => {
            let [guard, name, command, rest @ ..] = &arguments[..] else { panic!("a guard, a name and a command") };
            let rest: Vec<_> = rest.iter().map(OsString::from).collect();
            let code = exec::run(Path::new(guard), name, &OsString::from(command), &rest, &[]);
            std::process::exit(code.unwrap_or_else(|error| error.exit_code()));
        }
        other => panic!("no role {other}"),
    }
}

/// `holdpoint exec`, without the command line around it.
pub(crate) fn exec(guard: &Path, name: &str, command: &[&str]) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("we run"));
    child.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    let arguments = [&[guard.to_str().expect("text"), name], command].concat().join("\n");
    child.env(ROLE, "exec").env(ARGUMENTS, arguments).stdout(Stdio::null());
    child.spawn().expect("we can be started again")
}

/// Sends SIGTERM to the thread that waits in [`exec`]: the harness has others, and does not block it there.
pub(crate) fn terminate(runner: &Child) {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", runner.id())).expect("it lives").flatten();
    let threads = tasks.filter_map(|task| task.file_name().to_str()?.parse::<libc::pid_t>().ok());
    let newest = threads.max().expect("a process has a thread");
    let pid = libc::pid_t::try_from(runner.id()).expect("a process");
    // SAFETY: takes three numbers.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, pid, newest, libc::SIGTERM) };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
}

trait Role {
    fn answer(&mut self, question: &[&str]) -> String;
}

fn answer_all(role: &mut impl Role) {
    // Behind what the harness has written without ending its line.
    println!();
    while let Some(question) = line() {
        let answer = role.answer(&question.split(' ').collect::<Vec<_>>());
        println!("@{answer}");
        io::stdout().flush().expect("somebody asks");
    }
}

fn line() -> Option<String> {
    let mut line = String::new();
    (io::stdin().read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

// ---- the client

#[derive(Default)]
struct Client {
    kept: Vec<TcpStream>,
    listener: Option<TcpListener>,
}

impl Role for Client {
    fn answer(&mut self, question: &[&str]) -> String {
        match question {
            ["hammer", addr, count] => hammer(addr, count.parse().expect("a number")),
            ["keep", addr] => match connect("tcp4", addr.parse().expect("an address")) {
                Ok(stream) => {
                    self.kept.push(stream);
                    "kept".to_owned()
                }
                Err(error) => failed(&error),
            },
            ["brief", addr] => match connect("tcp4", addr.parse().expect("an address")) {
                Ok(_) => "gone".to_owned(),
                Err(error) => failed(&error),
            },
            ["kept"] => {
                let kept: Vec<_> = self.kept.drain(..).map(said).collect();
                let count = |word: &str| kept.iter().filter(|said| said.split(' ').next() == Some(word)).count();
                format!("told={} closed={} direct={}", count("gateway"), count(""), count("direct"))
            }
            ["twice4", first, second] => twice(first.parse().expect("an address"), second.parse().expect("an address")),
            ["send", kind, addr] => told(sockets::send(kind, addr.parse().expect("an address"))),
            ["listen", kind, addr] => match sockets::listen(kind, addr.parse().expect("an address")) {
                Ok(listener) => {
                    self.listener = Some(listener);
                    "done".to_owned()
                }
                Err(error) => failed(&error),
            },
            ["pretend"] => told(sockets::pretend(self.listener.as_ref().expect("one was bound"))),
            ["leave"] => {
                self.listener = None;
                "done".to_owned()
            }
            ["socket", family, kind, protocol] => told(sockets::make(family, kind, protocol)),
            ["unix", path] => told(sockets::unix(path)),
            ["unix_datagram", path] => told(sockets::unix_datagram(path)),
            ["unix_relative", path] => told(sockets::unix_relative(path)),
            [kind, addr] => match connect(kind, addr.parse().expect("an address")) {
                Ok(stream) => {
                    let peer = peer(&stream);
                    format!("peer={peer} said={}", said(stream))
                }
                Err(error) => failed(&error),
            },
            other => panic!("no question: {other:?}"),
        }
    }
}

fn told(done: io::Result<String>) -> String {
    done.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &io::Error) -> String {
    let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0));
    format!("error={errno:?}")
}

/// All that the other side says until it closes; nothing when it has nothing to say.
pub(crate) fn said(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    // A reset is a way to close.
    let _reset = stream.read_to_end(&mut said);
    String::from_utf8(said).expect("text")
}

fn hammer(addr: &str, count: usize) -> String {
    let addr = addr.parse().expect("an address");
    let (mut gateway, mut direct, mut refused, mut closed) = (0, 0, 0, 0);
    for _ in 0..count {
        match connect("tcp4", addr).map(said) {
            Ok(said) if said.starts_with("gateway") => gateway += 1,
            Ok(said) if said.is_empty() => closed += 1,
            Ok(_) => direct += 1,
            Err(_) => refused += 1,
        }
    }
    format!("gateway={gateway} direct={direct} refused={refused} closed={closed}")
}

/// One socket: connected, disconnected, and connected elsewhere.
fn twice(first: SocketAddr, second: SocketAddr) -> String {
    let stream = connect("tcp4", first).expect("the gateway listens");
    let unspecified = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let size = libc::socklen_t::try_from(size_of_val(&unspecified)).expect("small");
    // SAFETY: address and size belong together; family 0 (AF_UNSPEC) disconnects.
    let answer = unsafe { libc::connect(stream.as_raw_fd(), &raw const unspecified, size) };
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    match socket::connect(stream.as_raw_fd(), &socket::SockaddrStorage::from(second)) {
        Ok(()) => format!("said={}", said(stream)),
        Err(errno) => failed(&errno.into()),
    }
}

fn connect(kind: &str, addr: SocketAddr) -> io::Result<TcpStream> {
    const MPTCP: libc::c_int = 262;
    match kind {
        "uring4" => return sockets::uring(addr),
        "fastopenconnect4" => return sockets::fast_open_connect(addr),
        _ => {}
    }
    let (family, form, protocol) = match kind {
        "tcp4" | "nonblocking4" | "fastopen4" => (libc::AF_INET, libc::SOCK_STREAM, 0),
        "mptcp4" => (libc::AF_INET, libc::SOCK_STREAM, MPTCP),
        "udp4" => (libc::AF_INET, libc::SOCK_DGRAM, 0),
        "tcp6" | "nonblocking6" | "v6only" | "bound6" => (libc::AF_INET6, libc::SOCK_STREAM, 0),
        other => panic!("no kind of socket: {other}"),
    };
    // SAFETY: takes three numbers.
    let fd = unsafe { libc::socket(family, form | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if family == libc::AF_INET6 {
        socket::setsockopt(&fd, socket::sockopt::Ipv6V6Only, &(kind == "v6only"))?;
    }
    if kind == "bound6" {
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:0".parse().expect("an address");
        socket::bind(fd.as_raw_fd(), &socket::SockaddrStorage::from(mapped))?;
    }
    let to = address(addr, family);
    if kind == "fastopen4" {
        let sent = socket::sendto(fd.as_raw_fd(), b"x", &to, socket::MsgFlags::from_bits_retain(libc::MSG_FASTOPEN))?;
        assert_eq!(sent, 1);
        return Ok(fd.into());
    }
    if kind.starts_with("nonblocking") {
        return connect_later(fd, &to);
    }
    socket::connect(fd.as_raw_fd(), &to)?;
    Ok(fd.into())
}

fn connect_later(fd: OwnedFd, to: &socket::SockaddrStorage) -> io::Result<TcpStream> {
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    match socket::connect(stream.as_raw_fd(), to) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut poll = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, and it is ours.
    unsafe { libc::poll(&raw mut poll, 1, 10_000) };
    stream.take_error()?.map_or(Ok(()), Err)?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn address(addr: SocketAddr, family: libc::c_int) -> socket::SockaddrStorage {
    assert_eq!(family == libc::AF_INET, addr.is_ipv4(), "{addr} is not for that socket");
    addr.into()
}

/// As `getpeername` says; of an IPv6 socket with a mapped address, that address.
fn peer(stream: &TcpStream) -> String {
    stream.peer_addr().map_or_else(|error| failed(&error), |peer| peer.to_string())
}

// ---- the gateway

struct Gateway {
    interceptor: Arc<Interceptor>,
    last: Arc<Mutex<Option<Arrival>>>,
    listeners: Vec<TcpListener>,
    ports: (u16, u16),
    seat: Seat,
    lines: Lines,
    stats: Option<OwnedFd>,
    measured: Vec<(&'static str, u64, Duration)>,
}

/// What a connection's thread needs.
#[derive(Clone)]
struct Seat {
    processes: Processes,
    workloads: Workloads,
}

impl Gateway {
    fn start(arguments: &[&str]) -> Self {
        let [bpffs, guard, ways @ ..] = arguments else { panic!("a bpffs and a guard") };
        let lines = Lines::default();
        let writer = lines.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
        let listeners: Vec<_> =
            ["127.0.0.1:0", "[::1]:0"].map(|addr| TcpListener::bind(addr).expect("loopback")).into();
        let port = |n: usize| listeners[n].local_addr().expect("it is bound").port();
        let ports = (port(0), port(1));
        let connections = if ways.contains(&"small") { 4 } else { 1024 };
        let unix_refused = ways.iter().filter_map(|way| way.strip_prefix("unix=")).map(str::to_owned).collect();
        let bpffs = PathBuf::from(bpffs);
        let options = Options { bpffs, connections, unix_refused, ..Options::new(ports.0, ports.1) };
        let mut interceptor = Interceptor::load(&options).unwrap_or_else(|error| panic!("{error}"));
        let log = interceptor.kernel_log().expect("it was not taken");
        std::thread::spawn(|| tokio::runtime::Runtime::new().expect("a runtime").block_on(log.run()));
        let hierarchy = Hierarchy::find().expect("it is mounted");
        let seat = Seat { processes: Processes::default(), workloads: Workloads::new(hierarchy, &[guard.into()]) };
        let mut gateway = Self {
            interceptor: Arc::new(interceptor),
            last: Arc::default(),
            listeners,
            ports,
            seat,
            lines,
            stats: None,
            measured: Vec::new(),
        };
        if ways.contains(&"nobody") {
            gateway.listeners.clear();
        } else if !ways.contains(&"deaf") {
            gateway.accept();
        }
        gateway
    }

    fn accept(&mut self) {
        for listener in self.listeners.drain(..) {
            let (interceptor, last, seat) = (Arc::clone(&self.interceptor), Arc::clone(&self.last), self.seat.clone());
            std::thread::spawn(move || {
                while let Ok((stream, peer)) = listener.accept() {
                    let (interceptor, last, seat) = (Arc::clone(&interceptor), Arc::clone(&last), seat.clone());
                    std::thread::spawn(move || serve(stream, peer, &interceptor, &last, &seat));
                }
            });
        }
    }

    fn measure(&mut self) -> String {
        /// `BPF_ENABLE_STATS`: run times are counted while the descriptor is open.
        const ENABLE_STATS: libc::c_int = 32;
        if self.stats.is_none() {
            let run_time = 0_u32;
            // SAFETY: the command reads four bytes and makes a descriptor.
            let fd = unsafe { libc::syscall(libc::SYS_bpf, ENABLE_STATS, &raw const run_time, size_of::<u32>()) };
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            // SAFETY: the call has just made it for us.
            self.stats = Some(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) });
        }
        let now: Vec<_> = self.interceptor.cost().iter().map(|cost| (cost.program, cost.runs, cost.busy)).collect();
        let words = now.iter().map(|(name, runs, busy)| {
            let before = self.measured.iter().find(|(other, ..)| other == name);
            let (runs_before, busy_before) = before.map_or((0, Duration::ZERO), |(_, runs, busy)| (*runs, *busy));
            let each = (*busy - busy_before).as_nanos().checked_div(u128::from(runs - runs_before)).unwrap_or(0);
            format!("{name}={each}")
        });
        let words = words.collect::<Vec<_>>().join(" ");
        self.measured = now;
        words
    }
}

impl Role for Gateway {
    fn answer(&mut self, question: &[&str]) -> String {
        let done = |result: Result<(), holdpoint::intercept::InterceptError>| {
            result.map_or_else(|error| panic!("{error}"), |()| "done".to_owned())
        };
        match question {
            ["ready"] => format!("v4={} v6={}", self.ports.0, self.ports.1),
            ["rules", count] => {
                let count = count.parse().expect("a number");
                let rules: Vec<_> = (0..count).map(|_| rule(&line().expect("a rule"))).collect();
                done(self.interceptor.replace_rules(&rules))
            }
            ["attach", cgroup] => done(self.interceptor.attach(Path::new(cgroup)).map(drop)),
            ["detach"] => {
                let guards = self.interceptor.status().expect("the pins can be read");
                guards.iter().for_each(|guard| self.interceptor.detach(guard.cgroup).expect("it is attached"));
                "done".to_owned()
            }
            ["accept"] => {
                self.accept();
                "done".to_owned()
            }
            ["taken"] => {
                let last = self.last.lock().expect("nobody panics").expect("one has arrived");
                format!("again={}", self.interceptor.take(&last).map_or("none", |_| "some"))
            }
            ["arrivals"] => {
                let (waiting, open) = (self.interceptor.waiting(), self.interceptor.open());
                format!("waiting={} open={}", waiting.expect("it can be read"), open.expect("it can be read"))
            }
            ["dial", addr] => format!("said={}", said(TcpStream::connect(addr).expect("it listens"))),
            ["status"] => {
                let guards = self.interceptor.status().expect("the pins can be read");
                let word = |whole| if whole { "whole" } else { "broken" };
                let guards = guards.iter().map(|guard| format!("{}:{}", word(guard.is_whole()), guard.programs.len()));
                format!("guards={}", guards.collect::<Vec<_>>().join(","))
            }
            ["refused"] => {
                let guards = self.interceptor.status().expect("the pins can be read");
                let here = guards.into_iter().flat_map(|guard| guard.refused);
                let here = here.map(|(reason, count)| format!("{reason}={count}"));
                let somewhere = self.interceptor.refused_somewhere().into_iter();
                let somewhere = somewhere.map(|(reason, count)| format!("somewhere_{reason}={count}"));
                here.chain(somewhere).collect::<Vec<_>>().join(" ")
            }
            ["lines"] => self.lines.text().replace('\n', " / "),
            ["measure"] => self.measure(),
            other => panic!("no question: {other:?}"),
        }
    }
}

/// Tells the client what the kernel told us, or closes.
fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    interceptor: &Interceptor,
    last: &Mutex<Option<Arrival>>,
    seat: &Seat,
) {
    let Ok(arrival) = Arrival::of(&stream, peer) else { return };
    let Ok(found) = interceptor.take(&arrival) else { return };
    *last.lock().expect("nobody panics") = Some(arrival);
    let process = seat.processes.read(&found.caller);
    let workload = seat.workloads.find(found.caller.cgroup);
    let told = format!(
        "gateway dialled={} pid={} uid={} cgroup={} workload={} sha256={} verified={}",
        found.dialled,
        process.pid,
        process.uid,
        workload.cgroup.0,
        workload.name,
        process.sha256.map_or_else(String::new, |digest| digest.to_string()),
        process.verified,
    );
    let _gone = stream.write_all(told.as_bytes()).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    // Closing before the client has would reset what it has not read yet.
    let _gone = stream.read_to_end(&mut Vec::new());
}

/// `NETWORK PORT ACTION`, with `-` for any port.
fn rule(line: &str) -> Rule {
    let words: Vec<_> = line.split(' ').collect();
    let [to, port, action] = words[..] else { panic!("no rule: {line}") };
    let action = match action {
        "pass" => Action::Pass,
        "intercept" => Action::Intercept,
        "refuse" => Action::Refuse,
        other => panic!("no action: {other}"),
    };
    let port = (port != "-").then(|| port.parse().expect("a port"));
    Rule { to: to.parse().expect("a network"), port, action }
}

/// Log lines, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics")).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ---- one that may not

struct Pauper;

impl Role for Pauper {
    fn answer(&mut self, _: &[&str]) -> String {
        Interceptor::load(&Options::new(0, 0)).map_or_else(|error| error.to_string(), |_| "loaded".to_owned())
    }
}
