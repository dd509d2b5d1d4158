//! A legacy MCP session over HTTP/1.1: one kept-alive connection, written by hand so that the client costs little and
//! the same for every target. Understands what the targets send: a length or chunks, JSON or an event stream.

use std::io;
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger answers are a target's mistake: `echo` answers with what it was sent.
const MAX_ANSWER: usize = 1 << 20;

pub(crate) struct Link {
    stream: TcpStream,
    /// The request line and the headers that stay the same for the whole session.
    head: String,
    session: Option<String>,
    buffer: Vec<u8>,
}

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunked,
}

struct Head {
    status: u16,
    end: usize,
    framing: Framing,
    session: Option<String>,
}

impl Link {
    pub(crate) async fn open(address: SocketAddr, path: &str, token: Option<&str>) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n"
        );
        if let Some(token) = token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        Ok(Self {
            stream,
            head,
            session: None,
            buffer: Vec::with_capacity(8192),
        })
    }

    /// Sends one message; for a request reads its answer and says whether it is a success that contains `expect`.
    pub(crate) async fn send(&mut self, message: &str, expect: Option<&str>) -> io::Result<bool> {
        let request = format!("{}Content-Length: {}\r\n\r\n{message}", self.head, message.len());
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            self.read().await?;
        };
        let body_end = loop {
            if let Some(end) = end_of_body(&self.buffer, &head)? {
                break end;
            }
            self.read().await?;
        };
        if self.session.is_none()
            && let Some(id) = head.session
        {
            self.head.push_str(&format!(
                "Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n"
            ));
            self.session = Some(id);
        }
        let body = self.buffer.get(head.end..body_end).unwrap_or_default();
        let as_expected = expect.is_none_or(|text| memmem::find(body, text.as_bytes()).is_some());
        Ok((200..300).contains(&head.status) && as_expected)
    }

    async fn read(&mut self) -> io::Result<()> {
        if self.buffer.len() > MAX_ANSWER {
            return Err(io::Error::other("the answer is too large"));
        }
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// The response's head once all of it is there (RFC 9112).
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let Some(at) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(bytes.get(..at).unwrap_or_default()).map_err(io::Error::other)?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("not an HTTP response"))?;
    let (mut framing, mut session) = (Framing::Length(0), None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.parse().map_err(io::Error::other)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("mcp-session-id") {
            session = Some(value.to_owned());
        }
    }
    Ok(Some(Head {
        status,
        end: at + 4,
        framing,
        session,
    }))
}

/// Where the body ends once all of it is there.
fn end_of_body(bytes: &[u8], head: &Head) -> io::Result<Option<usize>> {
    match head.framing {
        Framing::Length(length) => Ok((bytes.len() >= head.end + length).then_some(head.end + length)),
        Framing::Chunked => {
            let mut at = head.end;
            loop {
                let rest = bytes.get(at..).unwrap_or_default();
                let Some(line) = memmem::find(rest, b"\r\n") else {
                    return Ok(None);
                };
                let size =
                    std::str::from_utf8(rest.get(..line).unwrap_or_default()).map_err(io::Error::other)?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
                at += line + 2 + size + 2;
                if bytes.len() < at {
                    return Ok(None);
                }
                if size == 0 {
                    return Ok(Some(at));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(response: &[u8]) -> Option<usize> {
        end_of_body(response, &parse_head(response).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn a_body_with_a_length_ends_there() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nMcp-Session-Id: a.b\r\n\r\n{}";
        assert_eq!(end(response), Some(response.len()));
        assert_eq!(end(&response[..response.len() - 1]), None);
        assert_eq!(
            parse_head(response).unwrap().unwrap().session.as_deref(),
            Some("a.b")
        );
    }

    #[test]
    fn a_chunked_body_ends_with_the_empty_chunk() {
        let response =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\n\r\n";
        assert_eq!(end(response), Some(response.len()));
        for shorter in 0..response.len() - 47 {
            assert_eq!(end(&response[..47 + shorter]), None);
        }
    }

    #[test]
    fn an_empty_acknowledgement_has_no_body() {
        assert_eq!(end(b"HTTP/1.1 202 Accepted\r\n\r\n"), Some(25));
    }
}
