//! `doctor`: tries a store, and says in words what to know about it.

use super::{about::of_version, terms::Named};
use crate::{
    exit::{Exit, Failure, Run},
    lines::V,
    log,
    out::{Look, Out},
    text,
};
use clap::Args;
use kv_core::{
    Capabilities, Durability, Error, ErrorKind, ForeignKeys, Key, Kv, TtlRange, WatchEvent, Watching, Written,
};
use serde::Serialize;
use std::{
    process,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::time::timeout;

/// The reads by which the time of an answer is measured.
const READS: usize = 21;
/// A median above this is worth a word: a store in the same place answers sooner.
const SLOW: Duration = Duration::from_millis(50);
/// The time in which a watch has to tell a change, on a store that answers.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// The TTL of locks unless another is given.
const LOCK_TTL: Duration = Duration::from_secs(15);

/// The TTL of the key that is put: a doctor that is ended leaves nothing for long.
const KEY_TTL: Duration = Duration::from_secs(120);

/// The arguments of `doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) named: Named,
    /// Also writes, watches, locks and deletes a key of its own, kv-doctor/…, to try the rights
    #[arg(long)]
    write: bool,
}

/// The result of one check of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// Nothing is wrong, and it is good to know.
    Note,
    Fault,
}

/// The findings: where they are told, and the number of faults so far.
struct Findings<'a> {
    out: &'a mut Out,
    faults: usize,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    v: u8,
    check: &'a str,
    verdict: &'static str,
    message: &'a str,
}

impl Findings<'_> {
    fn tell(&mut self, check: &str, verdict: Verdict, message: &str) -> Run<()> {
        let (word, look) = match verdict {
            Verdict::Fine => ("ok", Look::Added),
            Verdict::Note => ("note", Look::Changed),
            Verdict::Fault => ("fault", Look::Removed),
        };
        self.faults += usize::from(verdict == Verdict::Fault);
        if self.out.is_json() {
            self.out.object(&FindingLine { v: V, check, verdict: word, message })?;
        } else {
            self.out.advice(look, word, &format!("{check}: {message}"))?;
        }
        self.out.flush()
    }

    /// Tells how a check ended, and returns what it gave.
    fn tried<T>(
        &mut self,
        check: &str,
        tried: Result<T, Error>,
        message: impl Fn(&T) -> String,
    ) -> Run<Option<T>> {
        match tried {
            Ok(done) => {
                self.tell(check, Verdict::Fine, &message(&done))?;
                Ok(Some(done))
            }
            Err(e) => {
                self.tell(check, Verdict::Fault, &format!("{e}; {}", way_out(e.kind())))?;
                Ok(None)
            }
        }
    }
}

/// Says what to do about a failure.
fn way_out(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unauthenticated => "give the URL a user, password or token that the server knows",
        ErrorKind::PermissionDenied => "have an administrator give this user the right",
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            "look whether the server runs, has a quorum, and can be reached from here; --timeout gives it more time"
        }
        ErrorKind::InvalidArgument | ErrorKind::InvalidKey => "correct the URL, or what it names",
        ErrorKind::NoSpace => "make room on the server, or raise its limit",
        ErrorKind::Unsupported => "see `kv capabilities` for what this store offers",
        _ => "see the server's log",
    }
}

/// Tells why the store cannot be opened, which is all that is known of it. The exit code is that of
/// the error.
pub(crate) fn not_opened(why: Error, out: &mut Out) -> Run {
    let message = format!("{why}; {}", way_out(why.kind()));
    Findings { out, faults: 0 }.tell("opening", Verdict::Fault, &message)?;
    Ok(Failure::from(why).exit())
}

