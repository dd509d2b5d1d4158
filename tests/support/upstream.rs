//! A sidecar that a test plays itself, to see what the edge sends and to answer what no real sidecar would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it arrived, its head in lower case.
#[derive(Clone, Debug)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// What a test does with a request; the connection stays open when it returns true.
pub type Answer = dyn Fn(&Seen, &mut TcpStream) -> bool + Send + Sync;

pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    probes: Arc<Mutex<u64>>,
}

/// A whole answer.
pub fn ok(body: &str, headers: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Upstream {
    /// Answers health checks by itself and everything else by `answer`.
    pub fn start(answer: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, probes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (seen_in, probes_in) = (seen.clone(), probes.clone());
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (answer, seen, probes) = (answer.clone(), seen_in.clone(), probes_in.clone());
                std::thread::spawn(move || serve(connection, &*answer, &seen, &probes));
            }
        });
        Self {
            address,
            seen,
            probes,
        }
    }

    /// Answers every MCP request with an empty result.
    pub fn echoing() -> Self {
        Self::start(|_, stream| {
            stream
                .write_all(&ok(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, ""))
                .is_ok()
        })
    }

    /// Requests so far, without health checks.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn probes(&self) -> u64 {
        *self.probes.lock().unwrap()
    }
}

fn serve(connection: TcpStream, answer: &Answer, seen: &Mutex<Vec<Seen>>, probes: &Mutex<u64>) {
    let mut writer = connection.try_clone().unwrap();
    let mut reader = BufReader::new(connection);
    while let Some(request) = read(&mut reader) {
        if request.head.starts_with("get /health") {
            *probes.lock().unwrap() += 1;
            if writer
                .write_all(&ok(
                    r#"{"status":"healthy","endpoint":"played00","processes":1}"#,
                    "",
                ))
                .is_err()
            {
                return;
            }
            continue;
        }
        seen.lock().unwrap().push(request.clone());
        if !answer(&request, &mut writer) {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line.trim_end().to_lowercase());
        head.push('\n');
    }
    let mut body = Vec::new();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    if let Some(length) = length {
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend(&chunk[..size]);
        }
    }
    Some(Seen { head, body })
}
