//! The line of a lock, and getting into it.

use crate::{
    client::Does,
    connect::Attempts,
    contender::Contender,
    directory,
    error::{Answer, Problem, Said, unknown},
    link::Linked,
};
use kv_core::*;
use zookeeper_client::{CreateMode, Error as ClientError, MultiWriteResult, Stat};

/// How often getting in line may meet a line that has just gone.
const TRIES: usize = 20;
/// The length of what begins a contender's name.
const ID: usize = 32;

/// What getting in line gave.
pub(crate) struct Entered {
    pub(crate) contender: String,
    pub(crate) token: u64,
    /// It made the line.
    pub(crate) is_first: bool,
}

/// Who stands in a line, in its order.
///
/// From the greatest number on the server gives that one out again and again, and other ones only to those who come at once:
/// then the order is that in which the nodes were made.
pub(crate) async fn ordered(
    linked: &Linked,
    line: &str,
    names: Vec<String>,
) -> Result<Vec<String>, ClientError> {
    let names = contenders(names);
    if names.last().and_then(|last| sequence(last)).is_none_or(|last| last < i32::MAX as u32) {
        return Ok(names);
    }
    let asked: Vec<_> =
        names.iter().map(|name| linked.session.check_stat(&format!("{line}/{name}"))).collect();
    let mut placed = Vec::with_capacity(names.len());
    for (name, answer) in names.into_iter().zip(asked) {
        if let Some(stat) = answer.await? {
            placed.push((stat.czxid, name));
        }
    }
    placed.sort();
    Ok(placed.into_iter().map(|(_, name)| name).collect())
}

/// Who stands in a line, in the order of their numbers.
fn contenders(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| sequence(name).is_some());
    names.sort_by_key(|name| sequence(name));
    names
}

/// A contender's token is the zxid of its creation.
pub(crate) fn token(czxid: i64) -> u64 {
    u64::try_from(czxid).unwrap_or_default()
}

/// The number of a contender; `None` for what is none, such as another tool's node. Those below zero are beyond the greatest.
fn sequence(name: &str) -> Option<u32> {
    let (id, sequence) = name.split_at_checked(ID)?;
    let is_id = id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let sequence = sequence
        .strip_prefix('-')
        .filter(|digits| is_id && digits.len() >= 10 && !digits.starts_with('+'))?;
    sequence.parse::<i32>().ok().map(|sequence| sequence as u32)
}

impl Contender {
    /// Who stands in line, as this session sees it: at least those before its own contender.
    pub(crate) async fn line(&self) -> Result<Vec<String>> {
        let line = self
            .via()
            .call(Does::Read, self.deadline(), |linked| async move {
                let barrier = linked.barrier().await;
                let line = linked.session.list_children(&self.line);
                barrier.await?;
                Ok::<_, Problem>(ordered(&linked, &self.line, line.await?).await?)
            })
            .await?;
        Ok(line.unwrap_or_default())
    }

    pub(crate) async fn seen(&self) -> Result<Vec<String>> {
        let line = self
            .via()
            .call(Does::Read, self.deadline(), |linked| async move {
                let line = linked.session.list_children(&self.line).await?;
                Ok::<_, Problem>(ordered(&linked, &self.line, line).await?)
            })
            .await?;
        Ok(line.unwrap_or_default())
    }

