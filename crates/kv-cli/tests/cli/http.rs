//! A small client of HTTP, which sends what it is told and nothing else.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// The longest that an answer takes.
const SOON: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A page at a URL, `http://HOST:PORT/PATH/`.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) host: String,
    pub(crate) path: String,
}

impl Page {
    pub(crate) fn at(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        Self { host: host.to_owned(), path: format!("/{path}") }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("{}{path}", self.path), &[("host", &self.host)], "")
    }

    /// Posts an object, as the page itself does.
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        let origin = format!("http://{}", self.host);
        let headers = [("host", &*self.host), ("origin", &origin), ("content-type", "application/json")];
        self.send("POST", &format!("{}{path}", self.path), &headers, body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut whole = String::new();
        self.begin(method, path, headers, body).read_to_string(&mut whole).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Begins to listen to what happens.
    pub(crate) fn events(&self) -> Events {
        Events(self.begin("GET", &format!("{}events", self.path), &[("host", &self.host)], ""))
    }
}

/// The stream of events, as a page hears it.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// Waits for the next event of this name, and returns what it says.
    pub(crate) fn next(&mut self, name: &str) -> String {
        let (mut is_it, mut line) = (false, String::new());
        loop {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the events have ended");
            let line = line.trim_end();
            if let Some(event) = line.strip_prefix("event: ") {
                is_it = event == name;
            }
            if let Some(data) = line.strip_prefix("data: ").filter(|_| is_it) {
                return data.to_owned();
            }
        }
    }
}
