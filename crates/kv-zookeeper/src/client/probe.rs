//! Asks one host without the client: with the command `srvr` for its version, whether it leads,
//! and what is wrong with TLS, of which the client says nothing; and for the time-outs that it
//! grants sessions.

use super::{limits::Limits, tls::Tls};
use futures::future::{BoxFuture, Fuse, FutureExt};
use kv_core::{Error, ErrorKind, Result, driver::Deadline};
use rustls::{Error as TlsError, InvalidMessage, pki_types::ServerName};
use std::{fmt, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// After this time without an answer a server is sent the end of a line: a server that is no
/// ZooKeeper may wait for one.
const NUDGE: Duration = Duration::from_secs(1);
/// The most bytes of an answer that are read: they tell whether a ZooKeeper answers.
const ENOUGH: usize = 64 << 10;
/// The beginnings of a ZooKeeper's answers to `srvr`.
const OURS: [&[u8]; 3] = [b"Zookeeper version:", b"This ZooKeeper instance", b"srvr is not executed"];

/// The answer of a host about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probe {
    /// The version; empty where the server's whitelist does not allow `srvr`.
    pub(crate) version: String,
    /// The mode: `leader`, `follower`, `observer` or `standalone`.
    pub(crate) mode: String,
}

/// Asks one host. An error that is not transient is one that no other attempt mends. With `first`,
/// when no connection ever stood, the settings may be wrong, and the error names those to check.
pub(crate) async fn probe(host: &str, tls: Option<&Tls>, deadline: Deadline, first: bool) -> Result<Probe> {
    let answer = match deadline.limit(ask_over(host, tls)).await {
        Some(Ok(answer)) => answer,
        Some(Err(e)) if is_end(&e) => match tls {
            Some(_) => return Err(no_tls(host, deadline, e).await),
            None => Vec::new(),
        },
        Some(Err(e)) => return Err(of_io(host, e)),
        None => {
            // A port that speaks TLS alone waits for the rest of a handshake.
            let hint = if tls.is_none() && first { "; if it speaks TLS alone, give `ca`" } else { "" };
            let why = format!("{host} does not answer within {deadline}{hint}");
            return Err(Error::new(ErrorKind::Timeout, why));
        }
    };
    if answer.is_empty() {
        let why = match (tls, first) {
            // A port that speaks TLS alone ends a connection in plain text.
            (None, true) => format!("is it a ZooKeeper? If it speaks TLS alone, give `ca`; {TOO_MANY}"),
            (Some(_), true) => {
                format!("it may want a client certificate, `cert` and `key`; {TOO_MANY}")
            }
            (_, false) => TOO_MANY.to_owned(),
        };
        return Err(Error::new(ErrorKind::Unavailable, format!("{host} ended the connection; {why}")));
    }
    if is_others(&answer) {
        let said: String = String::from_utf8_lossy(&answer).chars().take(60).collect();
        let why = format!("{host} does not answer as a ZooKeeper does; is it one? It says {:?}", said.trim());
        return Err(Error::new(ErrorKind::InvalidArgument, why));
    }
    let answer = String::from_utf8_lossy(&answer);
    let field = |name: &str| {
        answer.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    let version = field("Zookeeper version:");
    let version = version.split(['-', ',']).next().unwrap_or_default().to_owned();
    let mode = field("Mode:").to_owned();
    if answer.contains("not currently serving requests") || mode == "read-only" {
        let why = format!("{host} serves no requests now, or reads alone: it has no quorum");
        return Err(Error::new(ErrorKind::Unavailable, why));
    }
    Ok(Probe { version, mode })
}

const TOO_MANY: &str =
    "or it has as many from this address as its `maxClientCnxns` allows, 60 unless it is set otherwise";

async fn ask_over(host: &str, tls: Option<&Tls>) -> io::Result<Vec<u8>> {
    let stream = connect(host).await?;
    match tls {
        Some(tls) => ask(shaken(host, tls, stream).await?).await,
        None => ask(stream).await,
    }
}

async fn connect(host: &str) -> io::Result<TcpStream> {
    let found = lookup_host(host).await.map_err(|e| io::Error::other(NoName(e)))?;
    TcpStream::connect(&*found.collect::<Vec<_>>()).await
}

async fn shaken(host: &str, tls: &Tls, stream: TcpStream) -> io::Result<Box<TlsStream<TcpStream>>> {
    let server = name(host).map_err(io::Error::other)?;
    Box::pin(TlsConnector::from(tls.config.clone()).connect(server, stream)).await.map(Box::new)
}

/// The system's error for a name that it does not find.
#[derive(Debug)]
struct NoName(io::Error);

impl fmt::Display for NoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NoName {}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Vec<u8>> {
    stream.write_all(b"srvr").await?;
    stream.flush().await?;
    let (mut answer, mut nudged) = (Vec::with_capacity(4096), false);
    while answer.len() < ENOUGH && !is_others(&answer) {
        let read = stream.read_buf(&mut answer);
        let read = match nudged {
            true => read.await,
            false => match tokio::time::timeout(NUDGE, read).await {
                Ok(read) => read,
                Err(_) => {
                    nudged = true;
                    stream.write_all(b"\r\n\r\n").await?;
                    stream.flush().await?;
                    continue;
                }
            },
        };
        match read {
            Ok(0) => break,
            Ok(_) => {}
            // Servers end TLS without `close_notify`, and with a reset when they have not read
            // everything.
            Err(e) if answer.is_empty() && !is_end(&e) => return Err(e),
            Err(_) => break,
        }
    }
    Ok(answer)
}

/// Returns whether no answer of a ZooKeeper begins like this.
fn is_others(answer: &[u8]) -> bool {
    !OURS.iter().any(|ours| ours.iter().zip(answer).all(|(ours, found)| ours == found))
}

/// Returns whether the error says that the server ended the connection.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// Returns the meaning of a connection that ended within its TLS handshake.
async fn no_tls(host: &str, deadline: Deadline, error: io::Error) -> Error {
    // A server without TLS ends a connection that begins with a handshake, and answers one in
    // plain text.
    let plain = deadline.limit(ask_over(host, None)).await;
    let (kind, why) = match plain {
        Some(Ok(answer)) if !answer.is_empty() => (ErrorKind::InvalidArgument, NO_TLS.to_owned()),
        _ => (ErrorKind::Unavailable, format!("ended the connection before TLS was agreed on, {TOO_MANY}")),
    };
    Error::new(kind, format!("{host}: {why}")).with_cause(error)
}

/// Returns the name that a host's certificate must have.
pub(crate) fn name(host: &str) -> Result<ServerName<'static>> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(name.to_owned()).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, format!("the host {host:?} is no name for TLS")).with_cause(e)
    })
}

