//! The turns of a run's own: those of who waits all the time, and those when all troubles are over.

use super::{
    ARRIVES, Run,
    contender::{Contender, LOCKS, RESOURCES},
    event::{Event, wall},
    had::{Had, Kind, Wanted},
    history::{END, LAST},
    note,
    vacancy::{HEIR, THRONE},
};
use crate::{
    Failure,
    torture::{field::Field, patience},
};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Waits until the round is over.
async fn until_over(field: &Field) {
    while !field.is_over() {
        sleep(Duration::from_millis(20)).await;
    }
}

impl Run<'_> {
    /// Waits all the time for one of them, and does not keep it long.
    pub(super) async fn inherit(&self) -> Result<(), Failure> {
        if self.kind == Kind::Lock {
            return Ok(());
        }
        let is_over = || self.field.is_over();
        let heir = self.contender(HEIR, self.observer().await?, &is_over);
        while !is_over() {
            let (attempt, wanted) = heir.asks(THRONE);
            let got = tokio::select! {
                got = wanted.acquire() => Some(got),
                () = until_over(self.field) => None,
            };
            let told = match got {
                Some(Ok(had)) => {
                    let granted = Event::Granted { attempt: attempt.clone(), token: had.token() };
                    note(&self.log, HEIR, wall(), granted);
                    heir.asks_guard(&attempt, &had);
                    heir.release(&attempt, had).await;
                    None
                }
                Some(Err(e)) => {
                    heir.ended(&e);
                    Some(Event::Missed { attempt, is_answer: false })
                }
                None => Some(Event::Missed { attempt, is_answer: false }),
            };
            if let Some(missed) = told {
                note(&self.log, HEIR, wall(), missed);
            }
            sleep(Duration::from_millis(100)).await;
        }
        heir.close().await;
        Ok(())
    }

    /// Gets the lock in time, or notes that this client did not get it. Transient errors may still
    /// meet the first tries.
    async fn get(&self, client: &str, wanted: &Wanted) -> Option<Had> {
        let until = Instant::now() + self.within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match wanted.clone().acquire_within(left).await {
                Ok(guard) => return guard,
                Err(e) if !e.is_lasting() && !left.is_zero() => {}
                Err(e) => {
                    note(&self.log, client, wall(), Event::Wrong { what: e.to_string() });
                    return None;
                }
            }
        }
    }

    /// Has each of these contenders, whose handles are open, get every lock and give it back, when
    /// all troubles are over: what a handle has left behind in a queue is in the way of the others,
    /// or of its own.
    pub(super) async fn last_turns(&self, open: &[Contender<'_>]) {
        let is_over = || true;
        for contender in open {
            let client = format!("{LAST}{}", contender.client);
            let last = self.contender(&client, contender.kv.clone(), &is_over);
            let turns = (0..LOCKS).map(|lock| {
                let (last, client) = (&last, &client);
                async move {
                    let (attempt, wanted) = last.asks(lock);
                    let Some(guard) = self.get(client, &wanted).await else { return };
                    let granted = Event::Granted { attempt: attempt.clone(), token: guard.token() };
                    note(&self.log, client, wall(), granted);
                    last.asks_guard(&attempt, &guard);
                    last.release(&attempt, guard).await;
                }
            });
            futures::future::join_all(turns).await;
        }
    }

    /// Gets every lock when all troubles are over, has the watches see it, gives it back, and
    /// looks whether all is free.
    pub(super) async fn end(&self) -> Result<(), Failure> {
        let is_over = || true;
        let contender = self.contender(END, self.observer().await?, &is_over);
        let got = futures::future::join_all((0..LOCKS).map(|lock| {
            let contender = &contender;
            async move {
                let (attempt, wanted) = contender.asks(lock);
                let guard = self.get(END, &wanted).await?;
                let granted = Event::Granted { attempt: attempt.clone(), token: guard.token() };
                note(&self.log, END, wall(), granted);
                if self.is_fenced {
                    contender.write(lock, &attempt, &guard).await;
                }
                contender.read(lock).await;
                contender.look(lock).await;
                contender.asks_guard(&attempt, &guard);
                Some((attempt, guard))
            }
        }));
        let got = got.await;
        let tokens: Vec<_> = got.iter().map(|got| got.as_ref().map(|(_, guard)| guard.token())).collect();
        self.watches.all_say(ARRIVES, &tokens).await;
        for (attempt, guard) in got.into_iter().flatten() {
            contender.asks_guard(&attempt, &guard);
            contender.release(&attempt, guard).await;
        }
        contender.close().await;
        // What was closed and killed before has had its time.
        let last = self.contender(END, self.observer().await?, &is_over);
        for lock in 0..LOCKS {
            let free = async { while last.look(lock).await != Some(false) {} };
            let _ = tokio::time::timeout(self.within, free).await;
        }
        self.watches.all_say(ARRIVES, &[None; LOCKS]).await;
        patience::until_done("clearing up", || last.kv.delete_tree(RESOURCES).into_future()).await?;
        let _ = last.kv.close().await;
        Ok(())
    }
}
