//! HTTP/1.1 by hand: what is sent is exactly what the test says, what comes back is kept as it came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// A request; `Host` and `Content-Length` are added unless the test sets them.
#[derive(Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: Option<usize>,
}

/// An answer, or the head of one whose body is still being read.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            chunked: None,
        }
    }

    /// A JSON POST as MCP clients send it.
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", path)
            .header("Content-Type", "application/json")
            .header("Accept", "application/json, text/event-stream")
            .body(body)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends the body in chunks of this size, without a Content-Length.
    pub fn chunked(mut self, size: usize) -> Self {
        self.chunked = Some(size);
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    pub fn to_bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            out.extend(format!("{name}: {value}\r\n").as_bytes());
        }
        if !self.has("host") {
            out.extend(format!("Host: {host}\r\n").as_bytes());
        }
        if let Some(size) = self.chunked {
            out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in self.body.chunks(size) {
                out.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
            return out;
        }
        if !self.has("content-length") && (!self.body.is_empty() || self.method == "POST") {
            out.extend(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend(b"\r\n");
        out.extend(&self.body);
        out
    }

    /// One request on a connection of its own, read to its end.
    pub fn send(&self, to: SocketAddr) -> Response {
        let mut stream = self.open(to);
        let body = stream.read_to_end();
        Response {
            status: stream.status,
            headers: stream.headers,
            body,
        }
    }

    /// Sends and reads the head only.
    pub fn open(&self, to: SocketAddr) -> Stream {
        let mut connection = Connection::open(to);
        connection.write(&self.to_bytes(to));
        connection.head()
    }
}

/// A connection on which a test writes what it likes.
pub struct Connection {
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    /// Writes; a peer that has closed already is not an error here, its answer is what counts.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.reader.get_mut().write_all(bytes);
    }

    pub fn request(&mut self, request: &Request) -> Response {
        let host = self.reader.get_ref().peer_addr().unwrap();
        self.write(&request.to_bytes(host));
        let (status, headers) = read_head(&mut self.reader).expect("an answer");
        let body = Framing::of(status, &headers).read(&mut self.reader);
        Response {
            status,
            headers,
            body,
        }
    }

    /// Reads an answer's head; the rest is read from the stream.
    pub fn head(mut self) -> Stream {
        let (status, headers) = read_head(&mut self.reader).expect("an answer");
        let framing = Framing::of(status, &headers);
        Stream {
            status,
            headers,
            framing,
            reader: self.reader,
            pending: Vec::new(),
        }
    }

    /// Everything until the peer closes.
    pub fn drain(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let _ = self.reader.read_to_end(&mut all);
        all
    }

    pub fn read_exactly(&mut self, bytes: usize) -> Vec<u8> {
        let mut all = vec![0; bytes];
        self.reader.read_exact(&mut all).unwrap();
        all
    }

    pub fn set_read_timeout(&self, limit: Duration) {
        self.reader.get_ref().set_read_timeout(Some(limit)).unwrap();
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<(u16, Vec<(String, String)>)> {
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status: u16 = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        // 100 Continue is followed by the real answer.
        if status >= 200 {
            return Some((status, headers));
        }
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    fn of(status: u16, headers: &[(String, String)]) -> Self {
        let get = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if status == 204 || status == 304 {
            Self::Length(0)
        } else if get("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            Self::Chunked
        } else if let Some(length) = get("content-length") {
            Self::Length(length.parse().unwrap())
        } else {
            Self::UntilClose
        }
    }

    fn read(self, reader: &mut impl BufRead) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Length(length) => {
                body.resize(length, 0);
                reader.read_exact(&mut body).unwrap();
            }
            Self::Chunked => {
                while let Some(chunk) = read_chunk(reader) {
                    body.extend(chunk);
                }
            }
            Self::UntilClose => {
                reader.read_to_end(&mut body).unwrap();
            }
        }
        body
    }
}

/// One chunk; `None` at the last one. Panics where the peer cut the body.
fn read_chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let size =
        usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("the body was cut: {line:?}"));
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).unwrap();
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}

/// An answer whose body comes bit by bit.
pub struct Stream {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    framing: Framing,
    reader: BufReader<TcpStream>,
    pending: Vec<u8>,
}

impl Stream {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    pub fn read_to_end(&mut self) -> Vec<u8> {
        self.framing.read(&mut self.reader)
    }

    /// Reads chunks, whatever is in them.
    pub fn read_chunks(&mut self, count: usize) {
        for _ in 0..count {
            read_chunk(&mut self.reader).expect("another chunk");
        }
    }

    /// Reads on until the peer breaks the chunked body off; false if it ended properly.
    pub fn is_cut(mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is a cut as well.
        if self.reader.read_to_end(&mut rest).is_err() {
            return true;
        }
        !rest.ends_with(b"0\r\n\r\n")
    }

    /// The next SSE event's `data` (empty for a priming event), comments skipped; `None` at the stream's proper end.
    pub fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|w| w == b"\n\n") {
                let raw: Vec<u8> = self.pending.drain(..end + 2).collect();
                let raw = String::from_utf8(raw).unwrap();
                if raw.starts_with(':') {
                    continue;
                }
                let data: Vec<&str> = raw
                    .lines()
                    .filter_map(|line| line.strip_prefix("data:"))
                    .map(str::trim_start)
                    .collect();
                return Some(data.join("\n"));
            }
            let chunk = read_chunk(&mut self.reader)?;
            self.pending.extend(chunk);
        }
    }

    /// The next event that carries a message.
    pub fn message(&mut self) -> Option<serde_json::Value> {
        loop {
            let data = self.event()?;
            if !data.is_empty() {
                return Some(serde_json::from_str(&data).unwrap());
            }
        }
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    /// `error.data.reason` or, of a problem document, `reason`.
    pub fn reason(&self) -> String {
        let json = self.json();
        let reason = json.pointer("/error/data/reason").or_else(|| json.get("reason"));
        reason
            .and_then(|r| r.as_str())
            .unwrap_or_else(|| panic!("no reason in {json}"))
            .to_owned()
    }
}