fn of_io(host: &str, error: io::Error) -> Error {
    let inner = error.get_ref();
    let said = inner.and_then(|e| e.downcast_ref::<TlsError>());
    let (kind, why) = match said {
        Some(TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented) => (
            ErrorKind::Unauthenticated,
            "its certificate is not trusted; name its CA as `ca`, and the host as the certificate names it",
        ),
        Some(TlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            (ErrorKind::InvalidArgument, NO_TLS)
        }
        Some(TlsError::AlertReceived(_)) => (
            ErrorKind::Unauthenticated,
            "refused TLS with us; it may want a client certificate, `cert` and `key`",
        ),
        Some(_) => (ErrorKind::Unauthenticated, "TLS failed"),
        None if inner.is_some_and(|e| e.is::<NoName>()) => {
            (ErrorKind::Unavailable, "its name is not known here")
        }
        None => (ErrorKind::Unavailable, "cannot be reached"),
    };
    Error::new(kind, format!("{host}: {why}")).with_cause(error)
}

const NO_TLS: &str = "does not speak TLS; leave out the TLS settings, or give the port that does";

/// The time-out that a host granted a session that was opened only to learn it.
pub(crate) struct Granted {
    pub(crate) time: Duration,
    /// Ready when the server has ended the session and its connection, as it was asked to.
    pub(crate) ended: Fuse<BoxFuture<'static, ()>>,
}

/// Returns the least and the greatest time-out that the server grants a session: it is asked for
/// none, and for the greatest possible.
pub(crate) async fn limits(host: &str, tls: Option<&Tls>, deadline: Deadline) -> Result<Limits> {
    let least = granted(host, tls, Duration::ZERO, deadline).await?;
    deadline.limit(least.ended).await;
    let greatest = granted(host, tls, Duration::MAX, deadline).await?;
    deadline.limit(greatest.ended).await;
    Ok(Limits { least: least.time, greatest: greatest.time })
}