pub(crate) async fn doctor(args: DoctorArgs, kv: &Kv, out: &mut Out) -> Run {
    let mut findings = Findings { out, faults: 0 };
    let capabilities = kv.capabilities();
    let backend = capabilities.backend;
    if capabilities.health {
        findings.tried("server", kv.health().await, |health| {
            let members = match health.members.len() {
                0 | 1 => String::new(),
                many => format!(", {many} members"),
            };
            let leader = health.leader.as_ref().map(|leader| format!(", led by {leader}"));
            let server = of_version(backend, &health.version);
            format!("{server}{members}{}", leader.unwrap_or_default())
        })?;
    }
    // What the library knows of this server, and of these settings, it has logged at the opening.
    for warning in log::warnings() {
        findings.tell("server", Verdict::Note, &warning)?;
    }
    let own = own_key()?;
    let times = findings.tried("reads", times(kv, &own).await, |(median, worst)| {
        format!("{READS} one after another; the median took {median:.1?}, the longest {worst:.1?}")
    })?;
    if let Some((median, _)) = times.filter(|(median, _)| *median > SLOW) {
        let why = format!(
            "a read takes {median:.1?}: the store is far away or busy; TTLs of locks and leases should be {} or more",
            text::of_duration(Duration::from_secs((median * 100).as_secs() + 1))
        );
        findings.tell("reads", Verdict::Note, &why)?;
    }
    for (check, why) in notes(capabilities) {
        findings.tell(check, Verdict::Note, &why)?;
    }
    if args.write {
        try_writes(kv, &own, &mut findings).await?;
    }
    Ok(if findings.faults == 0 { Exit::DONE } else { Exit::NO })
}

/// Returns a name that nobody else uses.
fn own_key() -> Run<Key> {
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok(Key::parse(&format!("kv-doctor/{}-{moment}", process::id()))?)
}

/// Returns the median and the longest time of some reads.
async fn times(kv: &Kv, key: &Key) -> Result<(Duration, Duration), Error> {
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let began = Instant::now();
        kv.get(key).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok((times[READS / 2], times[READS - 1]))
}

/// Returns what is good to know of a store with these abilities.
fn notes(capabilities: &Capabilities) -> Vec<(&'static str, String)> {
    let mut notes = Vec::new();
    if capabilities.durability == Durability::MayLose {
        notes.push((
            "writes",
            "a crash or a failover can lose a write that was acknowledged, and a lock with it; have what a lock \
             guards refuse a token smaller than one that it has seen"
                .to_owned(),
        ));
    }
    if let Some(lock) = &capabilities.lock {
        let ttl = lock.ttl.grant(LOCK_TTL).unwrap_or(LOCK_TTL);
        let late = ttl + lock.ttl.lateness(ttl);
        let seconds = Duration::from_secs(late.as_secs() + u64::from(late.subsec_nanos() > 0));
        let why = format!("one of a killed holder is free after {} at most", text::of_duration(seconds));
        notes.push(("locks", why));
        notes.extend(session_limits(&lock.ttl).map(|why| ("sessions", why)));
        if !lock.fair {
            notes.push(("locks", "they are granted in no order".to_owned()));
        }
    } else {
        let hint = capabilities.hint.as_deref().unwrap_or("this store has none");
        notes.push(("locks", format!("none: {hint}")));
    }
    match capabilities.watch {
        Watching::Unsupported => {
            let hint = capabilities.hint.as_deref().unwrap_or("this store has none");
            notes.push(("watches", format!("none: {hint}")));
        }
        Watching::NewestState => {
            notes.push(("watches", "they may skip to the newest state of a key".to_owned()));
        }
        _ => {}
    }
    if capabilities.foreign_keys == ForeignKeys::AfterAdoption {
        let why = "keys that other tools wrote are not listed and watched before a program adopts them";
        notes.push(("keys", why.to_owned()));
    }
    notes
}

/// Says which TTLs the store grants, where its server's settings leave fewer than programs ask for.
fn session_limits(range: &TtlRange) -> Option<String> {
    let TtlRange { least, greatest, .. } = *range;
    (least > LOCK_TTL / 3 || greatest < LOCK_TTL * 4).then(|| {
        let [least, greatest] = [least, greatest].map(text::of_duration);
        format!(
            "TTLs of locks and leases go from {least} to {greatest}, as the server's settings are; one below is \
             lengthened, and one above is refused"
        )
    })
}

/// Tries what needs the right to write, on a key of its own, which goes with it.
async fn try_writes(kv: &Kv, key: &Key, findings: &mut Findings<'_>) -> Run<()> {
    let done = |what: &'static str| move |took: &Duration| format!("{what} in {took:.1?}");
    let began = Instant::now();
    let put = put(kv, key, "from kv doctor").await.map(|_| began.elapsed());
    let is_unknown = matches!(&put, Err(e) if e.kind() == ErrorKind::OutcomeUnknown);
    let is_put = findings.tried("writes", put, done("a key was put"))?.is_some();
    if !is_put && !is_unknown {
        return Ok(());
    }
    if is_put {
        try_the_rest(kv, key, findings).await?;
    }
    // A key of which nobody knows whether it was put is not left either.
    let began = Instant::now();
    let deleted = kv.delete(key).await.map(|_| began.elapsed());
    findings.tried("deletions", deleted, done("the key was deleted"))?;
    Ok(())
}

