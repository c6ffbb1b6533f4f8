//! One connection to one server.

use crate::{
    client::access::Access,
    error::{Code, cluster_down, code, failed, failure, no_tls, not_connected},
    version::Latest,
};
use fred::{
    clients::Client as Connection,
    error::Error as ClientError,
    interfaces::{ClientLike, EventInterface, MetricsInterface, PubsubInterface},
    types::{
        ClusterHash, CustomCommand, Message, RespVersion, Value,
        config::{Config, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig, TlsConfig},
    },
};
use futures::FutureExt;
use kv_core::{
    ErrorKind,
    backend::{
        AbortOnDrop, Mutex, catch_up,
        retry::{Effect, RequestError},
    },
    driver::Deadline,
};
use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::Poll,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, broadcast, watch};

/// The time that making a connection may take, TLS and log-in included.
const CONNECT: Duration = Duration::from_secs(2);
/// After this time without use a connection may have ended without that being noticed.
const QUIET: Duration = Duration::from_millis(20);
/// The time that the client gets to tell why it ended a connection, and that earlier requests get
/// to read their answers.
const WHY: Duration = Duration::from_millis(100);
/// The number of messages that may wait between the client's reader and ours. Those beyond it are
/// dropped, and the watches list again.
const MESSAGES: usize = 4096;

/// A connection that is never mended: when it breaks it is over, and every request under way
/// fails. The client is told to send nothing twice and to make no connection by itself.
pub(crate) struct Link {
    pub(crate) address: String,
    connection: Connection,
    reader: AbortOnDrop,
    ended: watch::Receiver<()>,
    /// The time at which the first request was sent since the last answer, and the number of
    /// answers by then.
    asked: Mutex<Option<(Instant, u64)>>,
    /// The time at which an answer was last read by its caller.
    heard_at: Mutex<Instant>,
    /// The number of the newest request; requests are numbered in the order in which they are
    /// sent.
    sent: Mutex<u64>,
    /// Tells whether the client ended the connection because the cluster is down; and the errors
    /// by which the client reports ends.
    errors: Mutex<(bool, Errors)>,
    /// The number of the newest answered request. All requests before it were answered as well.
    answered: AtomicU64,
    /// Notified whenever a request is answered.
    told: Notify,
    /// The greatest number that a note may have, as the server said last; 0 before that.
    latest: AtomicU64,
    /// Tells whether the user may not do what the script for one key does.
    is_narrow: AtomicBool,
}

type Errors = broadcast::Receiver<(ClientError, Option<Server>)>;

impl Link {
    /// Connects and logs in.
    pub(crate) async fn open(address: &str, access: &Access) -> Result<Self, RequestError> {
        let failed = match Self::try_open(address, access).await {
            Ok(link) => {
                access.is_right();
                return Ok(link);
            }
            Err(failed) => failed,
        };
        if access.tls.is_none() || access.was_right() || failed.effect == Effect::Refused {
            return Err(failed);
        }
        // A server without TLS takes the handshake for a command line and waits for its end. So it
        // is asked in plain text, without a password.
        let plain = Access { tls: None, ..access.nobody() };
        match Self::try_open(address, &plain).await {
            Ok(_) => Err(no_tls(address)),
            Err(RequestError { error, .. }) if error.kind() == ErrorKind::Unauthenticated => {
                Err(no_tls(address))
            }
            Err(_) => Err(failed),
        }
    }

