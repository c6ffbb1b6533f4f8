//! Puts a contender into its queue.

use super::{before::Before, contender::Contender, order::token};
use crate::{
    client::attempts::Attempts,
    error::{Problem, Said},
    write::own::prepare,
};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{
        queue::{Entered, Position, Sent},
        retry::{RetrySafety, outcome_unknown},
    },
};
use zookeeper_client::{CreateMode, MultiWriteResult, Stat};

/// The most attempts to enter a queue that is deleted just then.
const TRIES: usize = 20;

/// The answer to one attempt to enter; `None` where the contender is not in the queue and is to
/// try again.
type Tried = Result<Option<Entered<Before>>>;

impl Contender {
    /// Puts its node at the end of the queue.
    pub(crate) async fn enter(&self, value: &[u8], sent: &Sent) -> Result<Entered<Before>> {
        sent.nothing_yet();
        let mut attempts = Attempts::default();
        for _ in 0..TRIES {
            if let Some(entered) = self.join(value, sent).await? {
                return Ok(entered);
            }
            attempts.pause(self.deadline()).await;
        }
        let why = format!("the lock's queue went {TRIES} times while one got into it");
        Err(Error::new(ErrorKind::Timeout, why))
    }

    /// Returns the beginning of the path of its node, to which the server adds a number.
    fn prefix(&self) -> String {
        format!("{}/{}-", self.queue, self.id)
    }

    /// Joins an existing queue.
    async fn join(&self, value: &[u8], sent: &Sent) -> Tried {
        let (acls, prefix) = (&self.core.client.options, &self.prefix());
        let joined = self.via().call(RetrySafety::Write, self.deadline(), |connection| async move {
            let create = acls.create(CreateMode::EphemeralSequential);
            sent.sending();
            let made = connection.session.create(prefix, value, &create);
            Ok::<_, Problem>(made.await?)
        });
        match joined.await {
            Ok(Ok((stat, sequence))) => {
                sent.answered(true, false);
                Ok(Some(self.queued(format!("{prefix}{sequence}"), stat.czxid, None)))
            }
            Ok(Err(answer)) => {
                sent.answered(false, false);
                match answer.said {
                    Said::NoNode => self.begin(value, sent).await,
                    _ => Err(answer.unexpected()),
                }
            }
            Err(e) => self.unanswered(e, sent).await,
        }
    }

    /// Makes the queue, and enters it in the same step. The server deletes an empty queue.
    async fn begin(&self, value: &[u8], sent: &Sent) -> Tried {
        let (acls, prefix) = (&self.core.client.options, &self.prefix());
        let begun = self.via().call(RetrySafety::Write, self.deadline(), |connection| async move {
            let mut writer = connection.session.new_multi_writer();
            writer.add_create(&self.queue, b"", &acls.create(CreateMode::Container))?;
            writer.add_create(prefix, value, &acls.create(CreateMode::EphemeralSequential))?;
            sent.sending();
            let made = writer.commit();
            Ok::<_, Problem>(made.await?)
        });
        match begun.await {
            Ok(Ok(mut made)) => match made.pop() {
                Some(MultiWriteResult::Create { path, stat }) => {
                    sent.answered(true, false);
                    // ZooKeeper 3.8 does not tell the zxid of the creation.
                    let stat = match stat.is_invalid() {
                        true => self.stat(&path).await?,
                        false => Some(stat),
                    };
                    let first = |stat: Stat| self.queued(path, stat.czxid, Some(Position::First));
                    Ok(Some(stat.map_or(Entered::Lost, first)))
                }
                _ => self.look(sent).await,
            },
            Ok(Err(answer)) => {
                sent.answered(false, false);
                if answer.said == Said::NoNode {
                    prepare(&self.core, None, self.deadline()).await?;
                }
                Ok(None)
            }
            Err(e) => self.unanswered(e, sent).await,
        }
    }

    fn queued(&self, node: String, czxid: i64, position: Option<Position<Before>>) -> Entered<Before> {
        let _ = self.node.set(node);
        Entered::Queued { token: token(czxid), position }
    }

    /// Looks for the node, before a request is repeated that may have created it.
    async fn unanswered(&self, error: Error, sent: &Sent) -> Tried {
        match error.kind() {
            ErrorKind::OutcomeUnknown if self.session.is_alive() => self.look(sent).await,
            _ => Err(error),
        }
    }

    /// Looks for the node once the session is connected again: requests that the session sent
    /// before are done or refused by then.
    async fn look(&self, sent: &Sent) -> Tried {
        let found = self.find().await.map_err(unsure)?;
        sent.answered(found.is_some(), false);
        Ok(found.map(|czxid| Entered::Queued { token: token(czxid), position: None }))
    }

    /// Looks for its node by the beginning of its name, and returns the zxid of its creation, if
    /// it exists.
    pub(crate) async fn find(&self) -> Result<Option<i64>> {
        let found = self.via().call(RetrySafety::Read, self.deadline(), |connection| async move {
            let barrier = connection.barrier().await;
            let names = connection.session.list_children(&self.queue);
            barrier.await?;
            let Some(own) = names.await?.into_iter().find(|name| name.starts_with(&self.id)) else {
                return Ok::<_, Problem>(None);
            };
            let node = format!("{}/{own}", self.queue);
            let stat = connection.session.check_stat(&node).await?;
            Ok(stat.map(|stat| (node, stat.czxid)))
        });
        let Some((node, czxid)) = found.await?.ok().flatten() else { return Ok(None) };
        let _ = self.node.set(node);
        Ok(Some(czxid))
    }
}

/// Marks an error behind a request that may have taken effect: the outcome is unknown. If the
/// session is over, it is known, for its contenders ended with it.
fn unsure(error: Error) -> Error {
    match error.kind() {
        ErrorKind::LeaseLost => error,
        _ => outcome_unknown(error),
    }
}
