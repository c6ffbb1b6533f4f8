//! Scripts that keep what ours keeps: a version for each key, an index of names, and a message for
//! each change.

use super::{connect, list, say};
use crate::side::{Changes, Done, Side, TTL, VALUE};
use fred::{
    clients::Client,
    interfaces::{EventInterface, PubsubInterface},
    types::{Message, Value},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::broadcast::Receiver;

const GET: &str = "return { redis.call('GET', KEYS[1]), redis.call('HGET', KEYS[2], KEYS[1]) }";
/// Puts a key; the second argument is its TTL in seconds or nothing, the third the version that is
/// expected or nothing.
const PUT: &str = "
    local call = redis.call
    if ARGV[3] ~= '' and call('HGET', KEYS[2], KEYS[1]) ~= ARGV[3] then return false end
    local version = call('INCR', KEYS[4])
    if ARGV[2] == '' then call('SET', KEYS[1], ARGV[1]) else call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
    call('HSET', KEYS[2], KEYS[1], version)
    call('ZADD', KEYS[3], 0, KEYS[1])
    call('PUBLISH', KEYS[1], version)
    return tostring(version)";
const LIST: &str = "
    local names, found = redis.call('ZRANGEBYLEX', KEYS[2], '[' .. ARGV[1], '(' .. ARGV[2]), {}
    for from = 1, #names, 1000 do
        local to = math.min(from + 999, #names)
        local values = redis.call('MGET', unpack(names, from, to))
        local versions = redis.call('HMGET', KEYS[1], unpack(names, from, to))
        for n = 1, #values do
            if values[n] then
                found[#found + 1] = { names[from + n - 1], values[n], versions[n] }
            end
        end
    end
    return found";
const DELETE: &str = "
    local names = redis.call('ZRANGEBYLEX', KEYS[2], '[' .. ARGV[1], '(' .. ARGV[2])
    for from = 1, #names, 1000 do
        local to = math.min(from + 999, #names)
        redis.call('DEL', unpack(names, from, to))
        redis.call('HDEL', KEYS[1], unpack(names, from, to))
        redis.call('ZREM', KEYS[2], unpack(names, from, to))
        for n = from, to do redis.call('PUBLISH', names[n], '') end
    end
    return #names";

const VERSIONS: &str = "eq-versions";
const INDEX: &str = "eq-index";
const COUNTER: &str = "eq-counter";

/// A connection for calls, and one that hears messages.
#[derive(Clone)]
pub(super) struct Eq {
    client: Client,
    hears: Client,
    digests: Arc<[String; 4]>,
}

impl Eq {
    pub(super) async fn open(address: SocketAddr) -> Done<Self> {
        let (client, hears) = (connect(address, 0).await?, connect(address, 0).await?);
        let mut digests = Vec::new();
        for script in [GET, PUT, LIST, DELETE] {
            let digest = say(&client, "SCRIPT", vec!["LOAD".into(), script.into()]).await?;
            digests.push(digest.into_string().ok_or("a script has a digest")?);
        }
        let digests = Arc::new(digests.try_into().map_err(|_| "four scripts")?);
        Ok(Self { client, hears, digests })
    }

    async fn run(&self, script: usize, keys: &[&str], arguments: Vec<Value>) -> Done<Value> {
        let mut all = vec![self.digests[script].as_str().into(), Value::from(i64::try_from(keys.len())?)];
        all.extend(keys.iter().map(|key| Value::from(*key)));
        all.extend(arguments);
        say(&self.client, "EVALSHA", all).await
    }

    async fn write(&self, name: &str, ttl: Option<u64>, expected: Option<String>) -> Done<String> {
        let ttl = ttl.map(|seconds| seconds.to_string()).unwrap_or_default();
        let arguments = vec![VALUE.into(), ttl.into(), expected.unwrap_or_default().into()];
        let version = self.run(1, &[name, VERSIONS, INDEX, COUNTER], arguments).await?;
        Ok(version.into_string().ok_or("the version is another one")?)
    }
}

/// Returns the first name behind all that begin with a directory's, which ends with a slash.
fn behind(directory: &str) -> String {
    format!("{}0", directory.trim_end_matches('/'))
}

impl Side for Eq {
    type Version = String;
    type Guard = ();
    type Changes = Messages;

    fn name(&self, key: &str) -> String {
        format!("eq:{key}")
    }

    fn directory(&self, directory: &str) -> String {
        format!("eq:{directory}/")
    }

    async fn get(&self, name: &str) -> Done<usize> {
        let mut answer = list(self.run(0, &[name, VERSIONS], Vec::new()).await?)?;
        Ok(answer.swap_remove(0).into_bytes().ok_or("the key is not there")?.len())
    }

    async fn put(&self, name: &str) -> Done<()> {
        self.write(name, None, None).await.map(drop)
    }

    async fn put_ttl(&self, name: &str) -> Done<()> {
        self.write(name, Some(TTL), None).await.map(drop)
    }

    async fn written(&self, name: &str) -> Done<String> {
        self.write(name, None, None).await
    }

    async fn atomic_put(&self, name: &str, last: String) -> Done<String> {
        self.write(name, None, Some(last)).await
    }

    async fn list(&self, directory: &str) -> Done<usize> {
        let arguments = vec![directory.into(), behind(directory).into()];
        Ok(list(self.run(2, &[VERSIONS, INDEX], arguments).await?)?.len())
    }

    async fn delete_tree(&self, directory: &str) -> Done<()> {
        let arguments = vec![directory.into(), behind(directory).into()];
        self.run(3, &[VERSIONS, INDEX], arguments).await.map(drop)
    }

    async fn watch(&self, name: &str) -> Done<Messages> {
        let messages = self.hears.message_rx();
        self.hears.subscribe(name).await?;
        Ok(Messages { name: name.to_owned(), messages })
    }
}

/// The messages of one key among those of all.
pub(super) struct Messages {
    name: String,
    messages: Receiver<Message>,
}

impl Changes for Messages {
    async fn next(&mut self) -> Done<()> {
        while *self.messages.recv().await?.channel != *self.name {}
        Ok(())
    }
}
