//! Reads keys, and remembers their nodes.

use crate::{
    client::{
        multi::{Ask, Got, request},
        node::{Mark, Node},
        read::read_some,
        via::Via,
    },
    core::Core,
    error::Problem,
    names::slot::{SLOTS, slot},
    write::known::{Epoch, Seen},
};
use kv_core::{Entry, Error, ErrorKind, Key, Result, backend::retry::RetrySafety, driver::ReadOptions};
use std::collections::BTreeSet;

/// A key as it was found.
pub(crate) struct Found {
    pub(crate) seen: Seen,
    pub(crate) value: Vec<u8>,
}

impl Found {
    pub(crate) fn entry(self, key: &Key) -> Option<Entry> {
        Some(Entry::new(key.clone(), self.value, self.seen.at()?))
    }
}

/// Reads a key: [`Store::get`](kv_core::driver::Store::get).
pub(crate) async fn get(core: &Core, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
    Ok(look_one(core, key, options).await?.entry(key))
}

/// Reads several keys, in their order: [`Store::get_many`](kv_core::driver::Store::get_many).
pub(crate) async fn get_many(core: &Core, keys: &[Key], options: &ReadOptions) -> Result<Vec<Option<Entry>>> {
    let asked: Vec<_> = keys.iter().collect();
    let found = look(core, &asked, options, None).await?;
    Ok(keys.iter().zip(found).map(|(key, found)| found.entry(key)).collect())
}

/// Returns whether a key exists, without its value:
/// [`Store::exists`](kv_core::driver::Store::exists).
pub(crate) async fn exists(core: &Core, key: &Key, options: &ReadOptions) -> Result<bool> {
    let path = &core.names.key(key);
    let answer = Via::Any(&core.client).call(RetrySafety::Read, options.deadline, |connection| async move {
        let barrier = connection.barrier_for(options.consistency).await;
        let stat = connection.session.check_stat(path);
        barrier.await?;
        let Some(stat) = stat.await? else { return Ok(false) };
        let is_empty = stat.data_length == 0;
        if !is_empty || stat.ephemeral_owner != 0 || stat.num_children == 0 {
            return Ok(Node::new(is_empty, &stat, None).is_key);
        }
        let mut got = request(&connection, &Ask::marked(path.clone())).await?.into_iter();
        Ok::<_, Problem>(match got.next() {
            Some(Got::Data(value, stat)) => {
                Node::new(value.is_empty(), &stat, got.next().as_ref().and_then(Mark::of)).is_key
            }
            _ => false,
        })
    });
    Ok(answer.await?.unwrap_or_default())
}

/// Reads several keys, in their order, and remembers their nodes. It needs no barrier on the
/// connection of the generation that has `seen` one.
pub(crate) async fn look(
    core: &Core,
    keys: &[&Key],
    options: &ReadOptions,
    seen: Option<u64>,
) -> Result<Vec<Found>> {
    let incarnation = core.own.incarnation();
    let (generation, got) = read_some(&core.client, options, &asks(core, keys), usize::MAX, seen).await?;
    Ok(found(core, keys, generation, incarnation, got))
}

/// Returns the reads by which these keys are looked at.
///
/// The count of a slot is read before its keys, and a mark behind its key. So a change in between
/// is found by the conditions of the write that relies on this read.
pub(crate) fn asks(core: &Core, keys: &[&Key]) -> Vec<Ask> {
    let slots: BTreeSet<_> = keys.iter().map(|key| slot(key)).collect();
    let mut asks: Vec<_> = slots.iter().map(|&slot| Ask::Data(core.names.slot_node(slot))).collect();
    for key in keys {
        asks.extend(Ask::marked(core.names.key(key)));
    }
    asks
}

/// Returns what these reads found, on the connection of this generation, and remembers it. The
/// incarnation was known before they were sent.
pub(crate) fn found(
    core: &Core,
    keys: &[&Key],
    generation: u64,
    incarnation: Option<u128>,
    got: Vec<Got>,
) -> Vec<Found> {
    let slots: BTreeSet<_> = keys.iter().map(|key| slot(key)).collect();
    let mut got = got.into_iter();
    let mut epochs = [None; SLOTS];
    for &slot in &slots {
        if let Some(Got::Data(_, stat)) = got.next() {
            epochs[slot] = incarnation.map(|incarnation| Epoch { incarnation, count: stat.version });
        }
    }
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let epoch = epochs[slot(key)];
        let (node, mark) = (got.next().unwrap_or(Got::Nothing), got.next().unwrap_or(Got::Nothing));
        found.push(match node {
            Got::Data(value, stat) => {
                let node = Node::new(value.is_empty(), &stat, Mark::of(&mark));
                Found { seen: Seen { node: Some(node), epoch, generation }, value }
            }
            _ => Found { seen: Seen { node: None, epoch, generation }, value: Vec::new() },
        });
    }
    let known = core.known();
    for (key, found) in keys.iter().zip(&found) {
        match found.seen.epoch {
            Some(_) => known.set(key, found.seen),
            None => known.forget(key),
        }
    }
    found
}

/// Reads one key, and remembers its node.
pub(crate) async fn look_one(core: &Core, key: &Key, options: &ReadOptions) -> Result<Found> {
    let found = look(core, &[key], options, None).await?.pop();
    found.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the server answered no read"))
}
