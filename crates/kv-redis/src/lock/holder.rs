//! The holders of locks, and their tokens.

use crate::{
    client::{
        answer::{Answer, next},
        script,
    },
    core::Core,
    error::corrupt,
};
use kv_core::{
    Bytes, Error, ErrorKind, Holder, Key, Result,
    backend::retry::RetrySafety,
    driver::{Deadline, ReadOptions},
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

/// Returns a holder, by its number and the value that it brought.
pub(crate) fn held(number: u64, brought: &Bytes) -> Result<Holder> {
    let end = brought.iter().position(|byte| *byte == b'\n');
    let own = end.and_then(|end| std::str::from_utf8(&brought[..end]).ok()?.parse::<u64>().ok());
    match (end, own) {
        (Some(end), Some(own)) if own < OWN => Ok(Holder::new(token(number, own)?, brought.slice(end + 1..))),
        _ => Err(corrupt("what a lock's holder brought is none of ours")),
    }
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
