//! A proxy in front of the emulator, which counts requests by operation, and answers some in its
//! place.

use super::{Node, config, single};
use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use kv_core::Kv;
use kv_testsuite::Failure;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// The fate of a request.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The request does not arrive; the service answers this error, with this status.
    Refused(u16, &'static str),
    /// The request arrives, and its answer is lost with the connection.
    Lost,
    /// The request arrives so much later.
    Late(Duration),
    /// The request arrives, and its answer comes so much later.
    Held(Duration),
    /// The request does not arrive; something that is not the service answers, with this status,
    /// type and text.
    Page(u16, &'static str, &'static str),
    /// The request arrives, and its answer has a date so far ahead.
    Ahead(Duration),
}

#[derive(Default)]
struct State {
    counts: BTreeMap<String, u64>,
    troubles: Vec<(String, Trouble)>,
    /// Holds the trouble of all requests.
    every: Option<Trouble>,
    /// The time by which the service's clock is ahead.
    ahead: Duration,
    no_date: bool,
    /// The only access key that the service knows.
    known: Option<String>,
    /// Tells whether the service refuses a request that was signed more than five minutes from its
    /// own time.
    checks_dates: bool,
}

pub struct Front {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    acceptor: AbortHandle,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a server and a front, and opens a store through it on a new table.
pub async fn behind_front(table: &str) -> Result<(Node, Front, Kv), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let kv = config(front.address, table).create(true).open().await?;
    Ok((node, front, kv))
}

/// Does the same, and opens the store once more, beside the front.
pub async fn behind_front_and_beside(table: &str) -> Result<(Node, Front, Kv, Kv), Failure> {
    let (node, front, kv) = behind_front(table).await?;
    let other = node.config(table).open().await?;
    Ok((node, front, kv, other))
}

impl Front {
    pub async fn new(server: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, state) = (listener.local_addr()?, Arc::<Mutex<State>>::default());
        let shared = state.clone();
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                // This task ends with either side.
                tokio::spawn(async move { serve(client, server, &state).await.ok() });
            }
        });
        Ok(Self { address, state, acceptor: acceptor.abort_handle() })
    }

    /// Gives this trouble to the next requests of the operation.
    pub fn trouble(&self, operation: &str, trouble: Trouble, times: usize) {
        lock(&self.state).troubles.extend((0..times).map(|_| (operation.to_owned(), trouble.clone())));
    }

    /// Gives this trouble to all requests from now on.
    pub fn every(&self, trouble: Trouble) {
        lock(&self.state).every = Some(trouble);
    }

    pub fn no_more_trouble(&self) {
        let mut state = lock(&self.state);
        state.troubles.clear();
        state.every = None;
    }

    /// Makes the service know this access key and no other.
    pub fn knows(&self, access_key: &str) {
        lock(&self.state).known = Some(access_key.to_owned());
    }

    /// Makes the service compare the date of a signature with its own.
    pub fn checks_dates(&self) {
        lock(&self.state).checks_dates = true;
    }

    /// Sets whether answers have no date.
    pub fn no_date(&self, none: bool) {
        lock(&self.state).no_date = none;
    }

    /// Sets the service's clock ahead.
    pub fn ahead(&self, time: Duration) {
        lock(&self.state).ahead = time;
    }

    /// Returns the number of requests since the last call, by operation.
    pub fn counted(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut lock(&self.state).counts).into_iter().collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    async fn read(stream: &mut BufReader<impl AsyncReadExt + Unpin>) -> Result<Option<Self>, Failure> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) if head.is_empty() => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
        let mut message = Self { head: String::from_utf8(head)?, body: Vec::new() };
        let length = message.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        message.body = vec![0; length];
        stream.read_exact(&mut message.body).await?;
        Ok(Some(message))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let value =
            |line: &str| Some(line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name))?.1.len());
        self.head.lines().find_map(|line| value(line).map(|length| line[line.len() - length..].trim()))
    }

    /// Sets the date of an answer, so far ahead; removes it for `None`.
    fn dated(&mut self, ahead: Option<Duration>) {
        let date = ahead.map(|ahead| {
            let now = DateTime::from(SystemTime::now() + ahead);
            format!("date: {}", now.fmt(DateTimeFormat::HttpDate).expect("a date"))
        });
        let lines = self.head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).chain(date.as_deref()).collect();
        self.head = lines.join("\r\n") + "\r\n\r\n";
    }

    fn answer(status: u16, kind: &str, body: &str) -> Self {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        Self { head, body: body.as_bytes().to_vec() }
    }

    /// Makes an answer with an error in the form of the service.
    fn refusal(status: u16, kind: &str, said: &str) -> Self {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"{said}"}}"#);
        Self::answer(status, "application/x-amz-json-1.0", &body)
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}

