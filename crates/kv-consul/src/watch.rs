//! Watches: what is there, then what a poll tells.

use crate::{
    api::{Listing, Range},
    asker::held_by,
    lock,
    names::below,
    poll::Joined,
    store::Inner,
};
use kv_core::{
    backend::{Change, Emit, Told, stream},
    *,
};
use std::sync::Arc;

pub(crate) fn watch(inner: Arc<Inner>, target: &Target) -> WatchStream {
    let target = target.clone();
    stream(|out| async move {
        let range = match &target {
            Target::Key(key) => Range::Name(inner.names.name(key.as_str()).into()),
            Target::Tree(directory) => Range::Tree(below(&inner.names, directory).into()),
            Target::Holder(name) => Range::Tree(inner.names.line(name).into()),
        };
        let mut joined = Joined::new(&inner, range, &target)?;
        let mut told = Told::default();
        loop {
            let listing = joined.listing().await?;
            told.relist();
            match &target {
                Target::Holder(name) => tell_holder(&inner, name, &listing, &mut told, &out).await?,
                _ => tell(&inner, &target, &listing, &mut told, &out).await?,
            }
            drop(listing);
            for event in told.rest() {
                out.send(event).await;
            }
            out.send(WatchEvent::Synced).await;
            while let Change::Event(event) = joined.news().await? {
                if let Some(event) = told.change(event) {
                    out.send(event).await;
                }
            }
        }
    })
}

/// What is there, or what of it differs from what was told.
async fn tell(
    inner: &Inner,
    target: &Target,
    listing: &Listing,
    told: &mut Told,
    out: &Emit<WatchEvent>,
) -> Result<()> {
    for pair in &listing.pairs {
        let Some(key) = inner.names.parse(&pair.name).filter(|key| target.concerns(key)) else { continue };
        if told.still(&key, pair.version()) {
            for event in told.listed(Entry::new(key, pair.value()?, pair.version())) {
                out.send(event).await;
            }
        }
    }
    Ok(())
}

async fn tell_holder(
    inner: &Inner,
    name: &Key,
    listing: &Listing,
    told: &mut Told,
    out: &Emit<WatchEvent>,
) -> Result<()> {
    let line = inner.names.line(name);
    let waiting = listing.pairs.iter().filter(|pair| pair.name.starts_with(&line));
    let contenders = waiting.filter(|pair| lock::contends(inner, pair).is_some());
    let Some(first) = contenders.min_by_key(|pair| pair.created) else { return Ok(()) };
    for event in told.listed(held_by(name.clone(), first)?) {
        out.send(event).await;
    }
    Ok(())
}
