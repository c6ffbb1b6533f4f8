//! The plainest commands.

use super::{connect, list, say};
use crate::side::{Changes, Done, Side, TTL, VALUE};
use fred::{
    clients::Client,
    interfaces::{EventInterface, PubsubInterface},
    types::{KeyspaceEvent, Message, Value},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::broadcast::Receiver, time::timeout};

/// Writes a value in the place of another one.
const SWAP: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('SET', KEYS[1], ARGV[2]) end";
/// Gives a lock back, and says so.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) \
                       return redis.call('PUBLISH', KEYS[1], '') end";
/// The time after which one who waits for a lock looks again, in case that it heard nothing.
const LOOK: Duration = Duration::from_millis(200);

/// The database of this side alone: a `SCAN` goes through all names of its own.
const DATABASE: u8 = 1;

/// A connection for calls, and one that hears messages.
#[derive(Clone)]
pub(super) struct Raw {
    address: SocketAddr,
    client: Client,
    hears: Client,
    swap: Arc<str>,
    release: Arc<str>,
}

impl Raw {
    pub(super) async fn open(address: SocketAddr) -> Done<Self> {
        let (client, hears) = (connect(address, DATABASE).await?, connect(address, DATABASE).await?);
        let load = async |script: &'static str| {
            let digest = say(&client, "SCRIPT", vec!["LOAD".into(), script.into()]).await?;
            Done::Ok(Arc::from(digest.into_string().ok_or("a script has a digest")?))
        };
        let (swap, release) = (load(SWAP).await?, load(RELEASE).await?);
        Ok(Self { address, client, hears, swap, release })
    }

    /// Returns all names that begin with this.
    async fn scan(&self, directory: &str) -> Done<Vec<Value>> {
        let (mut names, mut cursor) = (Vec::new(), Value::from("0"));
        loop {
            let arguments =
                vec![cursor, "MATCH".into(), format!("{directory}*").into(), "COUNT".into(), "1000".into()];
            let mut page = list(say(&self.client, "SCAN", arguments).await?)?;
            names.extend(list(page.pop().ok_or("a page has names")?)?);
            cursor = page.pop().ok_or("a page has a cursor")?;
            if cursor.as_str().as_deref() == Some("0") {
                return Ok(names);
            }
        }
    }
}

fn expect_ok(answer: &Value) -> Done<()> {
    match answer.is_ok() {
        true => Ok(()),
        false => Err(format!("the answer is {answer:?}").into()),
    }
}

impl Side for Raw {
    type Version = ();
    type Guard = (String, String);
    type Changes = Events;

    fn name(&self, key: &str) -> String {
        format!("raw:{key}")
    }

    fn directory(&self, directory: &str) -> String {
        format!("raw:{directory}/")
    }

    async fn another(&self) -> Done<Self> {
        Self::open(self.address).await
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let value = say(&self.client, "GET", vec![name.into()]).await?;
        Ok(value.into_bytes().ok_or("the key is not there")?.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        expect_ok(&say(&self.client, "SET", vec![name.into(), VALUE.into()]).await?)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        let seconds = TTL.to_string();
        expect_ok(
            &say(&self.client, "SET", vec![name.into(), VALUE.into(), "EX".into(), seconds.into()]).await?,
        )
    }

    async fn written(&self, name: &str) -> Done<()> {
        self.put(name).await
    }

    async fn atomic_put(&self, name: &str, (): ()) -> Done<()> {
        let arguments = vec![(&*self.swap).into(), "1".into(), name.into(), VALUE.into(), VALUE.into()];
        expect_ok(&say(&self.client, "EVALSHA", arguments).await?)
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let names = self.scan(directory).await?;
        if names.is_empty() {
            return Ok(0);
        }
        Ok(list(say(&self.client, "MGET", names).await?)?.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let names = self.scan(directory).await?;
        say(&self.client, "DEL", names).await.map(drop)
    }

    async fn lock(&self, name: &str) -> Done<(String, String)> {
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        let token = TOKENS.fetch_add(1, Ordering::Relaxed).to_string();
        let mut messages: Option<Receiver<Message>> = None;
        loop {
            let arguments = vec![
                name.into(),
                token.clone().into(),
                "NX".into(),
                "PX".into(),
                (TTL * 1_000).to_string().into(),
            ];
            if say(&self.client, "SET", arguments).await?.is_ok() {
                return Ok((name.to_owned(), token));
            }
            match &mut messages {
                // A release between the attempt and this would not be heard: try once more.
                None => {
                    messages = Some(self.hears.message_rx());
                    self.hears.subscribe(name).await?;
                }
                Some(messages) => {
                    let _ = timeout(LOOK, messages.recv()).await;
                }
            }
        }
    }

    async fn unlock(&self, (name, token): (String, String)) -> Done<()> {
        let arguments = vec![(&*self.release).into(), "1".into(), name.into(), token.into()];
        say(&self.client, "EVALSHA", arguments).await.map(drop)
    }

    async fn watch(&self, name: &str) -> Done<Events> {
        say(&self.client, "CONFIG", vec!["SET".into(), "notify-keyspace-events".into(), "K$".into()]).await?;
        let events = self.hears.keyspace_event_rx();
        self.hears.subscribe(format!("__keyspace@{DATABASE}__:{name}")).await?;
        Ok(Events { name: name.to_owned(), events })
    }
}

/// The events of one key among those of all.
pub(super) struct Events {
    name: String,
    events: Receiver<KeyspaceEvent>,
}

impl Changes for Events {
    async fn next(&mut self) -> Done<()> {
        while self.events.recv().await?.key.as_str() != Some(&self.name) {}
        Ok(())
    }
}
