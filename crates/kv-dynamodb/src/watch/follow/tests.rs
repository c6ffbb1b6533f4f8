//! The follower, on a stream whose shards close and split, which no emulator has.

use super::*;
use kv_core::{ErrorKind, backend::retry::Effect};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

/// A key, and the number of the write.
type Record = (u32, u32);

#[derive(Default)]
struct World {
    shards: Vec<Kept>,
    /// The number of newest shards that the listing leaves out.
    unlisted: usize,
    /// The errors that the next requests for records get.
    errors: Vec<ReadError>,
    off: bool,
    writes: u32,
}

struct Kept {
    shard: Shard,
    /// The keys of the shard: their remainder by the first number is the second.
    keys: (u32, u32),
    records: Vec<Record>,
    closed: bool,
}

impl World {
    fn add(&mut self, keys: (u32, u32), parent: Option<usize>) {
        let id = format!("shard-{}", self.shards.len());
        let parent = parent.map(|at| self.shards[at].shard.id.clone());
        self.shards.push(Kept { shard: Shard { id, parent }, keys, records: Vec::new(), closed: false });
    }

    /// Closes a shard, which goes on in one child, or in two.
    fn close(&mut self, at: usize, splits: bool) {
        self.shards[at].closed = true;
        let (of, rest) = self.shards[at].keys;
        if splits {
            self.add((of * 2, rest), Some(at));
            self.add((of * 2, rest + of), Some(at));
        } else {
            self.add((of, rest), Some(at));
        }
    }

    fn write(&mut self, key: u32) {
        let n = self.writes;
        self.writes += 1;
        let open = self.shards.iter_mut().find(|s| !s.closed && key % s.keys.0 == s.keys.1);
        open.expect("every key has its shard").records.push((key, n));
    }

    fn open(&self) -> Vec<usize> {
        (0..self.shards.len()).filter(|at| !self.shards[*at].closed).collect()
    }
}

#[derive(Default)]
struct Fake(Mutex<World>);

impl Fake {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

impl ShardSource for Fake {
    type Record = Record;

    async fn find(&self, _: bool) -> Result<(), ReadError> {
        if self.world().off { Err(ReadError::Off(Error::new(ErrorKind::Unsupported, "off"))) } else { Ok(()) }
    }

    async fn shards(&self) -> Result<Vec<Shard>, ReadError> {
        let world = self.world();
        let listed = world.shards.len() - world.unlisted;
        Ok(world.shards[..listed].iter().map(|kept| kept.shard.clone()).collect())
    }

    async fn iterator(&self, shard: &str, begin: Begin) -> Result<String, ReadError> {
        let world = self.world();
        let at = world.shards.iter().position(|kept| kept.shard.id == shard).ok_or(ReadError::Gap)?;
        let from = if begin == Begin::Latest { world.shards[at].records.len() } else { 0 };
        Ok(format!("{at}:{from}"))
    }

    async fn records(&self, iterator: &str) -> Result<Read<Record>, ReadError> {
        let mut world = self.world();
        if let Some(error) = world.errors.pop() {
            return Err(error);
        }
        let (at, from) = iterator.split_once(':').unwrap();
        let (at, from): (usize, usize) = (at.parse().unwrap(), from.parse().unwrap());
        let kept = &world.shards[at];
        let records: Vec<_> = kept.records[from..].iter().take(3).copied().collect();
        let next = from + records.len();
        let more = !kept.closed || next < kept.records.len();
        Ok((records, more.then(|| format!("{at}:{next}"))))
    }
}

#[derive(Default)]
struct Told {
    records: Vec<Record>,
    live: bool,
    missed: u32,
}

#[derive(Default)]
struct Ear(Mutex<Told>);

impl RecordHandler<Record> for Ear {
    fn live(&self) {
        self.0.lock().unwrap().live = true;
    }
    fn record(&self, record: Record) {
        self.0.lock().unwrap().records.push(record);
    }
    fn missed(&self) {
        self.0.lock().unwrap().missed += 1;
    }
}

struct Followed {
    source: Arc<Fake>,
    ear: Arc<Ear>,
    task: tokio::task::JoinHandle<Error>,
}

impl Followed {
    async fn new(world: World) -> Self {
        let (source, ear) = (Arc::new(Fake(Mutex::new(world))), Arc::<Ear>::default());
        let task = tokio::spawn(follow(source.clone(), ear.clone()));
        let new = Self { source, ear, task };
        new.until(|told| told.live).await;
        new
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.source.world()
    }

