//! Adopts the changes of other tools: notes keys that they wrote, and tells watches of keys that
//! they deleted.

use crate::{
    client::{
        answer::{Answer, next},
        script,
    },
    core::Core,
    list::{Ask, Wanted, below, rows},
    version::nonce,
};
use fred::types::Value;
use kv_core::{
    Directory, Key, Result,
    backend::retry::{RetrySafety, outcome_unknown},
    driver::{Deadline, WriteOptions},
};

/// The most keys that one step notes, and the most channels that one step publishes to.
const BATCH: usize = 500;

/// Adopts the changes below a directory: looks at all names on the server for new values, and at
/// all noted keys for those that are gone. Returns the number of keys that were noted.
pub(crate) async fn adopt(core: &Core, directory: &Directory, options: &WriteOptions) -> Result<u64> {
    let mut adopted = 0;
    match note_all(core, directory, options.deadline, &mut adopted).await {
        Err(e) if adopted > 0 => Err(outcome_unknown(e)),
        done => done.map(|()| adopted),
    }
}

/// Does what `adopt` does, and counts the keys that were noted.
async fn note_all(core: &Core, directory: &Directory, deadline: Deadline, adopted: &mut u64) -> Result<()> {
    // This comes first: a server that was made a replica refuses it, and would not refuse a
    // `SCAN`.
    forget(core, directory, deadline).await?;
    let mut cursor = "0".to_owned();
    let pattern = core.names.pattern(directory);
    loop {
        let scan = [&cursor, "MATCH", &pattern, "COUNT", "1000", "TYPE", "string"];
        let mut answer = core.client.command(deadline, "SCAN", &scan).await?.list()?;
        cursor = next(&mut answer)?.text()?;
        let mut keys = Vec::new();
        for name in next(&mut answer)?.list()? {
            let name = Answer(name).bytes()?;
            keys.extend(core.names.parse(&name).filter(|key| key.is_below(directory) && !key.is_internal()));
        }
        for keys in keys.chunks(BATCH) {
            note(core, keys, deadline, adopted).await?;
        }
        if cursor == "0" {
            break;
        }
    }
    tell_again(core, directory, deadline).await
}

/// Notes the values of these keys, and counts those that were noted.
async fn note(core: &Core, mut keys: &[Key], deadline: Deadline, adopted: &mut u64) -> Result<()> {
    while !keys.is_empty() {
        let names = keys.iter().map(|key| core.names.key(key.as_str()));
        let arguments = keys.iter().map(|key| Value::from(key.as_str()));
        let arguments = std::iter::once(Value::from(nonce().to_string())).chain(arguments);
        // A repeat finds the keys noted, and counts them all the same.
        let answer = core.run(RetrySafety::Repeatable, deadline, &script::ADOPT, names, arguments).await?;
        let mut answer = answer.list()?;
        *adopted += next(&mut answer)?.unsigned()?;
        let looked_at = usize::try_from(next(&mut answer)?.unsigned()?).unwrap_or(usize::MAX);
        keys = &keys[looked_at.clamp(1, keys.len())..];
    }
    Ok(())
}

/// Lists the directory: a listing publishes and forgets the keys that are noted and missing.
async fn forget(core: &Core, directory: &Directory, deadline: Deadline) -> Result<()> {
    let (mut from, to) = below(directory);
    let ask = Ask { children: false, wanted: Wanted::Keys, lives: false, most: 1000 };
    while let Some(more) = rows(core, directory, (&from, &to), ask, deadline).await?.more {
        from = more;
    }
    Ok(())
}

/// Has watches read again. Nothing else tells them of a `FLUSHDB`, or of data that came in the
/// place of other data together with its notes.
async fn tell_again(core: &Core, directory: &Directory, deadline: Deadline) -> Result<()> {
    let place = directory.start();
    let all = core.names.on_all();
    let channels = core.client.command(deadline, "PUBSUB", &["SHARDCHANNELS", &all]).await?.list()?;
    let mut concerned = Vec::new();
    for channel in channels {
        let channel = Answer(channel).text()?;
        let Some(watched) = core.names.watched(&channel) else { continue };
        // The channel is concerned if one of the two directories lies within the other.
        let watched = if watched.is_empty() { watched } else { format!("{watched}/") };
        if watched.starts_with(&place) || place.starts_with(&watched) {
            concerned.push(Value::from(channel));
        }
    }
    for channels in concerned.chunks(BATCH) {
        core.run(RetrySafety::Repeatable, deadline, &script::AGAIN, [], channels.iter().cloned()).await?;
    }
    Ok(())
}
