//! Who holds a lock, read and watched.

use crate::{
    error::corrupt,
    feed::{News, Subscription},
    part::Core,
    script::{self, Answer, next},
    tale::Tale,
};
use kv_core::{
    backend::{Backoff, Emit, Outage, retry::RetrySafety, stream},
    *,
};
use std::{future::pending, sync::Arc, time::Duration};

/// How many values the part of a token has that is the acquisition's own. A number of the server's, its microseconds, times
/// this stays below what a token can be for five centuries.
pub(crate) const OWN: u64 = 1 << 10;

/// The token of a contender of this number.
pub(crate) fn token(number: u64, own: u64) -> Result<u64> {
    let token = number.checked_mul(OWN).and_then(|token| token.checked_add(own));
    token.ok_or_else(|| {
        let why = format!(
            "a line has the number {number}, which this library never gives; delete its contender there"
        );
        Error::new(ErrorKind::Corrupt, why)
    })
}

/// A holder, by its number and what it brought.
fn held(number: u64, brought: &Bytes) -> Result<Holder> {
    let end = brought.iter().position(|byte| *byte == b'\n');
    let own = end.and_then(|end| std::str::from_utf8(&brought[..end]).ok()?.parse::<u64>().ok());
    match (end, own) {
        (Some(end), Some(own)) if own < OWN => Ok(Holder::new(token(number, own)?, brought.slice(end + 1..))),
        _ => Err(corrupt("what a lock's holder brought is none of ours")),
    }
}

/// What a look at a lock finds.
pub(crate) struct Seen {
    /// The holder, its number, and what is left of its session.
    pub(crate) holder: Option<(Holder, u64, Duration)>,
    /// Whoever holds it later has a greater number.
    last: u64,
}

/// Looks who holds the lock.
pub(crate) async fn look(core: &Core, name: &Key, deadline: Deadline) -> Result<Seen> {
    let arguments = [name.as_str().into()];
    let answer =
        core.run(RetrySafety::Read, deadline, &script::HOLDER, core.names.lock(name), arguments).await?;
    let mut answer = answer.list()?;
    let number = next(&mut answer)?.some().map(Answer::unsigned).transpose()?;
    let brought = next(&mut answer)?.bytes()?;
    // A session without an end was given none by us.
    let left = u64::try_from(next(&mut answer)?.number()?).unwrap_or(u64::from(u32::MAX));
    let last = next(&mut answer)?.unsigned()?;
    let holder = number.map(|number| {
        let holder = held(number, &brought)?;
        Ok::<_, Error>((holder, number, Duration::from_millis(left)))
    });
    Ok(Seen { holder: holder.transpose()?, last })
}

/// Whom a watch has told to hold the lock, and what it knows.
struct Holding {
    name: Key,
    /// The token that was told.
    told: Option<u64>,
    /// All that was published of this number, or a smaller one, is known: that of the holder, or where nobody holds it, the
    /// greatest that is gone.
    known: u64,
}

impl Holding {
    /// What a look found counts, whatever was known: a server that was restored, or failed over, goes back.
    async fn looked(&mut self, seen: Seen, out: &Emit<WatchEvent>) {
        self.known = seen.holder.as_ref().map_or(seen.last, |(_, number, _)| *number);
        self.tell(seen.holder.map(|(holder, ..)| holder), out).await;
    }

    /// Whether what was published is news: others may have published it long before the look.
    fn is_news(&self, tale: &Tale) -> bool {
        match tale {
            Tale::Held { number, .. } => *number > self.known,
            Tale::Free { number } => *number >= self.known && self.told.is_some(),
            _ => false,
        }
    }

    async fn tell(&mut self, holder: Option<Holder>, out: &Emit<WatchEvent>) {
        let before = std::mem::replace(&mut self.told, holder.as_ref().map(|holder| holder.token));
        let gone = |token| WatchEvent::Delete { key: self.name.clone(), version: Version::new(token, 0) };
        match (before, holder) {
            (Some(before), Some(holder)) if before == holder.token => {}
            (before, Some(holder)) => {
                // Tokens only grow, but on a server that went back.
                if let Some(before) = before.filter(|before| *before > holder.token) {
                    out.send(gone(before)).await;
                }
                let at = Version::new(holder.token, 0);
                out.send(WatchEvent::Put(Entry::new(self.name.clone(), holder.value, at))).await;
            }
            (Some(before), None) => out.send(gone(before)).await,
            (None, None) => {}
        }
    }
}

/// [`Store::watch`] of a [`Target::Holder`].
pub(crate) fn watch(core: Arc<Core>, name: &Key, options: &WatchOptions) -> WatchStream {
    let each_request = options.each_request;
    let mut holding = Holding { name: name.clone(), told: None, known: 0 };
    stream(move |out| async move {
        let mut news: Subscription = core.feed.subscribe(core.names.on_lock(&holding.name));
        let (mut end, mut synced) = (None, false);
        let (mut backoff, mut outage) =
            (Backoff::default(), Outage::new("the watch of a lock's holder", "redis"));
        loop {
            let due = async {
                match end {
                    Some(at) => core.clock.sleep_until(at).await,
                    None => pending().await,
                }
            };
            let news = tokio::select! {
                biased;
                news = news.next() => Some(news),
                // A holder that died tells nobody.
                () = due => None,
            };
            let left = match news {
                Some(News::Refused(e)) => return Err(e),
                Some(News::Tale(Tale::Held { left, number, .. })) if number == holding.known => Some(left),
                Some(News::Tale(tale)) if !holding.is_news(&tale) => continue,
                Some(News::Tale(Tale::Held { left, number, brought })) => {
                    let holder = held(number, &brought)?;
                    holding.known = number;
                    holding.tell(Some(holder), &out).await;
                    Some(left)
                }
                Some(News::Tale(tale)) => {
                    if let Tale::Free { number } = tale {
                        holding.known = number;
                        holding.tell(None, &out).await;
                    }
                    None
                }
                look @ (Some(News::Look) | None) => {
                    match self::look(&core, &holding.name, Deadline::after(each_request)).await {
                        Ok(seen) => {
                            let left = seen.holder.as_ref().map(|(.., left)| *left);
                            holding.looked(seen, &out).await;
                            if look.is_some() || !synced {
                                out.send(WatchEvent::Synced).await;
                                synced = true;
                            }
                            backoff.reset();
                            outage.over();
                            left
                        }
                        Err(e) if e.is_lasting() => return Err(e),
                        Err(e) => {
                            outage.failed(&e);
                            synced &= look.is_none();
                            end = Some(core.clock.now() + backoff.delay());
                            continue;
                        }
                    }
                }
            };
            end = left.map(|left| core.clock.now() + left + Duration::from_millis(1));
        }
    })
}
