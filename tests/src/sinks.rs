//! What channels lead to: an HTTP server that keeps what it is sent and answers as told, and a real mail server
//! (aiosmtpd) that keeps mail in files.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Certificates, Lab, Running, eventually, postgres::free_port, python};

/// One request that came.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Its path with its query.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
    /// When it was there in whole.
    pub at: Instant,
}

impl Posted {
    /// The body, as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.body))
    }
}

/// How a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// It answers with this status, and keeps nothing.
    Status(u16),
    /// It takes connections and says nothing.
    Silent,
}

/// An HTTP server on a free port of 127.0.0.1 that ends with the test.
#[derive(Debug)]
pub struct HttpSink {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    posted: Vec<Posted>,
    refused: usize,
    over: bool,
}

impl HttpSink {
    /// A server that answers each request with what `answer` makes of it.
    pub fn start(answer: impl Fn(&Posted) -> Value + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(Mutex::new(State { mood: Mood::Well, posted: Vec::new(), refused: 0, over: false }));
        let (shared, answer) = (state.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if lock(&shared).over {
                    return;
                }
                let (shared, answer) = (shared.clone(), answer.clone());
                thread::spawn(move || serve(stream, &shared, &*answer));
            }
        });
        Self { port, state }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes how it does.
    pub fn be(&self, mood: Mood) {
        lock(&self.state).mood = mood;
    }

    /// What it has taken so far, in order.
    pub fn posted(&self) -> Vec<Posted> {
        lock(&self.state).posted.clone()
    }

    /// How often it was asked and did not answer well.
    pub fn refused(&self) -> usize {
        lock(&self.state).refused
    }

    /// Waits until something is there that `wanted` finds.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, limit: Duration, wanted: impl Fn(&Posted) -> Option<T>) -> T {
        eventually(what, limit, || self.posted().iter().find_map(&wanted))
    }
}

impl Drop for HttpSink {
    fn drop(&mut self) {
        lock(&self.state).over = true;
        let _wakes_it = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, answer: &dyn Fn(&Posted) -> Value) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let Some(posted) = read(&stream) else { return };
    let mood = {
        let mut state = lock(state);
        match state.mood {
            Mood::Well => state.posted.push(posted.clone()),
            _ => state.refused += 1,
        }
        state.mood
    };
    let (status, body) = match mood {
        Mood::Well => (200, answer(&posted).to_string()),
        Mood::Status(status) => (status, json!({ "error": "not now", "asked": posted.path }).to_string()),
        Mood::Silent => {
            // Until the other side has had enough.
            let _ = (&stream).read(&mut [0; 1]);
            return;
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = (&stream).write_all((head + &body).as_bytes());
}

fn read(stream: &TcpStream) -> Option<Posted> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Posted { path, headers, body: String::from_utf8(body).ok()?, at: Instant::now() })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends one request to a server of the loopback and gives its answer: status and body.
///
/// # Panics
/// When it does not answer.
#[track_caller]
pub fn http_post(port: u16, host: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all((head + body).as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it answers as HTTP does");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// A real mail server that wants STARTTLS, with the certificate of the lab's authority. It keeps mail in files.
#[derive(Debug)]
pub struct MailServer {
    python: PathBuf,
    dir: PathBuf,
    certificate: String,
    key: String,
    port: u16,
    running: Option<Running>,
}

impl MailServer {
    /// Makes and starts one.
    ///
    /// # Panics
    /// When aiosmtpd cannot be had or does not start.
    pub fn start(lab: &Lab, certificates: &Certificates) -> Self {
        let python = python::environment("mail", &["aiosmtpd==1.4.6"]).join("bin/python");
        let dir = lab.path("mail");
        fs::create_dir(&dir).expect("the lab's directory is ours");
        let (certificate, key) = (certificates.path("server.crt"), certificates.path("server.key"));
        let mut server = Self { python, dir, certificate, key, port: free_port(), running: None };
        server.restart();
        server
    }

    /// Where it is.
    pub fn place(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again, on its port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let mut command = std::process::Command::new(&self.python);
        command.args(["-c", SERVER, &self.port.to_string(), &self.certificate, &self.key]).arg(&self.dir);
        let running = Running::start(&mut command);
        running.wait_for_stdout("ready", Duration::from_secs(30));
        self.running = Some(running);
    }

    /// The mail that it has, oldest first, headers and parts decoded by Python's own reader.
    ///
    /// # Panics
    /// When a mail cannot be read.
    pub fn mail(&self) -> Vec<Value> {
        let mut paths: Vec<_> =
            fs::read_dir(&self.dir).expect("it is there").flatten().map(|file| file.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let read = |path: &PathBuf| serde_json::from_str(&fs::read_to_string(path).expect("readable")).expect("JSON");
        paths.iter().map(read).collect()
    }
}

/// Number, envelope, headers and decoded parts of each mail, written aside and moved into place.
const SERVER: &str = r#"
import email, email.policy, json, os, ssl, sys, time
from aiosmtpd.controller import Controller
port, certificate, key, directory = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
class Keep:
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in message.walk() if not part.is_multipart()}
        mail = {
            'from': envelope.mail_from, 'to': envelope.rcpt_tos, 'tls': session.ssl is not None,
            'headers': {name: str(value) for name, value in message.items()}, 'parts': parts,
        }
        path = os.path.join(directory, f'{time.time_ns()}')
        with open(path, 'w') as file:
            json.dump(mail, file)
        os.rename(path, path + '.json')
        return '250 kept'
Controller(Keep(), hostname='localhost', port=port, tls_context=context, require_starttls=True).start()
print('ready', flush=True)
while True:
    time.sleep(3600)
"#;
