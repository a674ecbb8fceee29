//! The simplest HTTP client there is: it sends the very bytes that a test writes and reads the answer apart.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(present, _)| present == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("text")
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The code of a problem, after checking that it is a whole one.
    pub(super) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        for member in ["type", "title", "detail"] {
            assert!(
                problem[member].as_str().is_some_and(|text| !text.is_empty()),
                "{member} of {problem}"
            );
        }
        assert!(problem["retryable"].is_boolean());
        problem["code"].as_str().expect("a code").to_owned()
    }
}

/// A connection.
pub(super) struct Client {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        socket.set_nodelay(true).expect("a socket option");
        Self {
            socket,
            unread: Vec::new(),
        }
    }

    /// Sends a request with these header lines, and reads its answer.
    pub(super) async fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: router\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        if !body.is_empty() || method == "PUT" {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.write(request.as_bytes()).await;
        self.write(body).await;
        self.answer(method == "HEAD").await
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(super) async fn put(&mut self, path: &str, value: &[u8]) -> Answer {
        self.send("PUT", path, &[], value).await
    }

    /// Sends bytes; a server that has closed the connection meanwhile may still have answered.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    pub(super) async fn answer(&mut self, head_only: bool) -> Answer {
        let head_end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            assert!(
                self.fill().await,
                "the connection ended before an answer: {:?}",
                self.unread
            );
        };
        let head: Vec<u8> = self.unread.drain(..head_end + 4).collect();
        let head = String::from_utf8(head).expect("a text head");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .expect("a status line");
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status: status.parse().expect("a number"),
            headers,
            body: Vec::new(),
        };
        if head_only || matches!(answer.status, 100 | 204 | 304) {
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks().await;
        } else if let Some(len) = answer.header("content-length") {
            let len = len.parse().expect("a length");
            answer.body = self.take(len).await;
        }
        answer
    }

    /// Whether the server closes the connection without a further byte.
    pub(super) async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.fill().await
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                match find(&self.unread, b"\r\n") {
                    Some(at) => break at,
                    None => assert!(self.fill().await, "a cut chunk"),
                }
            };
            let line = self.take(line_end + 2).await;
            let len =
                usize::from_str_radix(str::from_utf8(&line[..line_end]).expect("hex"), 16).expect("hex");
            body.extend(self.take(len).await);
            self.take(2).await;
            if len == 0 {
                return body;
            }
        }
    }

    async fn take(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            assert!(self.fill().await, "a cut body");
        }
        self.unread.drain(..len).collect()
    }

    async fn fill(&mut self) -> bool {
        let read = self.socket.read_buf(&mut self.unread).await;
        read.is_ok_and(|bytes| bytes > 0)
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
