//! A store in one slot: what it knows of its server, and the calls that are one script.

use crate::{
    client::{
        Client, Request,
        about::About,
        access::Access,
        link::Link,
        script::{self, Answer, Script, digest, next},
    },
    config::refused,
    error::corrupt,
    lock::session::Sessions,
    names::Names,
    watch::feed::Feed,
};
use fred::types::Value;
use kv_core::{
    backend::{Clock, Tasks, retry::RetrySafety, unique},
    *,
};
use std::sync::Arc;

/// How many keys are read at once.
const MOST_KEYS: usize = 1000;
/// The low half of a version that was made of the bytes that another tool wrote.
const FOREIGN: u64 = 1 << 63;

/// What all that hangs on a store needs of it.
pub(crate) struct Core {
    pub(crate) client: Arc<Client>,
    pub(crate) names: Names,
    pub(crate) clock: Clock,
    pub(crate) feed: Feed,
    /// What is given back in the background.
    pub(crate) tasks: Tasks,
}

/// A store in one slot.
pub(crate) struct Part {
    pub(crate) core: Arc<Core>,
    pub(crate) capabilities: Capabilities,
    pub(crate) sessions: Sessions,
}

/// The part of a version that is the write's own.
pub(crate) fn nonce() -> u64 {
    unique() >> 1
}

/// A version as the scripts write it.
pub(crate) fn version_text(version: Version) -> String {
    match version.parts() {
        (number, low) if low & FOREIGN != 0 => format!("{number} x{:015x}", low & !FOREIGN),
        (number, nonce) => format!("{number} {nonce}"),
    }
}

/// The same, read.
pub(crate) fn version_of_text(text: &str) -> Result<Version> {
    let parts = text.split_once(' ').and_then(|(number, low)| {
        let low = match low.strip_prefix('x') {
            Some(digest) => FOREIGN | u64::from_str_radix(digest, 16).ok()?,
            None => low.parse().ok()?,
        };
        Some(Version::new(number.parse().ok()?, low))
    });
    parts.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{text:?} is no version")))
}

/// What was noted of a key at its last write here.
#[derive(Debug)]
pub(crate) struct Note {
    version: Version,
    digest: String,
}

impl Note {
    /// What was noted; `None` where nothing was, or where it cannot be read, as the scripts have it.
    pub(crate) fn of(answer: Answer) -> Result<Option<Self>> {
        let Some(answer) = answer.some() else { return Ok(None) };
        Ok(std::str::from_utf8(&answer.bytes()?).ok().and_then(Self::read))
    }