    async fn until(&self, is_so: impl Fn(&Told) -> bool) {
        let waiting = async {
            while !is_so(&self.ear.0.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // This time is that of the paused clock.
        let came = tokio::time::timeout(Duration::from_secs(600), waiting).await;
        assert!(came.is_ok(), "told of {} records", self.ear.0.lock().unwrap().records.len());
    }

    async fn has_told(&self, count: usize) {
        self.until(|told| told.records.len() >= count).await;
    }

    fn told(&self) -> Vec<Record> {
        self.ear.0.lock().unwrap().records.clone()
    }
}

fn one_shard() -> World {
    let mut world = World::default();
    world.add((1, 0), None);
    (0..20).for_each(|n| world.write(n % 4));
    world
}

/// Checks that each key's writes are told in their order, none missing, none twice.
fn assert_whole(told: &[Record], from: u32, to: u32) {
    let mut keys = BTreeMap::<u32, Vec<u32>>::new();
    told.iter().for_each(|(key, n)| keys.entry(*key).or_default().push(*n));
    keys.values().for_each(|of| assert!(of.is_sorted_by(|a, b| a < b), "{keys:?}"));
    let mut all: Vec<_> = told.iter().map(|(_, n)| *n).collect();
    all.sort_unstable();
    assert_eq!(all, (from..to).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_is_not_told() {
    let followed = Followed::new(one_shard()).await;
    followed.world().write(1);
    followed.has_told(1).await;
    assert_eq!(followed.told(), [(1, 20)]);
}

#[tokio::test(start_paused = true)]
async fn shards_are_followed_through_closes_and_splits() {
    let followed = Followed::new(one_shard()).await;
    for round in 0..12_usize {
        {
            let mut world = followed.world();
            (0..50).for_each(|n| world.write(n * 7 % 16));
            let open = world.open();
            world.close(open[round % open.len()], round < 4);
            (0..50).for_each(|n| world.write(n * 5 % 16));
        }
        if round % 3 == 0 {
            // Otherwise several generations of shards close before anyone looks.
            followed.has_told((round + 1) * 100).await;
        }
    }
    followed.has_told(1200).await;
    assert_whole(&followed.told(), 20, 1220);
    assert_eq!(followed.ear.0.lock().unwrap().missed, 0, "nothing was missed");
}

#[tokio::test(start_paused = true)]
async fn one_begins_while_a_shard_closes_and_its_children_are_not_listed_yet() {
    let mut world = one_shard();
    world.close(0, true);
    world.unlisted = 2;
    world.write(0);
    let followed = Followed::new(world).await;
    followed.world().write(1);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(followed.told(), []);
    followed.world().unlisted = 0;
    followed.has_told(2).await;
    assert_whole(&followed.told(), 20, 22);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_listed_later_than_its_sibling_is_read() {
    let mut world = one_shard();
    world.close(0, true);
    world.unlisted = 1;
    let followed = Followed::new(world).await;
    for splits in 0..3 {
        {
            let mut world = followed.world();
            (0..4).for_each(|key| world.write(key));
            if splits > 0 {
                let open = world.open();
                world.close(open[0], true);
                world.unlisted = 1;
                (0..4).for_each(|key| world.write(key));
            }
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        followed.world().unlisted = 0;
        followed.has_told(4 + splits * 8).await;
    }
    assert_whole(&followed.told(), 20, 40);
    assert_eq!(followed.ear.0.lock().unwrap().missed, 0, "nothing was missed");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_read_any_more_is_said_to_be_missed() {
    let followed = Followed::new(one_shard()).await;
    followed.world().errors.push(ReadError::Gap);
    followed.until(|told| told.missed == 1).await;
    let from = followed.world().writes;
    followed.world().write(3);
    followed.has_told(1).await;
    assert_whole(&followed.told(), from, from + 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_and_a_pause_not_at_all() {
    let failed =
        |is_silent| Failure { is_silent, ..Failure::new(Effect::None, ErrorKind::Unavailable, "away") };
    let followed = Followed::new(one_shard()).await;
    // The service itself asks for a pause, which is no outage.
    followed.world().errors.extend((0..3).map(|_| ReadError::Failed(failed(false))));
    followed.world().write(1);
    followed.has_told(1).await;
    assert_eq!(followed.ear.0.lock().unwrap().missed, 0);
    followed.world().errors.extend((0..5).map(|_| ReadError::Failed(failed(true))));
    followed.until(|told| told.missed == 1).await;
    let from = followed.world().writes;
    followed.world().write(2);
    followed.has_told(2).await;
    assert_eq!(followed.ear.0.lock().unwrap().missed, 1);
    assert_eq!(followed.told()[1..], [(2, from)]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_lasts_ends_it_and_no_other() {
    let followed = Followed::new(one_shard()).await;
    let refused = |kind| ReadError::Failed(Failure::new(Effect::Refused, kind, "no"));
    followed.world().errors.push(refused(ErrorKind::Other));
    followed.until(|told| told.missed == 1).await;
    followed.world().errors.push(refused(ErrorKind::PermissionDenied));
    assert_eq!(followed.task.await.unwrap().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_off_for_a_while() {
    let followed = Followed::new(one_shard()).await;
    followed.world().off = true;
    tokio::time::sleep(OFF / 2).await;
    followed.world().off = false;
    followed.until(|told| told.missed == 1).await;
    followed.world().off = true;
    tokio::time::sleep(OFF / 2).await;
    assert!(!followed.task.is_finished());
    assert_eq!(followed.task.await.unwrap().kind(), ErrorKind::Unsupported);
}
