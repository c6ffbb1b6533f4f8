//! What stands in front of the emulator: counts requests by operation, and answers some in its place.

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

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// It does not arrive; the service answers this error, with this status.
    Refused(u16, &'static str),
    /// It arrives, and its answer is lost with the connection.
    Lost,
}

#[derive(Default)]
struct State {
    counts: BTreeMap<String, u64>,
    troubles: Vec<(String, Trouble)>,
    /// The service's clock is so far ahead.
    ahead: Duration,
}

pub struct Front {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    acceptor: AbortHandle,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Front {
    pub async fn new(server: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, state) = (listener.local_addr()?, Arc::<Mutex<State>>::default());
        let shared = state.clone();
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                // Ends with either side.
                tokio::spawn(async move { serve(client, server, &state).await.ok() });
            }
        });
        Ok(Self { address, state, acceptor: acceptor.abort_handle() })
    }

    /// The next requests of the operation have this trouble.
    pub fn trouble(&self, operation: &str, trouble: Trouble, times: usize) {
        lock(&self.state).troubles.extend((0..times).map(|_| (operation.to_owned(), trouble.clone())));
    }

    pub fn no_more_trouble(&self) {
        lock(&self.state).troubles.clear();
    }

    /// Sets the service's clock ahead.
    pub fn ahead(&self, time: Duration) {
        lock(&self.state).ahead = time;
    }

    /// The requests since the last call, by operation.
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

    fn dated(&mut self, ahead: Duration) {
        if ahead.is_zero() {
            return;
        }
        let now = aws_sdk_dynamodb::primitives::DateTime::from(SystemTime::now() + ahead);
        let date = now.fmt(aws_sdk_dynamodb::primitives::DateTimeFormat::HttpDate).expect("a date");
        let lines = self.head.lines().map(|line| {
            if line.to_ascii_lowercase().starts_with("date:") {
                format!("date: {date}")
            } else {
                line.to_owned()
            }
        });
        self.head = lines.collect::<Vec<_>>().join("\r\n") + "\r\n";
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}

async fn serve(client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> Result<(), Failure> {
    let (mut client, mut server) =
        (BufReader::new(client), BufReader::new(TcpStream::connect(server).await?));
    while let Some(request) = Message::read(&mut client).await? {
        let target = request.header("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let (trouble, ahead) = {
            let mut state = lock(state);
            *state.counts.entry(operation.clone()).or_default() += 1;
            let at = state.troubles.iter().position(|(of, _)| *of == operation);
            (at.map(|at| state.troubles.remove(at).1), state.ahead)
        };
        let mut answer = match &trouble {
            Some(Trouble::Refused(status, kind)) => {
                let body = format!(
                    r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{kind}","message":"said the test"}}"#
                );
                let head = format!(
                    "HTTP/1.1 {status} Said\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                Message { head, body: body.into_bytes() }
            }
            _ => {
                server.write_all(&request.bytes()).await?;
                Message::read(&mut server).await?.ok_or("the emulator ended the connection")?
            }
        };
        if matches!(trouble, Some(Trouble::Lost)) {
            return Ok(());
        }
        answer.dated(ahead);
        client.write_all(&answer.bytes()).await?;
    }
    Ok(())
}
