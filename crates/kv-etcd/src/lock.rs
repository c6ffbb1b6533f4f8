//! Locks: contenders in the order of their creation.

use crate::{
    client::Purpose,
    contender::Contender,
    names::{Names, Range},
    session::{Floor, Use},
    store::{Inner, revision},
    txn::{found, is_missing},
    vigil::Vigil,
};
use etcd_client::{
    Compare, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnResponse,
};
use kv_core::{
    backend::{Alive, Backoff, retry::Answered},
    *,
};
use std::sync::{Arc, atomic::Ordering};

pub(crate) use crate::session::Sessions;

/// How many names of a line are looked at at once to see whether there is a contender among them.
const JUNK: i64 = 128;

/// One attempt to hold one lock.
pub(crate) struct Attempt {
    pub(crate) inner: Arc<Inner>,
    pub(crate) session: Use,
    pub(crate) contender: Arc<Contender>,
    line: Range,
}

/// Where an attempt stands in line.
enum Place {
    First,
    Behind(KeyValue),
    /// Its contender is gone.
    Lost,
    /// Nobody has looked yet.
    Unseen,
}

/// What became of a request to enter a line.
enum Entered {
    /// In line since this revision.
    At(i64, Place),
    /// There is another contender, and we must not wait.
    Taken,
    /// Only names that are no contenders keep us from holding it at once.
    AmongJunk,
    /// Another attempt of a greater number was given up meanwhile.
    TooLate,
}

/// [`Store::lock`].
pub(crate) async fn lock(inner: &Arc<Inner>, name: &Key, options: &LockOptions) -> Result<Option<Acquired>> {
    let range = inner.capabilities.lock.as_ref().map(|lock| &lock.ttl);
    let ttl = range.ok_or_else(|| inner.capabilities.unsupported("locks"))?.grant(options.ttl)?;
    let (mut backoff, mut wait) = (Backoff::default(), options.wait);
    loop {
        let session = inner.session(ttl, options.each_request).await?;
        let attempt = Attempt::new(inner, name, session, options);
        // Made before anything is sent, so that a dropped future leaves nothing behind.
        let give_up = attempt.clone().give_up();
        let entered = match attempt.enter(options, wait).await {
            Ok(entered) => entered,
            Err(e) if e.kind() == ErrorKind::LeaseLost => {
                give_up.forget();
                inner.sessions.forget(&attempt.session);
                backoff.pause().await;
                continue;
            }
            Err(e) => {
                if e.kind() == ErrorKind::NoSpace {
                    // A server that becomes full by a request has done it all the same; and answers no more.
                    drop(attempt.clone().leave(None));
                }
                if e.kind() != ErrorKind::OutcomeUnknown {
                    attempt.contender.is_answered(give_up);
                }
                return Err(e);
            }
        };
        let (token, place) = match entered {
            Entered::At(token, place) => (token, place),
            Entered::Taken | Entered::TooLate | Entered::AmongJunk => {
                attempt.contender.is_answered(give_up);
                match entered {
                    Entered::Taken => return Ok(None),
                    Entered::AmongJunk => wait = true,
                    _ => {}
                }
                continue;
            }
        };
        let leave = attempt.clone().leave(None);
        give_up.forget();
        let place = match place {
            Place::Unseen if !options.wait => attempt.look(token).await?.0,
            place => place,
        };
        if !options.wait && matches!(place, Place::Behind(_)) {
            leave.run().await?;
            return Ok(None);
        }
        if !attempt.wait(token, place).await? {
            drop(leave);
            backoff.pause().await;
            continue;
        }
        let alive = attempt.session.alive().another();
        let guarded = tokio::spawn(attempt.clone().watch_own(token, alive.clone())).abort_handle();
        let release = attempt.clone().leave(Some(guarded));
        leave.forget();
        let token = u64::try_from(token).unwrap_or_default();
        let fence = Fence::new(name.clone(), token, attempt.contender.name.clone());
        return Ok(Some(Acquired { fence, alive, release }));
    }
}

impl Attempt {
    fn new(inner: &Arc<Inner>, name: &Key, session: Use, options: &LockOptions) -> Arc<Self> {
        let contender = Contender::new(inner, name, session.session(), options.each_request);
        let (inner, line) = (inner.clone(), inner.names.contenders(name));
        Arc::new(Self { inner, session, contender: Arc::new(contender), line })
    }

    fn the_line(&self) -> GetOptions {
        GetOptions::new().with_range(self.line.end.clone()).with_keys_only()
    }

    fn own(&self) -> TxnOp {
        TxnOp::get(self.contender.name.clone(), Some(GetOptions::new().with_keys_only()))
    }

    fn is_contender(&self, kv: &KeyValue) -> bool {
        Names::is_contender(&self.line, kv.key(), kv.lease())
    }

    fn vigil(&self) -> &Vigil {
        &self.session.session().vigil
    }

