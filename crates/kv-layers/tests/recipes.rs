//! The recipes over `Chaos`, which loses answers, also of writes that took effect, and has calls fail:
//! the promises of each recipe hold.

use kv_core::{ErrorKind, Kv, Result, backend::Clock};
use kv_layers::Chaos;
use kv_memory::Config;
use kv_recipes::{
    Barrier, Counter, DoubleBarrier, Election, Group, IdBlocks, Once, Ran, Registration, RwLock, Semaphore,
    Service, Shards, Ticks, View, lock_all,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::sleep;

const TTL: Duration = Duration::from_secs(10);
/// The time that each piece of work takes.
const WORK: Duration = Duration::from_millis(20);

/// A store on the runtime's clock, and the same one under chaos.
struct Field {
    store: Kv,
    kv: Kv,
    chaos: Chaos,
}

impl Field {
    async fn new(seed: u64) -> Result<Self> {
        let chaos = Chaos::new(seed).failures(0.05).lost_answers(0.2);
        let store = Config::new().clock(Clock::tokio()).open().await?;
        let kv = store.clone().layer(chaos.clone());
        Ok(Self { store, kv, chaos })
    }

    /// Checks that answers were lost, and closes the store.
    async fn ends(self) -> Result<()> {
        let counts = self.chaos.counts();
        assert!(counts.lost_done > 0 && counts.lost_undone > 0, "{counts:?}");
        self.store.close().await
    }
}

/// Makes the call again as long as it ends by a passing trouble.
async fn again<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    loop {
        match call().await {
            Err(e) if e.is_transient() || e.kind() == ErrorKind::OutcomeUnknown => sleep(WORK).await,
            done => return done,
        }
    }
}

/// Runs these tasks side by side, until all have ended.
async fn all<F>(tasks: impl IntoIterator<Item = F>) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        task.await.expect("it does not panic")?;
    }
    Ok(())
}

/// Counts who is inside.
#[derive(Clone, Default)]
struct Room(Arc<AtomicUsize>);

