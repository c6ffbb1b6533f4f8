//! Adopting the changes of other tools: keys that they wrote are noted, and of keys that they
//! deleted watches are told.

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
    backend::retry::RetrySafety,
    driver::{Deadline, WriteOptions},
};

/// The most keys that one step notes, and the most channels that one step publishes to.
const BATCH: usize = 500;

/// Looks at all names of the server for those below the directory, and at all that are noted for those that are gone.
pub(crate) async fn adopt(core: &Core, directory: &Directory, options: &WriteOptions) -> Result<u64> {
    // A server that is a replica by now refuses this, and would not refuse to name what it has.
    forget(core, directory, options.deadline).await?;
    let (mut cursor, mut adopted) = ("0".to_owned(), 0);
    let pattern = core.names.pattern(directory);
    loop {
        let scan = [&cursor, "MATCH", &pattern, "COUNT", "1000", "TYPE", "string"];
        let mut answer = core.client.command(options.deadline, "SCAN", &scan).await?.list()?;
        cursor = next(&mut answer)?.text()?;
        let mut keys = Vec::new();
        for name in next(&mut answer)?.list()? {
            let name = Answer(name).bytes()?;
            keys.extend(core.names.parse(&name).filter(|key| key.is_below(directory) && !key.is_internal()));
        }
        for keys in keys.chunks(BATCH) {
            adopted += note(core, keys, options.deadline).await?;
        }
        if cursor == "0" {
            break;
        }
    }
    tell_again(core, directory, options.deadline).await?;
    Ok(adopted)
}

/// Notes what is there under these keys.
async fn note(core: &Core, mut keys: &[Key], deadline: Deadline) -> Result<u64> {
    let mut adopted = 0;
    while !keys.is_empty() {
        let names = keys.iter().map(|key| core.names.key(key.as_str()));
        let arguments = keys.iter().map(|key| Value::from(key.as_str()));
        let arguments = std::iter::once(Value::from(nonce().to_string())).chain(arguments);
        // To adopt what was adopted does nothing, and it is counted all the same.
        let answer = core.run(RetrySafety::Repeatable, deadline, &script::ADOPT, names, arguments).await?;
        let mut answer = answer.list()?;
        adopted += next(&mut answer)?.unsigned()?;
        let looked_at = usize::try_from(next(&mut answer)?.unsigned()?).unwrap_or(usize::MAX);
        keys = &keys[looked_at.clamp(1, keys.len())..];
    }
    Ok(adopted)
}

/// Lists the directory: a listing tells of what is noted, and not there.
async fn forget(core: &Core, directory: &Directory, deadline: Deadline) -> Result<()> {
    let (mut from, to) = below(directory);
    let ask = Ask { children: false, wanted: Wanted::Keys, lives: false, most: 1000 };
    while let Some(more) = rows(core, directory, (&from, &to), ask, deadline).await?.more {
        from = more;
    }
    Ok(())
}

/// Has those who watch read again: what was flushed away, or came in the place of what was there, notes and all, is told by
/// nothing else.
async fn tell_again(core: &Core, directory: &Directory, deadline: Deadline) -> Result<()> {
    let place = directory.start();
    let all = core.names.on_all();
    let channels = core.client.command(deadline, "PUBSUB", &["SHARDCHANNELS", &all]).await?.list()?;
    let mut concerned = Vec::new();
    for channel in channels {
        let channel = Answer(channel).text()?;
        let Some(watched) = core.names.watched(&channel) else { continue };
        // One of the two is above the other, or they are the same.
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
