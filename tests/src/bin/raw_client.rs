//! A client without a protocol: opens connections, sends bytes and reports bytes, as its input says.
//!
//! Input, one command a line: `open N HOST PORT`, `send N HEX`, `fill N BYTE COUNT`, `close N`.
//! Output, one event a line: `open N`, `data N HEX`, `end N REASON`.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

fn main() {
    let mut streams: BTreeMap<String, TcpStream> = BTreeMap::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["open", conn, host, port] => {
                let port = port.parse().expect("the lab writes ports");
                match TcpStream::connect((host, port)) {
                    Ok(stream) => {
                        say(&format!("open {conn}"));
                        follow(conn.to_owned(), stream.try_clone().expect("a socket can be opened twice"));
                        streams.insert(conn.to_owned(), stream);
                    }
                    Err(error) => say(&format!("end {conn} {error}")),
                }
            }
            ["send", conn, hex] => send(streams.get_mut(conn), &unhex(hex)),
            ["fill", conn, byte, count] => {
                let mut left: usize = count.parse().expect("the lab writes counts");
                let chunk = vec![unhex(byte)[0]; 64 * 1024];
                while left > 0 {
                    let now = left.min(chunk.len());
                    send(streams.get_mut(conn), &chunk[..now]);
                    left -= now;
                }
            }
            ["close", conn] => {
                if let Some(stream) = streams.remove(conn) {
                    let _closed_already = stream.shutdown(Shutdown::Both);
                }
            }
            _ => panic!("no such command: {line}"),
        }
    }
}

/// A connection that the other side has closed takes nothing; its end is reported by the reader.
fn send(stream: Option<&mut TcpStream>, bytes: &[u8]) {
    if let Some(stream) = stream {
        let _closed = stream.write_all(bytes);
    }
}

fn follow(conn: String, mut stream: TcpStream) {
    thread::spawn(move || {
        let mut chunk = [0; 8 * 1024];
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return say(&format!("end {conn} closed")),
                Ok(count) => {
                    let hex: String = chunk[..count].iter().map(|byte| format!("{byte:02x}")).collect();
                    say(&format!("data {conn} {hex}"));
                }
                Err(error) => return say(&format!("end {conn} {error}")),
            }
        }
    });
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _nobody_listens = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("the lab writes hex");
    (0..hex.len() / 2).map(|index| digit(index * 2)).collect()
}
