//! Requests: how often they are sent, how long they are waited for.

use crate::{
    clock::ServiceTime,
    error::{Failed, Fate, unknown},
    login::Login,
    sent,
};
use aws_sdk_dynamodb::Client as Tables;
use aws_sdk_dynamodbstreams::Client as Streams;
use kv_core::{Deadline, Error, ErrorKind, Result, backend::Backoff};
use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// How many calls are under way at once: each has a connection of its own.
const AT_ONCE: usize = 64;
/// The same of what keeps locks and leases, which stands in no line behind calls; and of the keys of large leases, behind
/// which no lock stands in line.
const KEPT_AT_ONCE: usize = 16;
const KEYS_AT_ONCE: usize = 32;
/// How long the service remembers a transaction's token is ten minutes.
const REPEATABLE: Duration = Duration::from_secs(5 * 60);

/// What repeating a request would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It changes nothing.
    Read,
    /// Another client may write between the two.
    Write,
    /// Its effect is bound to an id of our own: transactions with their token, locks with their owner.
    Repeatable,
    /// As that, of what keeps a lock or lease, or gives it back.
    Keeps,
    /// As that, of a key of a large lease.
    KeepsKey,
}

/// The lines in which requests wait for their connections.
struct Lanes {
    calls: Semaphore,
    keeps: Semaphore,
    keys: Semaphore,
}

impl Lanes {
    fn of(&self, does: Does) -> &Semaphore {
        match does {
            Does::Read | Does::Write | Does::Repeatable => &self.calls,
            Does::Keeps => &self.keeps,
            Does::KeepsKey => &self.keys,
        }
    }
}

/// The table, its stream, and what time it is there.
pub(crate) struct Client {
    pub(crate) tables: Tables,
    pub(crate) streams: Streams,
    pub(crate) table: String,
    pub(crate) time: ServiceTime,
    pub(crate) login: Login,
    lanes: Lanes,
}

/// The pauses between attempts.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_millis(800))
}

impl Client {
    pub(crate) fn new(
        tables: Tables,
        streams: Streams,
        table: String,
        time: ServiceTime,
        login: Login,
    ) -> Self {
        let lanes = Lanes {
            calls: Semaphore::new(AT_ONCE),
            keeps: Semaphore::new(KEPT_AT_ONCE),
            keys: Semaphore::new(KEYS_AT_ONCE),
        };
        Self { tables, streams, table, time, login, lanes }
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
        Ok(self.answer(does, deadline, request).await?.0)
    }

    /// As [`call`](Self::call), and whether an earlier attempt may have taken effect, so that the answer may be one to our own
    /// doing.
    pub(crate) async fn answer<T, F>(
        &self,
        does: Does,
        deadline: Deadline,
        request: impl Fn() -> F + Send,
    ) -> Result<(T, bool)>
    where
        F: Future<Output = Result<T, Failed>> + Send,
    {
        let mut left = deadline.remaining();
        left -= left / 50;
        let (deadline, began) = (Deadline::after(left), Instant::now());
        let (mut maybe_done, mut backoff) = (false, backoff());
        loop {
            // Boxed, as the SDK's futures are so deep that compilers of programs give up on what is around them.
            let Failed { fate, error, .. } = match Box::pin(self.attempt(does, deadline, &request)).await {
                Ok(answer) => return Ok((answer, maybe_done)),
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
                Fate::Unknown if does != Does::Read && began.elapsed() > REPEATABLE => {
                    return Err(unknown(error));
                }
                _ => {}
            }
            let pause = backoff.delay();
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
        let _slot = match deadline.limit(self.lanes.of(does).acquire()).await {
            Some(slot) => slot.map_err(|_| closed())?,
            None => return Err(none("free connection")),
        };
        // A silent connection must leave time for another one.
        let patience = match does {
            Does::Write => deadline,
            _ => Deadline::after((deadline.remaining() / 2).max(Duration::from_millis(50))),
        };
        if does == Does::Write {
            // A runtime that stood still (`block_on` now and then) hears first which connections have ended meanwhile, and then
            // those see it: what is written into one of those would have an unknown outcome.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        let (asked, sent) = sent::watched(self.login.with(request));
        match patience.limit(asked).await {
            Some(answer) => answer,
            None if sent.maybe() => Err(Failed { fate: Fate::Unknown, ..none("answer") }),
            None => Err(none("connection")),
        }
    }

    /// Ends what waits for its turn.
    pub(crate) fn close(&self) {
        [&self.lanes.calls, &self.lanes.keeps, &self.lanes.keys].into_iter().for_each(Semaphore::close);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {:?}", self.table)
    }
}

/// It was done, and what it met is not known.
pub(crate) fn unknown_whether(why: &'static str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, why)
}

/// The service answered what it never should.
pub(crate) fn corrupt(why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

/// An item is there, and what it says makes no sense.
pub(crate) fn damaged(what: &str, name: &str, attribute: &str) -> Error {
    let why = format!(
        "the attribute {attribute:?} of the {what} {name:?} is damaged, or another tool's: it is of another type than this \
         library's, or far beyond the service's time; nothing was written; delete the item, or write it anew"
    );
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
        let (time, login) = (ServiceTime::new(Clock::system()), Login::new(None, None, None));
        let client = Client::new(tables, streams, "t".into(), time, login);
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
