//! Tells the deletion of names that an answer left out, where they are gone.

use super::{Known, Poller, Telling};
use crate::{
    client::api::Range,
    watch::{
        fates::{Before, Fate, fates, fitting},
        refusal::Refusal,
    },
};
use kv_core::{Error, ErrorKind, Key, Result, Version, WatchEvent, driver::Deadline};

impl Poller {
    /// Tells the deletion of what was not in the answer, if it is gone: what a token may not read
    /// is left out as well. Whatever is known is told, though the rest may have to be asked for
    /// again. Returns whether the answer left out anything.
    pub(super) async fn forget_gone(&mut self, telling: Telling) -> Result<bool> {
        let missing = self.known.iter().filter(|(_, known)| known.pass != self.pass);
        let before =
            |(name, known): (&String, &Known)| Before { name: name.clone(), modified: known.modified };
        let missing: Vec<_> = missing.map(before).collect();
        let token = self.core.client.token();
        let (mut hidden, mut rest, mut ended) = (Vec::new(), &missing[..], Ok(()));
        while !rest.is_empty() && ended.is_ok() {
            let (now, later) = rest.split_at(fitting(&self.core, rest));
            rest = later;
            let fates = match self.range {
                // A single key that may not be read is refused, and not left out.
                Range::Name(_) => Ok(vec![Fate::Gone; now.len()]),
                Range::Tree(_) => fates(&self.core, now, Deadline::after(self.within.get())).await,
            };
            match fates {
                Ok(fates) => {
                    for (before, fate) in now.iter().zip(fates) {
                        ended = ended.and(self.forget(before, fate, telling, &mut hidden));
                    }
                }
                Err(e) => ended = Err(e),
            }
        }
        if !hidden.is_empty() && self.core.client.renews(token.as_ref()) {
            let why = "the token was exchanged, and is tried again";
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        if !hidden.is_empty() {
            // It may be that nobody listens.
            let _ = self.refusals.send(Refusal::of(hidden));
        }
        ended.map(|()| !missing.is_empty())
    }

    /// Notes the fate of one name.
    fn forget(&mut self, gone: &Before, fate: Fate, telling: Telling, hidden: &mut Vec<Key>) -> Result<()> {
        if fate == Fate::Same {
            let why = "the server left out what is there: the token was exchanged, or its rights were others a moment ago";
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        if fate == Fate::Written {
            // The next answer tells it.
            return Ok(());
        }
        self.known.remove(&gone.name);
        let Some(key) = self.core.names.parse(&gone.name) else { return Ok(()) };
        if fate == Fate::Hidden {
            hidden.push(key);
        } else if telling == Telling::All {
            self.hub.publish(&WatchEvent::Delete { key, version: Version::new(gone.modified, 0) });
        }
        Ok(())
    }
}
