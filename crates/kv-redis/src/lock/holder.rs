//! The holders of locks, their tokens and their values.

use crate::{
    client::{
        answer::{Answer, next},
        script,
    },
    core::Core,
    error::corrupt,
};
use fred::types::Value;
use kv_core::{
    Bytes, Error, ErrorKind, Fence, Holder, Key, Result,
    backend::retry::RetrySafety,
    driver::{Deadline, ReadOptions, WriteOptions},
};
use std::time::Duration;

/// The number of values of the part of a token that is the acquisition's own. The other part is a
/// number of the server's, its microseconds: multiplied by this it fits into a token for five
/// centuries.
pub(crate) const OWN: u64 = 1 << 10;

/// Returns the token of a contender, by its number and its own part.
pub(crate) fn token(number: u64, own: u64) -> Result<u64> {
    let token = number.checked_mul(OWN).and_then(|token| token.checked_add(own));
    token.ok_or_else(|| {
        let why = format!(
            "a line has the number {number}, which this library never gives; delete its contender there"
        );
        Error::new(ErrorKind::Corrupt, why)
    })
}

/// Returns a holder, by its number and what it brought: the token's own part and, once the value
/// was changed, how often it was; and behind that line the value.
pub(crate) fn held(number: u64, brought: &Bytes) -> Result<Holder> {
    let read = || {
        let end = brought.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&brought[..end]).ok()?;
        let (own, changes) = line.split_once(' ').unwrap_or((line, "0"));
        let own = own.parse::<u64>().ok().filter(|own| *own < OWN)?;
        Some((own, changes.parse::<u64>().ok()?, brought.slice(end + 1..)))
    };
    let (own, changes, value) =
        read().ok_or_else(|| corrupt("what a lock's holder brought is none of ours"))?;
    Ok(Holder::new(token(number, own)?, value).with_changes(changes))
}

/// The answer to a look at a lock.
pub(crate) struct Seen {
    /// The holder, its number, and the time that is left of its session.
    pub(crate) holder: Option<(Holder, u64, Duration)>,
    /// The last number that was given: later holders have greater ones.
    pub(crate) last: u64,
}

/// Asks for the holder of the lock.
pub(crate) async fn look(core: &Core, name: &Key, deadline: Deadline) -> Result<Seen> {
    let arguments = [name.as_str().into()];
    let answer =
        core.run(RetrySafety::Read, deadline, &script::HOLDER, core.names.lock(name), arguments).await?;
    let mut answer = answer.list()?;
    let number = next(&mut answer)?.some().map(Answer::unsigned).transpose()?;
    let brought = next(&mut answer)?.bytes()?;
    // Only others can have made a session that has no end.
    let left = u64::try_from(next(&mut answer)?.number()?).unwrap_or(u64::from(u32::MAX));
    let last = next(&mut answer)?.unsigned()?;
    let holder = number.map(|number| {
        let holder = held(number, &brought)?;
        Ok::<_, Error>((holder, number, Duration::from_millis(left)))
    });
    Ok(Seen { holder: holder.transpose()?, last })
}

/// Returns the holder of the lock, if there is one.
pub(crate) async fn holder(core: &Core, name: &Key, options: &ReadOptions) -> Result<Option<Holder>> {
    let seen = look(core, name, options.deadline).await?;
    Ok(seen.holder.map(|(holder, ..)| holder))
}

/// Changes the value of the holder: [`Store::set_holder`](kv_core::driver::Store::set_holder).
pub(crate) async fn set_holder(
    core: &Core,
    fence: &Fence,
    value: Bytes,
    options: &WriteOptions,
) -> Result<bool> {
    let proof = String::from_utf8_lossy(fence.proof());
    let (number, contender) = proof.split_once(' ').unwrap_or_default();
    let session = contender.split(':').next().unwrap_or_default();
    let [queue, brought] = core.names.lock(fence.lock());
    let names = [queue, brought, core.names.session(session)];
    let arguments = [fence.lock().as_str().into(), contender.into(), number.into(), Value::Bytes(value)];
    let answer = core.run(RetrySafety::Write, options.deadline, &script::VALUE, names, arguments).await?;
    Ok(answer.number()? == 1)
}

/// Ends the acquisition of this token, if it holds the lock:
/// [`Store::break_lock`](kv_core::driver::Store::break_lock). The holder finds it out by its next
/// renewal.
pub(crate) async fn break_lock(core: &Core, name: &Key, token: u64, options: &WriteOptions) -> Result<bool> {
    let (number, own) = ((token / OWN).to_string(), (token % OWN).to_string());
    let arguments = [name.as_str().into(), number.into(), own.into()];
    let (safety, names) = (RetrySafety::Write, core.names.lock(name));
    let answer = core.run(safety, options.deadline, &script::BREAK, names, arguments).await?;
    Ok(answer.number()? == 1)
}
