//! Requests: how often they are sent, how long they are waited for.

use crate::{
    clock::ServiceTime,
    error::{Failed, Fate, unknown},
    item::unique,
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
        match patience.limit(request()).await {
            Some(answer) => answer,
            None => Err(Failed { fate: Fate::Unknown, ..none("answer") }),
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