    /// Gets in line.
    pub(crate) async fn enter(&self, options: &LockOptions) -> Result<Entered> {
        let prefix = &format!("{}/{}-", self.line, self.id);
        let acls = &self.inner.client.options;
        let mut attempts = Attempts::default();
        for _ in 0..TRIES {
            // Each request has it anew.
            let deadline = self.deadline();
            let entered = self
                .via()
                .call(Does::Write, deadline, |linked| async move {
                    let create = acls.create(CreateMode::EphemeralSequential);
                    let entered = linked.session.create(prefix, &options.value, &create);
                    Ok::<_, Problem>(entered.await?)
                })
                .await;
            match entered {
                Ok(Ok((stat, sequence))) => {
                    let (contender, token) = (format!("{}-{sequence}", self.id), token(stat.czxid));
                    return Ok(Entered { contender, token, is_first: false });
                }
                Ok(Err(Answer { said: Said::NoNode, .. })) => {
                    match self.begin(options, self.deadline()).await? {
                        Some(entered) => return Ok(entered),
                        None => attempts.pause(deadline).await,
                    }
                }
                Ok(Err(answer)) => {
                    return Err(Error::new(
                        ErrorKind::Other,
                        format!("an answer that is not expected: {answer:?}"),
                    ));
                }
                // Whether it is there tells the line itself, once the session is connected again: what it sent before is
                // done or refused by then.
                Err(e) if e.kind() == ErrorKind::OutcomeUnknown && self.session.is_alive() => {
                    if let Some(entered) = self.find().await.map_err(unsure)? {
                        return Ok(entered);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        let why = format!("the lock's line went {TRIES} times while one got into it");
        Err(Error::new(ErrorKind::Timeout, why))
    }

    /// Makes the line, and enters it in the same step. The server deletes it when it is empty again.
    async fn begin(&self, options: &LockOptions, deadline: Deadline) -> Result<Option<Entered>> {
        let acls = &self.inner.client.options;
        let (line, prefix) = (&self.line, &format!("{}/{}-", self.line, self.id));
        let begun = self
            .via()
            .call(Does::Write, deadline, |linked| async move {
                let mut writer = linked.session.new_multi_writer();
                writer.add_create(line, b"", &acls.create(CreateMode::Container))?;
                writer.add_create(prefix, &options.value, &acls.create(CreateMode::EphemeralSequential))?;
                let done = writer.commit();
                Ok::<_, Problem>(done.await?)
            })
            .await;
        match begun {
            Ok(Ok(mut made)) => match made.pop() {
                Some(MultiWriteResult::Create { path, stat }) => {
                    let contender = path.rsplit('/').next().unwrap_or_default().to_owned();
                    // ZooKeeper 3.8 does not say when.
                    let stat = match stat.is_invalid() {
                        true => self.stat(&path).await.map_err(unsure)?,
                        false => Some(stat),
                    };
                    Ok(stat.map(|stat| Entered { contender, token: token(stat.czxid), is_first: true }))
                }
                _ => self.find().await.map_err(unsure),
            },
            Ok(Err(Answer { said: Said::NoNode, .. })) => {
                directory::prepare(&self.inner, deadline).await?;
                Ok(None)
            }
            Ok(Err(_)) => Ok(None),
            Err(e) if e.kind() == ErrorKind::OutcomeUnknown && self.session.is_alive() => {
                self.find().await.map_err(unsure)
            }
            Err(e) => Err(e),
        }
    }

    pub(crate) async fn stat(&self, path: &str) -> Result<Option<Stat>> {
        let found = self.via().call(Does::Read, self.deadline(), |linked| async move {
            let found = linked.session.check_stat(path).await?;
            if found.is_some() {
                return Ok::<_, Problem>(found);
            }
            // A member that is behind has not heard of it yet.
            let barrier = linked.barrier().await;
            let found = linked.session.check_stat(path);
            barrier.await?;
            Ok(found.await?)
        });
        Ok(found.await?.ok().flatten())
    }

    /// Our contender, if it is in line.
    pub(crate) async fn find(&self) -> Result<Option<Entered>> {
        let line = self.line().await?;
        let Some(own) = line.into_iter().find(|name| name.starts_with(&self.id)) else { return Ok(None) };
        let path = &format!("{}/{own}", self.line);
        let found = self.stat(path).await?;
        Ok(found.map(|stat| Entered { contender: own, token: token(stat.czxid), is_first: false }))
    }
}

/// What failed behind a request that may have had its effect. With a session its contenders end.
fn unsure(error: Error) -> Error {
    match error.kind() {
        ErrorKind::LeaseLost | ErrorKind::OutcomeUnknown => error,
        _ => unknown(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_order_of_its_sequence_and_nobody_else_in_it() {
        let id = "0123456789abcdef0123456789abcdef";
        let name = |sequence: &str| format!("{id}-{sequence}");
        // The server counts beyond the greatest number.
        let ours = ["0000000009", "0000000010", "2147483647", "-2147483648", "-2147483647"].map(name);
        let theirs = ["x", "x-1", "-1", ".kv", "é-0000000001", id, &id[1..]].map(str::to_owned);
        let theirs = theirs.into_iter().chain(["", "1", "+000000001", "99999999999"].map(name));
        let mixed = ours.iter().rev().cloned().chain(theirs).collect();
        assert_eq!(contenders(mixed), ours);
    }
}
