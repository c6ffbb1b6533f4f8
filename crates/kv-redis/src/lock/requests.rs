//! Requests about sessions, and the request to leave a queue.

use crate::{
    client::{
        answer::{Answer, next},
        script,
    },
    core::Core,
};
use kv_core::{
    Error, Key, Result,
    backend::retry::{Answered, RetrySafety},
    driver::Deadline,
};
use std::time::Duration;

/// The answer to one step of a renewal.
pub(crate) struct Step {
    /// The place at which the next step begins, if there is one.
    pub(crate) more: Option<String>,
    /// The milliseconds that are left of the shortest life of a contender before one of ours.
    pub(crate) soonest: Option<u64>,
    pub(crate) firsts: Vec<(String, Key)>,
    pub(crate) behind: Vec<(String, Key)>,
}

/// Runs a step of the script about a session, from this place on. Returns `None` where the server
/// has no such session.
pub(crate) async fn step(
    core: &Core,
    id: &str,
    deadline: Deadline,
    order: &str,
    ttl: Duration,
    from: String,
) -> Result<Option<Step>> {
    let arguments = [order.into(), ttl.as_millis().to_string().into(), from.into()];
    let name = [core.names.session(id)];
    let answer = core.run(RetrySafety::Repeatable, deadline, &script::SESSION, name, arguments).await?;
    let Some(answer) = answer.some() else { return Ok(None) };
    let mut answer = answer.list()?;
    let more = Some(next(&mut answer)?.text()?).filter(|cursor| cursor != "0");
    let soonest = u64::try_from(next(&mut answer)?.number()?).ok();
    let mut places = || {
        let mut places = Vec::new();
        for place in next(&mut answer)?.list()? {
            let place = Answer(place).text()?;
            let (contender, lock) = place.split_once(' ').unwrap_or((&place, ""));
            places.extend(Key::from_stored(lock).map(|lock| (contender.to_owned(), lock)));
        }
        Ok::<_, Error>(places)
    };
    Ok(Some(Step { more, soonest, firsts: places()?, behind: places()? }))
}

/// Ends a session on the server, and takes all its contenders out of their queues. Returns whether
/// it was there.
pub(crate) async fn end(core: &Core, id: &str, ttl: Duration, each_request: Duration) -> Result<bool> {
    let (mut from, mut was_there) = (Some("0".to_owned()), false);
    while let Some(cursor) = from {
        let step = step(core, id, Deadline::after(each_request), "end", ttl, cursor).await?;
        was_there |= step.is_some();
        from = step.and_then(|step| step.more);
    }
    Ok(was_there)
}

/// Takes a contender out of a queue, and returns whether it was in front.
pub(crate) async fn leave(
    core: &Core,
    name: &Key,
    session: &str,
    contender: &str,
    deadline: Deadline,
) -> Result<Answered<bool>> {
    let [queue, brought] = core.names.lock(name);
    let names = [queue, brought, core.names.session(session)];
    let request = core.request(&script::LEAVE, names, [name.as_str().into(), contender.into()]);
    let Answered { answer, is_repeat } = core.client.run(RetrySafety::Repeatable, deadline, &request).await?;
    Ok(Answered { answer: answer.number()? == 1, is_repeat })
}