    /// Gets in line, or holds the lock at once.
    async fn enter(&self, options: &LockOptions, wait: bool) -> Result<Entered> {
        let own = &self.contender;
        let is_made = own.floor.is_made();
        let mut when = vec![if is_made { own.is_above() } else { is_missing(own.floor_name()) }];
        if !wait {
            when.push(is_missing_all(&self.line));
        }
        let put = PutOptions::new().with_lease(own.lease);
        let last_two = self.the_line().with_sort(SortTarget::Create, SortOrder::Descend).with_limit(2);
        let mut then = vec![
            TxnOp::put(own.name.clone(), options.value.clone(), Some(put)),
            TxnOp::get(self.line.start.clone(), Some(last_two)),
        ];
        if !is_made {
            then.push(own.raise(0));
        }
        let others = TxnOp::get(self.line.start.clone(), Some(self.the_line().with_limit(JUNK)));
        let otherwise = [self.own(), others, TxnOp::get(own.floor_name(), None)];
        let txn = Txn::new().when(when).and_then(then).or_else(otherwise);
        // A repeat finds the contender that the first one made.
        let ask = self.inner.client.ask(Purpose::Repeatable, own.deadline(), |service| {
            own.was_sent.store(true, Ordering::Relaxed);
            let txn = txn.clone();
            async move { service.kv_client().txn(txn).await }
        });
        let Answered { answer, is_repeat } = ask.await?;
        own.has_copies.store(is_repeat, Ordering::Relaxed);
        let answer = answer?;
        if !answer.succeeded() {
            return Ok(self.refused(&answer, is_made));
        }
        own.floor.is(true);
        let mut last = found(&answer).into_iter().flatten();
        let Some(found) = last.next().filter(|kv| kv.key() == own.name) else {
            // It came twice, or nobody knows what was done.
            own.has_copies.store(true, Ordering::Relaxed);
            return self.look_for_own().await;
        };
        let place = match last.next() {
            None => Place::First,
            Some(before) if self.is_contender(&before) => Place::Behind(before),
            Some(_) => Place::Unseen,
        };
        Ok(Entered::At(found.create_revision(), place))
    }

    fn refused(&self, answer: &TxnResponse, was_made: bool) -> Entered {
        let mut found = found(answer).into_iter();
        let (own, line) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
        let floor = found.next().and_then(|mut floor| floor.pop());
        if let Some(own) = own.first() {
            return Entered::At(own.create_revision(), Place::Unseen);
        }
        self.contender.floor.is(floor.is_some());
        let is_above = match &floor {
            Some(floor) => was_made && floor.value() < Floor::spelt(self.contender.number).as_bytes(),
            None => !was_made,
        };
        match line.iter().any(|kv| self.is_contender(kv)) {
            _ if !is_above => Entered::TooLate,
            // There may be one behind those that were seen: in line, one sees it.
            false => Entered::AmongJunk,
            true => Entered::Taken,
        }
    }

    async fn look_for_own(&self) -> Result<Entered> {
        let (own, keys_only) = (&self.contender, GetOptions::new().with_keys_only());
        let found = self.inner.range(Purpose::Read, own.deadline(), &own.name, keys_only).await?;
        Ok(match found.kvs().first() {
            Some(own) => Entered::At(own.create_revision(), Place::Unseen),
            None => Entered::At(0, Place::Lost),
        })
    }

    /// Who is before us, and the revision at which it was so.
    async fn look(&self, token: i64) -> Result<(Place, i64)> {
        let (mut below, mut many) = (token, 1);
        loop {
            let before = self
                .the_line()
                .with_max_create_revision(below - 1)
                .with_sort(SortTarget::Create, SortOrder::Descend)
                .with_limit(many);
            let ops = [self.own(), TxnOp::get(self.line.start.clone(), Some(before))];
            let answer =
                self.inner.txn(Purpose::Read, self.contender.deadline(), Txn::new().and_then(ops)).await?;
            let at = revision(answer.header())?;
            let mut found = found(&answer).into_iter();
            let own = found.next().unwrap_or_default();
            let before = found.next().unwrap_or_default();
            let last = before.last().map(KeyValue::create_revision);
            let place = match before.into_iter().find(|before| self.is_contender(before)) {
                _ if !own.iter().any(|own| own.create_revision() == token && self.is_contender(own)) => {
                    Place::Lost
                }
                Some(before) => Place::Behind(before),
                // What another tool wrote there waits for nothing.
                None => match last {
                    Some(last) if last > 1 => {
                        (below, many) = (last, JUNK);
                        continue;
                    }
                    _ => Place::First,
                },
            };
            return Ok((place, at));
        }
    }

    /// Waits until we are first; `false` when our place was lost.
    async fn wait(&self, token: i64, mut place: Place) -> Result<bool> {
        let (mut backoff, mut at) = (Backoff::default(), token);
        let lost = self.session.alive().lost();
        tokio::pin!(lost);
        loop {
            match place {
                Place::First => return Ok(true),
                Place::Lost => return Ok(false),
                Place::Unseen => {}
                Place::Behind(before) => {
                    tokio::select! {
                        biased;
                        _ = &mut lost => {
                            self.inner.sessions.forget(&self.session);
                            return Ok(false);
                        }
                        gone = self.vigil().gone(before.key().to_vec(), at + 1) => {
                            if gone { backoff.reset() } else { backoff.pause().await }
                        }
                    }
                }
            }
            place = loop {
                match self.look(token).await {
                    Ok((place, now)) => {
                        at = now;
                        break place;
                    }
                    Err(e) if e.is_lasting() => return Err(e),
                    // The line is kept by the session, whatever the link does meanwhile.
                    Err(_) if self.session.alive().is_held() => backoff.pause().await,
                    Err(_) => break Place::Lost,
                }
            };
        }
    }

    /// Ends the guard as soon as its contender is seen to be gone.
    async fn watch_own(self: Arc<Self>, token: i64, alive: Alive) {
        let (mut backoff, mut at) = (Backoff::default(), token);
        loop {
            if self.vigil().gone(self.contender.name.clone(), at + 1).await {
                break;
            }
            backoff.pause().await;
            match self.look(token).await {
                Ok((Place::Lost, _)) => break,
                Ok((_, now)) => at = now,
                Err(_) => {}
            }
        }
        alive.end("its key was deleted or overwritten on the server, by an administrator or with its lease");
    }
}

fn is_missing_all(range: &Range) -> Compare {
    is_missing(range.start.clone()).with_range(range.end.clone())
}
