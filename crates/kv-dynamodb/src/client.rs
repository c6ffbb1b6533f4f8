//! Requests: how often they are sent, how long they are waited for.

use crate::{
    clock::ServiceTime,
    error::{Failed, Fate, unknown},
    item::unique,
    sent,
};
use aws_sdk_dynamodb::Client as Tables;
use aws_sdk_dynamodbstreams::Client as Streams;
use kv_core::{Deadline, Error, ErrorKind, Result};
use std::{
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// How many requests are under way at once: each has a connection of its own.
const AT_ONCE: usize = 64;
/// How long the service remembers a transaction's token is ten minutes.
const REPEATABLE: Duration = Duration::from_secs(5 * 60);

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: renewals, releases, transactions with their token.
    Repeatable,
}

/// The table, its stream, and what time it is there.
pub(crate) struct Client {
    pub(crate) tables: Tables,
    pub(crate) streams: Streams,
    pub(crate) table: String,
    pub(crate) time: ServiceTime,
    slots: Arc<Semaphore>,
}

/// Pauses between attempts: longer and longer, and not all at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let most = 50_u64 << self.0.min(3);
        self.0 += 1;
        Duration::from_millis(most / 2 + unique() % (most / 2))
    }

    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

impl Client {
    pub(crate) fn new(tables: Tables, streams: Streams, table: String, time: ServiceTime) -> Self {
        Self { tables, streams, table, time, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Sends a request, and again when it is certain that it took no effect, or that a repeat is harmless. Ends a moment
    /// before the deadline, so that what is known is told.
    pub(crate) async fn call<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl Fn() -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failed>> + Send,
    {
        let mut left = deadline.remaining();
        left -= left / 50;
        let (deadline, began) = (Deadline::after(left), Instant::now());
        let (mut maybe_done, mut backoff) = (false, Backoff::default());
        loop {
            let Failed { fate, error, .. } = match self.attempt(does, deadline, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if error.kind() == ErrorKind::Closed {
                return Err(error);
            }
            maybe_done |= fate == Fate::Unknown;
            match fate {
                Fate::Refused if maybe_done && does != Does::Read => return Err(unknown(error)),
                Fate::Refused => return Err(error),
                Fate::Unknown if does == Does::Write => return Err(unknown(error)),
                Fate::Unknown if does == Does::Repeatable && began.elapsed() > REPEATABLE => {
                    return Err(unknown(error));
                }
                _ => {}
            }
            let pause = backoff.next();
            if pause >= deadline.remaining() {
                return Err(if maybe_done && does != Does::Read { unknown(error) } else { error });
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: &(impl Fn() -> F + Send),
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Failed>> + Send,
    {
        let none = |what: &str| {
            let why = format!("DynamoDB: no {what} within {:?}", deadline.within());
            Failed { silent: true, ..Failed::new(Fate::Undone, ErrorKind::Timeout, why) }
        };
        let closed = || Failed::new(Fate::Refused, ErrorKind::Closed, "the store was closed");
        let _slot = match deadline.limit(self.slots.acquire()).await {
            Some(slot) => slot.map_err(|_| closed())?,
            None => return Err(none("free connection")),
        };
        // A silent connection must leave time for another one.
        let patience = match does {
            Does::Write => deadline,
            _ => Deadline::after((deadline.remaining() / 2).max(Duration::from_millis(50))),
        };
        let (asked, sent) = sent::watched(request());
        match patience.limit(asked).await {
            Some(answer) => answer,
            None if sent.maybe() => Err(Failed { fate: Fate::Unknown, ..none("answer") }),
            None => Err(none("connection")),
        }
    }

    /// Ends what waits for its turn.
    pub(crate) fn close(&self) {
        self.slots.close();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {:?}", self.table)
    }
}

/// The service answered what it never should.
pub(crate) fn corrupt(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sent::Sending;
    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
    use kv_core::backend::Clock;
    use std::net::SocketAddr;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    async fn write_to(address: SocketAddr) -> Error {
        let shared = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(format!("http://{address}"))
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "id", "secret", None, None, "tests",
            )))
            .build();
        let config = aws_sdk_dynamodb::config::Builder::from(&shared).interceptor(Sending).build();
        let (tables, streams) = (Tables::from_conf(config), Streams::new(&shared));
        let client = Client::new(tables, streams, "t".into(), ServiceTime::new(Clock::system()));
        let write = || async {
            let written = client.tables.delete_item().table_name("t").send().await;
            written.map(drop).map_err(Failed::from)
        };
        let within = Deadline::after(Duration::from_millis(300));
        client.call(Does::Write, within, write).await.expect_err("nobody answers")
    }

    #[tokio::test]
    async fn a_write_that_never_had_a_connection_did_not_happen() -> std::io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let full = socket.listen(1)?;
        let address = full.local_addr()?;
        let mut queue = Vec::new();
        // Whoever comes behind these is neither let in nor refused.
        while let Ok(there) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queue.push(there?);
        }
        assert_eq!(write_to(address).await.kind(), ErrorKind::Timeout);
        Ok(())
    }

    #[tokio::test]
    async fn of_a_write_that_was_sent_nobody_knows() -> std::io::Result<()> {
        let silent = TcpListener::bind("127.0.0.1:0").await?;
        assert_eq!(write_to(silent.local_addr()?).await.kind(), ErrorKind::OutcomeUnknown);
        Ok(())
    }
}