/// Puts the key, which goes by itself where the store has that. Where the right to it is a right of
/// its own, as on Consul, who has none may write all the same.
async fn put(kv: &Kv, key: &Key, value: &'static str) -> Result<Written, Error> {
    if let Some(range) = &kv.capabilities().ttl {
        match kv.put(key, value).ttl(KEY_TTL.min(range.greatest)).await {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {}
            done => return done,
        }
    }
    kv.put(key, value).await
}

/// Tries what needs a key that is there.
async fn try_the_rest(kv: &Kv, key: &Key, findings: &mut Findings<'_>) -> Run<()> {
    let done = |what: &'static str| move |took: &Duration| format!("{what} in {took:.1?}");
    if kv.capabilities().watch != Watching::Unsupported {
        let seen = timeout(SEEN_WITHIN, seen(kv, key)).await.unwrap_or_else(|_| {
            let within = text::of_duration(SEEN_WITHIN);
            Err(Error::new(ErrorKind::Timeout, format!("no change was told within {within}")))
        });
        findings.tried("watches", seen, done("a change was seen"))?;
    }
    if kv.capabilities().lock.is_some() {
        findings.tried("locks", locked(kv, key).await, done("a lock was acquired and released"))?;
    }
    Ok(())
}

/// Returns how long a change takes to be seen.
async fn seen(kv: &Kv, key: &Key) -> Result<Duration, Error> {
    let mut watch = kv.watch(key).await?;
    while watch.event().await? != WatchEvent::Synced {}
    let began = Instant::now();
    put(kv, key, "again from kv doctor").await?;
    watch.event().await?;
    Ok(began.elapsed())
}

async fn locked(kv: &Kv, name: &Key) -> Result<Duration, Error> {
    let began = Instant::now();
    if let Some(guard) = kv.new_lock(name).try_acquire().await? {
        guard.release().await?;
    }
    Ok(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::Buffer;

    #[tokio::test]
    async fn a_key_of_which_nobody_knows_whether_it_was_put_is_not_left() {
        let kv = kv_memory::open("memory://").await.unwrap();
        kv_memory::Faults::of(&kv).unwrap().lose_answers(1);
        let buffer = Buffer::default();
        let mut out = Out::to_buffer(&buffer, false, false);
        let exit = doctor(DoctorArgs { named: Named::default(), write: true }, &kv, &mut out).await.unwrap();
        assert_eq!((exit, kv.list("").await.unwrap().len()), (Exit::NO, 0), "{}", buffer.text());
    }

    #[tokio::test]
    async fn a_key_that_a_doctor_could_not_delete_goes_by_itself() {
        let clock = kv_core::backend::Clock::manual();
        let kv = kv_memory::Config::new().clock(clock.clone()).open().await.unwrap();
        let key = own_key().unwrap();
        put(&kv, &key, "from kv doctor").await.unwrap();
        assert!(kv.exists(&key).await.unwrap());
        clock.advance(KEY_TTL);
        assert!(!kv.exists(&key).await.unwrap());
    }

    #[test]
    fn narrow_limits_of_sessions_are_told() {
        let limits = |least, greatest| {
            session_limits(&TtlRange::new(Duration::from_secs(least), Duration::from_secs(greatest)))
        };
        assert!(limits(4, 40).unwrap().contains("from 4s to 40s"));
        assert!(limits(10, 86_400).is_some() && limits(2, 86_400).is_none());
    }

    #[test]
    fn a_store_without_watches_is_told_with_what_to_change() {
        let mut capabilities = Capabilities::new("none");
        capabilities.watch = Watching::Unsupported;
        capabilities.hint = Some("switch the stream on".into());
        let told = ("watches", "none: switch the stream on".to_owned());
        assert!(notes(&capabilities).contains(&told), "{:?}", notes(&capabilities));
    }
}