/// Asks for a session of this time-out, in the server's own protocol, and ends it. The client
/// cannot do this: it gives up a connection that takes longer than the time-out it asks for.
pub(crate) async fn granted(
    host: &str,
    tls: Option<&Tls>,
    asked: Duration,
    deadline: Deadline,
) -> Result<Granted> {
    let asked = i32::try_from(asked.as_millis()).unwrap_or(i32::MAX);
    let ask = async {
        let stream = connect(host).await?;
        match tls {
            Some(tls) => shake(shaken(host, tls, stream).await?, asked).await,
            None => shake(stream, asked).await,
        }
    };
    let (millis, ended) = match deadline.limit(ask).await {
        Some(Ok(granted)) => granted,
        // The host answered `srvr` a moment ago.
        Some(Err(e)) if is_end(&e) => {
            let why =
                format!("{host} ended the connection and granted no session: it has no quorum, {TOO_MANY}");
            return Err(Error::new(ErrorKind::Unavailable, why).with_cause(e));
        }
        Some(Err(e)) => return Err(of_io(host, e)),
        None => {
            let why = format!("{host} granted no session within {deadline}");
            return Err(Error::new(ErrorKind::Timeout, why));
        }
    };
    // A host says "no time" of a session that expired before it could answer.
    let Some(millis) = u64::try_from(millis).ok().filter(|&millis| millis > 0) else {
        let why = format!("{host} is too slow: the session expired before it was granted");
        return Err(Error::new(ErrorKind::Unavailable, why));
    };
    Ok(Granted { time: Duration::from_millis(millis), ended: ended.fuse() })
}

async fn shake(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    asked: i32,
) -> io::Result<(i32, BoxFuture<'static, ()>)> {
    // The request is a length, the protocol's version, the last zxid seen, the time-out, no
    // session, no password, and no wish for a read-only server.
    let mut request = vec![0; 4 + 45];
    request[3] = 45;
    request[16..20].copy_from_slice(&asked.to_be_bytes());
    request[31] = 16;
    stream.write_all(&request).await?;
    stream.flush().await?;
    // The answer begins with a length and the version.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    // The first request closes the session.
    stream.write_all(&[0, 0, 0, 8, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf5]).await?;
    stream.flush().await?;
    let millis = i32::from_be_bytes([answer[8], answer[9], answer[10], answer[11]]);
    // The session has ended when the answer comes, or when the connection ends.
    let ended = async move { drop(stream.read_to_end(&mut Vec::new()).await) };
    Ok((millis, ended.boxed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_reads_nothing_and_hangs_up_may_want_tls() -> io::Result<()> {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let host = server.local_addr()?.to_string();
        let hangs_up = async {
            let (client, _) = server.accept().await?;
            // Bytes that came and were not read turn the end into a reset.
            client.peek(&mut [0]).await
        };
        let (found, ended) =
            tokio::join!(probe(&host, None, Deadline::after(Duration::from_secs(10)), true), hangs_up);
        ended?;
        let error = found.err().ok_or(io::ErrorKind::InvalidData)?;
        assert!(error.to_string().contains("`ca`"), "{error}");
        Ok(())
    }

    #[tokio::test]
    async fn a_host_whose_sessions_expire_before_they_are_granted_may_be_faster_next_time() -> io::Result<()>
    {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let host = server.local_addr()?.to_string();
        let grants_no_time = async {
            let (mut client, _) = server.accept().await?;
            client.read_exact(&mut [0; 4 + 45]).await?;
            client.write_all(&[0, 0, 0, 37, 0, 0, 0, 0, 0, 0, 0, 0]).await
        };
        let deadline = Deadline::after(Duration::from_secs(10));
        let (found, granted) = tokio::join!(granted(&host, None, Duration::ZERO, deadline), grants_no_time);
        granted?;
        let error = found.err().ok_or(io::ErrorKind::InvalidData)?;
        assert!(error.is_transient() && error.to_string().contains("too slow"), "{error}");
        Ok(())
    }
}