    async fn try_open(address: &str, access: &Access) -> Result<Self, RequestError> {
        let Some((host, port)) = split(address) else {
            let why =
                format!("{address:?} is no address; one looks like host:6379, its port from 1 to 65535");
            return Err(failure(Effect::Refused, ErrorKind::InvalidArgument, why));
        };
        // Certificates may have been renewed since the last connection.
        let tls = access.tls.as_ref().map(|tls| tls.connector());
        let mut server = Server::new(host, port);
        server.tls_server_name = access.tls.as_ref().and_then(|tls| tls.server_name()).map(Into::into);
        let config = Config {
            server: ServerConfig::Centralized { server },
            version: RespVersion::RESP3,
            username: access.user.clone(),
            password: access.password.as_ref().map(|password| password.reveal().to_owned()),
            database: access.database,
            tls: tls.map(TlsConfig::from),
            fail_fast: true,
            ..Config::default()
        };
        let once = ConnectionConfig {
            connection_timeout: CONNECT,
            internal_command_timeout: CONNECT,
            max_command_attempts: 1,
            max_redirections: 0,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        };
        let performance = PerformanceConfig { broadcast_channel_capacity: MESSAGES, ..Default::default() };
        // The last argument, `None`, means that the client never reconnects.
        let connection = Connection::new(config, Some(performance), Some(once), None);
        let (end, ended) = watch::channel(());
        let waiting = connection.clone();
        let mut connected = pin!(waiting.wait_for_connect());
        // The future listens from its first poll on: polled before the connection is begun, it
        // misses nothing.
        let _ = futures::poll!(connected.as_mut());
        let errors = connection.error_rx();
        let task = connection.connect();
        let reader = AbortOnDrop::new(task.abort_handle());
        tokio::spawn(async move {
            // The task ends when it is aborted or the connection breaks.
            let _ = task.await;
            drop(end);
        });
        match tokio::time::timeout(2 * CONNECT, connected).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(not_connected(address, access, &e)),
            Err(_) => {
                let why = format!("{address}: no connection within {:?}", 2 * CONNECT);
                return Err(failure(Effect::None, ErrorKind::Timeout, why));
            }
        }
        Ok(Self {
            address: address.to_owned(),
            reader,
            ended,
            asked: Mutex::default(),
            heard_at: Mutex::new(Instant::now()),
            sent: Mutex::default(),
            errors: Mutex::new((false, errors)),
            answered: AtomicU64::default(),
            told: Notify::new(),
            latest: AtomicU64::default(),
            is_narrow: AtomicBool::default(),
            connection,
        })
    }

    /// Returns a number that grows with each answer of the server, as the task counts them that
    /// reads the connection: nobody may poll the request that is answered.
    pub(crate) fn heard(&self) -> u64 {
        self.connection.read_res_size_metrics().samples
    }

    /// Returns for how long requests have waited without any answer.
    pub(crate) fn silence(&self) -> Duration {
        let heard = self.heard();
        let waits = self.asked.lock().filter(|(_, before)| *before == heard);
        waits.map_or(Duration::ZERO, |(since, _)| since.elapsed())
    }

    /// Notes that a request is sent.
    fn asks(&self) {
        let mut asked = self.asked.lock();
        let heard = self.heard();
        if asked.is_none_or(|(_, before)| before != heard) {
            *asked = Some((Instant::now(), heard));
        }
    }

    /// Returns whether the connection stands, as far as can be known without asking the server. A
    /// runtime that stood still has not read yet what arrived meanwhile, perhaps the end of the
    /// connection. So, before anything is sent, the runtime gets a few turns to read it. The caller
    /// keeps the deadline.
    pub(crate) async fn stands(&self) -> bool {
        let is_quiet = self.heard_at.lock().elapsed() > QUIET;
        if is_quiet {
            catch_up(Deadline::NEVER, || self.has_ended()).await;
        }
        !self.has_ended()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }

    /// Waits until the connection is over.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    /// Ends the connection.
    pub(crate) fn end(&self) {
        self.reader.abort();
    }

    /// Remembers the greatest number that a note may have. It only grows, with the server's time.
    pub(crate) fn believe(&self, latest: Latest) {
        self.latest.fetch_max(latest.0.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Returns the greatest number that a note may have by what is known.
    pub(crate) fn latest(&self) -> Latest {
        Latest(Some(self.latest.load(Ordering::Relaxed)))
    }

    /// Remembers that the user may not do what the script for one key does.
    pub(crate) fn narrow(&self) {
        self.is_narrow.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_narrow(&self) -> bool {
        self.is_narrow.load(Ordering::Relaxed)
    }

    /// Returns the messages that are published to this connection from here on.
    pub(crate) fn messages(&self) -> broadcast::Receiver<Message> {
        self.connection.message_rx()
    }

    /// Ends a subscription. The server's answer comes as one of the messages.
    pub(crate) async fn unsubscribe(&self, channel: &str) -> Result<(), RequestError> {
        let ended = self.connection.sunsubscribe(channel);
        ended.await.map_err(|e| failed(&self.address, &e))
    }

    /// Sends a command once, and waits for the answer.
    pub(crate) async fn call(
        &self,
        command: &'static str,
        arguments: Vec<Value>,
    ) -> Result<Value, RequestError> {
        let over = |effect| {
            let why = format!("{}: the connection broke", self.address);
            failure(effect, ErrorKind::Unavailable, why)
        };
        if self.has_ended() {
            return Err(over(Effect::None));
        }
        self.asks();
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        // Boxed to erase the type: the futures of callers would nest too deeply for the compiler.
        let mut asked = self.connection.custom::<Value, Value>(command, arguments).boxed();
        // The first poll hands the request to the client. It is polled under the lock, so that
        // requests are sent in the order of their numbers.
        let (number, first) = poll_fn(|cx| {
            let mut sent = self.sent.lock();
            *sent += 1;
            Poll::Ready((*sent, asked.as_mut().poll(cx)))
        })
        .await;
        let answer = match first {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => tokio::select! {
                biased;
                answer = asked => Some(answer),
                () = self.ended() => None,
            },
        };
        let mut failed = match answer {
            Some(Ok(answer)) => {
                self.hears(number);
                return Ok(answer);
            }
            Some(Err(e)) => failed(&self.address, &e),
            // The client may also have ended the connection before it gave the request up.
            None => over(Effect::Unknown),
        };
        if failed.effect == Effect::Unknown && !self.is_cluster_down() {
            // The client tells why it ended the connection only after it has given up the
            // requests.
            let _ = tokio::time::timeout(WHY, self.ended()).await;
        }
        if code(&failed) == Some(&Code::ClusterDown)
            || failed.effect == Effect::Unknown && self.is_cluster_down()
        {
            // The server said `CLUSTERDOWN` to the first request that it had not answered yet,
            // whatever the client tells that request.
            failed = match self.was_next(number).await {
                true => cluster_down(&self.address),
                false => RequestError { effect: Effect::Unknown, ..failed },
            };
        } else if failed.effect != Effect::Unknown {
            self.hears(number);
        }
        Err(failed)
    }

    /// Returns whether all requests before this one were answered. It waits a little for those
    /// whose tasks have not read their answers yet.
    async fn was_next(&self, number: u64) -> bool {
        let next = async {
            loop {
                let mut told = pin!(self.told.notified());
                told.as_mut().enable();
                if self.answered.load(Ordering::SeqCst) + 1 >= number {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(WHY, next).await.is_ok()
    }

    /// Returns whether the client ended the connection because the cluster is down.
    fn is_cluster_down(&self) -> bool {
        let mut errors = self.errors.lock();
        while let Ok((error, _)) = errors.1.try_recv() {
            errors.0 |= error.details().starts_with("CLUSTERDOWN");
        }
        errors.0
    }

    fn hears(&self, number: u64) {
        self.answered.fetch_max(number, Ordering::SeqCst);
        self.told.notify_waiters();
        *self.heard_at.lock() = Instant::now();
    }
}

/// Splits an address into host and port; `None` if it is no address.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}