impl State {
    /// Returns the refusal of the request, by its access key and by the date of its signature.
    fn refuses(&self, request: &Message) -> Option<Message> {
        let by = request.header("authorization").unwrap_or_default();
        if self.known.as_ref().is_some_and(|known| !by.contains(&format!("Credential={known}/"))) {
            return Some(Message::refusal(
                400,
                "UnrecognizedClientException",
                "The security token is invalid.",
            ));
        }
        if self.checks_dates {
            // 20260102T030405Z
            let at = request.header("x-amz-date").unwrap_or_default();
            let part = |range: std::ops::Range<usize>| at.get(range).unwrap_or_default();
            let at = format!(
                "{}-{}-{}T{}:{}:{}Z",
                part(0..4),
                part(4..6),
                part(6..8),
                part(9..11),
                part(11..13),
                part(13..15)
            );
            let at = DateTime::from_str(&at, DateTimeFormat::DateTime).map_or(0, |at| at.secs());
            let now = DateTime::from(SystemTime::now() + self.ahead).secs();
            if at.abs_diff(now) > 300 {
                return Some(Message::refusal(
                    400,
                    "InvalidSignatureException",
                    "Signature expired: it is too old",
                ));
            }
        }
        None
    }
}

async fn serve(client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> Result<(), Failure> {
    let (mut client, mut server) =
        (BufReader::new(client), BufReader::new(TcpStream::connect(server).await?));
    while let Some(request) = Message::read(&mut client).await? {
        let target = request.header("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let (trouble, ahead, refused) = {
            let mut state = lock(state);
            *state.counts.entry(operation.clone()).or_default() += 1;
            let at = state.troubles.iter().position(|(of, _)| *of == operation);
            let trouble = at.map(|at| state.troubles.remove(at).1).or_else(|| state.every.clone());
            let ahead = (!state.no_date).then_some(state.ahead);
            (trouble, ahead, state.refuses(&request))
        };
        if let Some(Trouble::Late(time)) = trouble {
            tokio::time::sleep(time).await;
        }
        let mut answer = match (&trouble, refused) {
            (Some(Trouble::Refused(status, kind)), _) => Message::refusal(*status, kind, "said the test"),
            (Some(Trouble::Page(status, kind, text)), _) => Message::answer(*status, kind, text),
            (_, Some(refusal)) => refusal,
            _ => {
                server.write_all(&request.bytes()).await?;
                Message::read(&mut server).await?.ok_or("the emulator ended the connection")?
            }
        };
        match trouble {
            Some(Trouble::Lost) => return Ok(()),
            Some(Trouble::Ahead(time)) => answer.dated(Some(time)),
            Some(Trouble::Held(time)) => {
                answer.dated(ahead);
                tokio::time::sleep(time).await;
            }
            // The page has the date of another clock.
            Some(Trouble::Page(..)) => answer.dated(Some(Duration::from_secs(3600))),
            _ => answer.dated(ahead),
        }
        client.write_all(&answer.bytes()).await?;
    }
    Ok(())
}