impl Room {
    async fn work(&self, most: usize) {
        let inside = self.0.fetch_add(1, SeqCst) + 1;
        assert!(inside <= most, "{inside} are inside, and {most} may be");
        sleep(WORK).await;
        self.0.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_counter_counts_once() -> Result<()> {
    let field = Field::new(1).await?;
    let sum = Arc::new(AtomicI64::new(0));
    let adds = (1..=6).map(|by| {
        let (counter, sum) = (Counter::new(&field.kv, "hits").deadline(6 * TTL), sum.clone());
        async move {
            for _ in 0..10 {
                // Nothing was added after any error but an unknown outcome, and there is time for none.
                while let Err(e) = counter.add(by).await {
                    assert!(e.is_transient(), "{e}");
                }
                sum.fetch_add(by, SeqCst);
            }
            Ok(())
        }
    });
    all(adds).await?;
    assert_eq!(Counter::new(&field.store, "hits").get().await?, sum.load(SeqCst));
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn no_id_is_given_out_twice() -> Result<()> {
    let field = Field::new(2).await?;
    let given = Arc::new(Mutex::new(BTreeSet::new()));
    let takers = (0..4).map(|_| {
        let (ids, given) = (IdBlocks::new(&field.kv, "orders").size(3), given.clone());
        async move {
            for _ in 0..40 {
                let id = again(|| ids.next()).await?;
                assert!(given.lock().unwrap_or_else(PoisonError::into_inner).insert(id), "{id} twice");
            }
            Ok(())
        }
    });
    all(takers).await?;
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn one_leads_at_a_time_by_growing_terms() -> Result<()> {
    let field = Field::new(3).await?;
    let (room, last) = (Room::default(), Arc::new(AtomicUsize::new(0)));
    let candidates = (0..4).map(|n| {
        let election = Election::new(&field.kv, "app/leader").candidate(format!("host-{n}")).ttl(TTL);
        let (kv, room, last) = (field.kv.clone(), room.clone(), last.clone());
        async move {
            for round in 0..5 {
                let term = again(|| election.campaign()).await?;
                let number = usize::try_from(term.number()).expect("a small number");
                let before = last.swap(number, SeqCst);
                assert!(number > before, "the term {number} follows {before}");
                room.work(1).await;
                again(|| async { kv.put("app/plan", format!("{n}.{round}")).fenced(&term).await }).await?;
                again(|| term.proclaim(format!("{n}.{round}"))).await?;
                let fence = term.fence().clone();
                term.resign().await?;
                let late = again(|| async { kv.put("app/plan", "late").fenced(&fence).await }).await;
                assert_eq!(late.unwrap_err().kind(), ErrorKind::LockLost);
            }
            Ok(())
        }
    });
    all(candidates).await?;
    assert_ne!(field.store.get("app/plan").await?.unwrap().text(), Some("late"));
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn no_more_have_a_permit_than_there_are() -> Result<()> {
    let field = Field::new(4).await?;
    let room = Room::default();
    let workers = (0..5).map(|_| {
        let (semaphore, room) = (Semaphore::new(&field.kv, "render", 2).ttl(TTL), room.clone());
        async move {
            for _ in 0..5 {
                let permit = again(|| semaphore.acquire()).await?;
                room.work(2).await;
                // One that cannot be given back is free after its TTL.
                let _ = permit.release().await;
            }
            Ok(())
        }
    });
    all(workers).await?;
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn a_writer_is_alone() -> Result<()> {
    let field = Field::new(5).await?;
    let (readers, writers) = (Room::default(), Room::default());
    let tasks = (0..6).map(|n| {
        let lock = RwLock::new(&field.kv, "schema").ttl(TTL);
        let (readers, writers) = (readers.clone(), writers.clone());
        async move {
            for _ in 0..4 {
                if n % 3 == 0 {
                    let guard = again(|| lock.write()).await?;
                    assert_eq!(readers.0.load(SeqCst), 0, "a reader is inside");
                    writers.work(1).await;
                    assert_eq!(readers.0.load(SeqCst), 0, "a reader came in");
                    let _ = guard.release().await;
                } else {
                    let permit = again(|| lock.read()).await?;
                    assert_eq!(writers.0.load(SeqCst), 0, "a writer is inside");
                    readers.work(4).await;
                    assert_eq!(writers.0.load(SeqCst), 0, "a writer came in");
                    let _ = permit.release().await;
                }
            }
            Ok(())
        }
    });
    all(tasks).await?;
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn several_locks_are_had_by_one() -> Result<()> {
    let field = Field::new(6).await?;
    let rooms = [Room::default(), Room::default(), Room::default()];
    let tasks = (0..6).map(|n| {
        let (first, second) = (n % 3, (n + 1) % 3);
        let locks = lock_all(&field.kv, [format!("l/{first}"), format!("l/{second}")]).ttl(TTL);
        let (kv, first, second) = (field.kv.clone(), rooms[first].clone(), rooms[second].clone());
        async move {
            for _ in 0..4 {
                let held = again(|| locks.acquire()).await?;
                tokio::join!(first.work(1), second.work(1));
                let done = again(|| async { held.transact().then(kv.put("done", "")).await }).await?;
                assert!(done.is_committed(), "{done:?}");
                let _ = held.release().await;
            }
            Ok(())
        }
    });
    all(tasks).await?;
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn what_happens_once_happens_once() -> Result<()> {
    let field = Field::new(7).await?;
    for round in 0..30 {
        let now = Arc::new(AtomicUsize::new(0));
        let tasks = (0..4).map(|n| {
            let (once, now) = (Once::new(&field.kv, format!("migrations/{round}")).ttl(TTL), now.clone());
            let kv = field.kv.clone();
            async move {
                let ran = again(|| {
                    once.run(|effects| {
                        let effects = effects.then(kv.put(format!("ran/{round}/{n}"), ""));
                        async move { kv_core::Result::Ok(effects) }
                    })
                });
                now.fetch_add(usize::from(ran.await? == Ran::Now), SeqCst);
                Ok(())
            }
        });
        all(tasks).await?;
        assert_eq!(field.store.list(format!("ran/{round}")).await?.len(), 1, "round {round}");
        assert!(now.load(SeqCst) <= 1, "{now:?} made it happen");
    }
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn a_registration_is_there_once_with_its_newest_value() -> Result<()> {
    let field = Field::new(8).await?;
    for round in 0..10 {
        let key = format!("web/{round}");
        let me = again(|| Registration::new(&field.kv, &key).json(&"first").ttl(TTL).register()).await?;
        again(|| me.set_json(&"second")).await?;
        let web: Service<String> = Service::open(&field.store, "web").await?;
        let found: Vec<_> = web.instances().iter().map(|one| (one.id.clone(), one.value.clone())).collect();
        assert_eq!(found, [(me.id().to_owned(), "second".to_owned())]);
        let gone = me.deregister().await;
        assert!(gone.is_ok_and(|was_there| was_there) || !field.store.exists(&key).await?);
        sleep(2 * TTL).await;
        assert!(!field.store.exists(&key).await?, "it is left behind");
    }
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn a_member_is_in_a_group_once_and_a_view_of_it_is_whole() -> Result<()> {
    let field = Field::new(9).await?;
    let view: View<String> = again(|| async { View::open(&field.kv, "workers").await }).await?;
    let group = Group::new(&field.kv, "workers").ttl(TTL);
    let mut members = Vec::new();
    for n in 0..12 {
        let (name, value) = (format!("host-{n}"), n.to_string());
        members.push(again(|| group.join(&name, &value)).await?);
    }
    again(|| view.synced_now()).await?;
    assert_eq!((view.len(), field.store.list("workers").await?.len()), (12, 12));
    for member in members {
        let _ = member.leave().await;
    }
    sleep(2 * TTL).await;
    again(|| view.synced_now()).await?;
    assert!(view.is_empty() && field.store.list("workers").await?.is_empty());
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn a_barrier_is_as_it_was_asked_for() -> Result<()> {
    let field = Field::new(10).await?;
    let (barrier, seen) = (Barrier::new(&field.kv, "gate"), Barrier::new(&field.store, "gate"));
    for round in 0..30 {
        again(|| barrier.raise()).await?;
        assert!(seen.is_raised().await?, "round {round}");
        again(|| barrier.lift()).await?;
        assert!(!seen.is_raised().await?, "round {round}");
        again(|| barrier.wait()).await?;
    }
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn members_go_in_together_and_come_out_together() -> Result<()> {
    const MEMBERS: usize = 3;
    let field = Field::new(11).await?;
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let members = (0..MEMBERS).map(|_| {
        let barrier = DoubleBarrier::new(&field.kv, "round", MEMBERS).ttl(TTL);
        let (inside, most) = (inside.clone(), most.clone());
        async move {
            let member = again(|| barrier.enter()).await?;
            assert_eq!(member.round(), 1);
            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            sleep(WORK).await;
            member.leave().await.or_else(|e| if e.is_transient() { Ok(()) } else { Err(e) })
        }
    });
    all(members).await?;
    assert_eq!(most.load(SeqCst), MEMBERS);
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn no_shard_has_two_owners_and_each_has_one() -> Result<()> {
    const SHARDS: usize = 8;
    let field = Field::new(12).await?;
    let owned = Arc::new([(); SHARDS].map(|()| (Room::default(), AtomicUsize::new(0))));
    let member = |n: usize| {
        let shards = Shards::new(&field.kv, "indexer", SHARDS).member(format!("host-{n}")).ttl(TTL);
        let owned = owned.clone();
        tokio::spawn(async move {
            shards
                .run(move |shard| {
                    let owned = owned.clone();
                    async move {
                        // Dropped in the middle, the room is left all the same.
                        struct Leaves<'a>(&'a Room);
                        impl Drop for Leaves<'_> {
                            fn drop(&mut self) {
                                self.0.0.fetch_sub(1, SeqCst);
                            }
                        }
                        let (room, turns) = &owned[shard.id()];
                        assert_eq!(room.0.fetch_add(1, SeqCst), 0, "shard {} has two owners", shard.id());
                        let _leaves = Leaves(room);
                        turns.fetch_add(1, SeqCst);
                        std::future::pending::<()>().await;
                    }
                })
                .await
        })
    };
    for round in 0..4 {
        let members: Vec<_> = (0..3).map(|n| member(round * 3 + n)).collect();
        sleep(6 * TTL).await;
        let now: Vec<_> = owned.iter().map(|(room, _)| room.0.load(SeqCst)).collect();
        assert_eq!(now, [1; SHARDS], "round {round}");
        for member in members {
            assert!(!member.is_finished(), "it goes on");
            member.abort();
        }
        sleep(3 * TTL).await;
    }
    assert!(owned.iter().all(|(_, turns)| turns.load(SeqCst) > 0));
    field.ends().await
}

#[tokio::test(start_paused = true)]
async fn no_tick_is_left_out_or_run_again() -> Result<()> {
    let field = Field::new(13).await?;
    let ran = Arc::new(Mutex::new(BTreeMap::<u64, usize>::new()));
    let members: Vec<_> = (0..3)
        .map(|_| {
            let (ticks, ran) = (Ticks::every(&field.kv, "report", TTL / 2).ttl(TTL), ran.clone());
            tokio::spawn(async move {
                ticks
                    .run(|tick| {
                        *ran.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .entry(tick.number())
                            .or_default() += 1;
                        sleep(WORK)
                    })
                    .await
            })
        })
        .collect();
    sleep(30 * TTL).await;
    for member in members {
        assert!(!member.is_finished(), "it goes on");
        member.abort();
    }
    let ran = ran.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (first, last) = (*ran.keys().next().expect("a tick"), *ran.keys().last().expect("a tick"));
    assert_eq!(ran.len() as u64, last - first + 1, "none is left out: {ran:?}");
    assert!(ran.len() >= 30 && ran.values().all(|times| *times == 1), "{ran:?}");
    field.ends().await
}
