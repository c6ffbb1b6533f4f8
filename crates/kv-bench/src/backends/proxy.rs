//! A proxy that counts the requests of HTTP and the bytes that go through it.

use crate::{
    counts::{Counter, Counts},
    drive::Opened,
    side::Done,
};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A proxy before a server, until it is dropped.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    requests: BTreeMap<String, f64>,
    /// The bytes to the server, and those to clients.
    bytes: [f64; 2],
}

impl Proxy {
    pub(super) async fn start(server: SocketAddr) -> Done<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, seen) = (listener.local_addr()?, Arc::<Mutex<Seen>>::default());
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                links.spawn(link(client, server, noted.clone()));
            }
        });
        Ok(Self { address, seen, task })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn link(mut client: TcpStream, server: SocketAddr, seen: Arc<Mutex<Seen>>) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((asks, hears), (answers, takes)) = (client.split(), server.split());
    tokio::try_join!(forward(asks, takes, 0, &seen), forward(answers, hears, 1, &seen)).map(drop)
}

/// Forwards one way of a link, and counts what goes it.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: usize,
    seen: &Mutex<Seen>,
) -> io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        {
            let mut seen = lock(seen);
            seen.bytes[way] += read as f64;
            if way == 0 {
                // The heads of requests come whole, and no body has a line like theirs.
                for name in String::from_utf8_lossy(&piece[..read]).lines().filter_map(request) {
                    *seen.requests.entry(name).or_default() += 1.0;
                }
            }
        }
        to.write_all(&piece[..read]).await?;
    }
}

/// Returns the name of the request whose head has this line: the method and the beginning of the
/// path, or the operation of a service that has one path for all.
fn request(line: &str) -> Option<String> {
    if let Some(target) = line.strip_prefix("x-amz-target: ") {
        return Some(target.rsplit('.').next()?.to_owned());
    }
    let (method, path) = line.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let path = path.split('?').next()?.trim_start_matches("/v1").trim_start_matches('/');
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (first, second) = (parts.next()?, parts.next());
    match second.filter(|_| first != "kv") {
        Some(second) => Some(format!("{method} {first}/{second}")),
        None => Some(format!("{method} {first}")),
    }
}

/// The proxy as a counter, with the sides that go through it.
pub(super) struct Counting {
    pub(super) proxy: Proxy,
    pub(super) sides: Vec<Box<dyn Opened>>,
}

#[async_trait]
impl Counter for Counting {
    fn name(&self) -> &'static str {
        "requests and bytes by a proxy before the server, those that nobody waits for among them"
    }

    async fn counts(&self) -> Done<Counts> {
        let seen = lock(&self.proxy.seen);
        let [received, sent] = seen.bytes;
        Ok(Counts { requests: seen.requests.clone(), received: Some(received), sent: Some(sent) })
    }

    fn sides(&self) -> Option<&[Box<dyn Opened>]> {
        Some(&self.sides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_names() {
        for (line, name) in [
            ("GET /v1/kv/ours/k/1?consistent HTTP/1.1", Some("GET kv")),
            ("PUT /v1/session/create HTTP/1.1", Some("PUT session/create")),
            ("PUT /v1/txn HTTP/1.1", Some("PUT txn")),
            ("POST / HTTP/1.1", None),
            ("x-amz-target: DynamoDB_20120810.PutItem", Some("PutItem")),
            ("host: a", None),
        ] {
            assert_eq!(request(line).as_deref(), name, "{line}");
        }
    }
}
