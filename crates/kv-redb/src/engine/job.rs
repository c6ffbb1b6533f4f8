//! The jobs that the writer is asked to do.

use super::batch::{Batch, Done};
use kv_core::Result;
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const LEFT: u8 = 2;

/// The caller's side of a job in the queue. While the job is only queued the caller can take it
/// back, and then it is certain that the job never happened.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    fn step(&self, to: u8) -> bool {
        self.0.compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes the job back; `false` when the writer has it already.
    pub(crate) fn leave(&self) -> bool {
        self.step(LEFT)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One job in the writer's queue.
pub(crate) trait Job: Send {
    /// Takes the job up, after which its caller cannot take it back; `false` when the caller has
    /// taken it back before.
    fn take_up(&self) -> bool;
    /// Returns about how many bytes the job writes; 0 for a job that makes room.
    fn size(&self) -> usize;
    /// Does the job.
    fn run(&mut self, batch: &mut Batch<'_>) -> std::result::Result<(), redb::Error>;
    /// Answers its caller, when the batch is committed or has failed.
    fn answer(self: Box<Self>, end: Result<()>);
}

/// A job on its way to the writer.
pub(crate) struct Queued {
    pub(crate) job: Box<dyn Job>,
    /// Its place in the queue, which is free again when the writer has the job.
    #[expect(dead_code, reason = "it is only ever dropped")]
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

struct Work<T, F> {
    ticket: Ticket,
    size: usize,
    work: Option<F>,
    value: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

/// Makes a job; returns it, the right to take it back, and its answer.
pub(crate) fn job<T, F>(size: usize, work: F) -> (Box<dyn Job>, Ticket, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let ticket = Ticket::default();
    let theirs = Ticket(ticket.0.clone());
    (Box::new(Work { ticket: theirs, size, work: Some(work), value: None, reply }), ticket, answer)
}

/// Makes a job that nobody waits for, nor takes back.
pub(crate) fn order<T, F>(work: F) -> Box<dyn Job>
where
    T: Send + 'static,
    F: FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
{
    let (reply, _) = oneshot::channel();
    Box::new(Work { ticket: Ticket::default(), size: 0, work: Some(work), value: None, reply })
}

impl<T, F> Job for Work<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Batch<'_>) -> Done<T> + Send + 'static,
{
    fn take_up(&self) -> bool {
        self.ticket.step(TAKEN)
    }

    fn size(&self) -> usize {
        self.size
    }

    fn run(&mut self, batch: &mut Batch<'_>) -> std::result::Result<(), redb::Error> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(batch)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, end: Result<()>) {
        let answer = match (end, self.value) {
            (Ok(()), Some(value)) => value,
            (Err(e), _) => Err(e),
            // A job that was not run is answered with the error of its batch.
            (Ok(()), None) => return,
        };
        // The caller may be gone.
        let _ = self.reply.send(answer);
    }
}