    fn read(text: &str) -> Option<Self> {
        let is_number = |text: &str, digits| {
            (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let mut words = text.splitn(4, ' ');
        let (number, nonce, digest, _life) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_hex = !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_number(number, 16) || !is_number(nonce, 19) || !is_hex {
            return None;
        }
        let version = Version::new(number.parse().ok()?, nonce.parse().ok()?);
        Some(Self { version, digest: digest.to_owned() })
    }

    /// The version of a value with this note; one made of the bytes where another tool wrote them since.
    pub(crate) fn version(note: Option<Self>, value: &[u8]) -> Result<Version> {
        let digest = digest(value);
        match note {
            Some(note) if note.digest == digest => Ok(note.version),
            note => {
                let number = note.map_or(0, |note| note.version.parts().0);
                version_of_text(&format!("{number} x{digest}"))
            }
        }
    }

    /// The version that was noted, whatever is there by now.
    pub(crate) fn noted(note: Option<Self>) -> Version {
        note.map_or(Version::new(0, 0), |note| note.version)
    }
}

impl Core {
    /// A script on this store, about these names besides the store's own.
    pub(crate) fn request(
        &self,
        script: &'static Script,
        names: impl IntoIterator<Item = String>,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Request {
        let identity = Value::from(self.names.identity());
        Request {
            script,
            names: self.names.store().into_iter().chain(names).map(Value::from).collect(),
            arguments: std::iter::once(identity).chain(arguments).collect(),
        }
    }

    pub(crate) async fn run(
        &self,
        safety: RetrySafety,
        deadline: Deadline,
        script: &'static Script,
        names: impl IntoIterator<Item = String>,
        arguments: impl IntoIterator<Item = Value>,
    ) -> Result<Answer> {
        let request = self.request(script, names, arguments);
        Ok(self.client.run(safety, deadline, &request).await?.answer)
    }

    /// Asks for nothing, as every call asks.
    async fn ask(&self, deadline: Deadline) -> Result<()> {
        self.run(RetrySafety::Read, deadline, &script::READ, [], []).await.map(drop)
    }

    /// Several keys with their versions.
    pub(crate) async fn read(&self, keys: &[Key], deadline: Deadline) -> Result<Vec<Option<Entry>>> {
        let mut all = Vec::with_capacity(keys.len());
        while all.len() < keys.len() {
            let rest = &keys[all.len()..];
            let rest = &rest[..rest.len().min(MOST_KEYS)];
            let names = rest.iter().map(|key| self.names.key(key.as_str()));
            let arguments = rest.iter().map(|key| key.as_str().into());
            let answer = self.run(RetrySafety::Read, deadline, &script::READ, names, arguments).await?;
            // Of large values an answer has a few.
            let found = answer.list()?;
            if found.len() == 0 {
                return Err(corrupt("the server's answer is not one of our scripts'"));
            }
            for (key, found) in rest.iter().zip(found) {
                all.push(match Answer(found).some() {
                    None => None,
                    Some(found) => {
                        let mut found = found.list()?;
                        let value = next(&mut found)?.bytes()?;
                        let version = Note::version(Note::of(next(&mut found)?)?, &value)?;
                        Some(Entry::new(key.clone(), value, version))
                    }
                });
            }
        }
        Ok(all)
    }
}

impl Part {
    pub(crate) async fn open(
        client: Client,
        names: Names,
        clock: Clock,
        deadline: Deadline,
        allow_eviction: bool,
    ) -> Result<Self> {
        let client = Arc::new(client);
        let about = About::ask(&client, deadline).await?;
        about.check(allow_eviction)?;
        let feed = Feed::new(client.clone(), names.clone());
        let core = Arc::new(Core { client, names, clock, feed, tasks: Tasks::default() });
        // Whether its user may ask at all; what it may not write, those calls tell.
        core.ask(deadline).await?;
        Ok(Self { capabilities: about.capabilities(), sessions: Sessions::default(), core })
    }

    /// Refuses a number of parts that is not the store's, as this one, the first, knows it: whoever opened it by another would
    /// find a part of its keys, and write others a second time.
    pub(crate) async fn check_parts(&self, asked: u16, deadline: Deadline) -> Result<()> {
        let note = self.core.names.parts();
        let number = Value::from(i64::from(asked));
        let is = self
            .core
            .run(RetrySafety::Repeatable, deadline, &script::PARTS, [note.clone()], [number])
            .await?;
        match is.number()? {
            is if is == i64::from(asked) => Ok(()),
            is => Err(refused(&format!(
                "`spread` over {asked} parts, and the store is spread over {is}, as {note:?} tells; open it with that number"
            ))),
        }
    }

    /// A password that the server does not ask for protects nothing.
    pub(crate) async fn warn_of_needless_password(&self, access: &Access) {
        let server = match self.core.client.link().await {
            Ok(link) => link.address.clone(),
            Err(_) => return,
        };
        if let Ok(link) = Link::open(&server, &access.nobody()).await
            && link.call("PING", Vec::new()).await.is_ok()
        {
            tracing::warn!(
                server,
                "a password is given, and the server asks for none: whoever reaches it may do everything"
            );
        }
    }

    pub(crate) async fn exists(&self, key: &Key, options: &ReadOptions) -> Result<bool> {
        let name = [self.core.names.key(key.as_str())];
        let answer = self.core.run(RetrySafety::Read, options.deadline, &script::EXISTS, name, []).await?;
        Ok(answer.number()? == 1)
    }

    pub(crate) async fn health(&self, options: &ReadOptions) -> Result<Health> {
        // Who answers this takes writes, also where it may not say how it is.
        self.core.ask(options.deadline).await?;
        let about = About::ask(&self.core.client, options.deadline).await?;
        let mut health = Health::new(about.version());
        health.leader = Some(about.address.clone());
        health.members = std::iter::once(about.address.clone()).chain(about.replicas()).collect();
        Ok(health)
    }

    /// Gives back what is open, and ends the connections; says what could not be given back.
    pub(crate) async fn close(&self) -> Result<()> {
        let given_back = self.core.tasks.finish().await;
        let ended = self.sessions.end().await;
        self.core.feed.close();
        self.core.client.close();
        given_back.and(ended)
    }
}
