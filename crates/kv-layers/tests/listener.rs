//! Hears every span, every log line and every metric of the whole suite's run on the store in memory,
//! at the level `TRACE`, and finds no key, no value and no secret of a program in them, unless they
//! were asked for. A program of its own, since it listens to all of its process.

use kv_core::{
    Kv, Result, WatchEvent,
    backend::Clock,
    driver::async_trait,
    observe::{Attempt, Call, End, Holding, Lag, Loss, Observer, Renewal},
};
use kv_layers::{Chaos, Coalesce, Encrypt, Keyring, Limit, Metrics, Prefix, ReadOnly, Tee};
use kv_memory::{Config, Faults};
use kv_testsuite::{Harness, Options, Outcome, cases};
use metrics::{Counter, Gauge, Histogram, KeyName, Metadata, Recorder, SharedString, Unit};
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Texts, each once.
#[derive(Clone, Default)]
struct Texts(Arc<Mutex<BTreeSet<String>>>);

impl Texts {
    fn add(&self, text: impl AsRef<str>) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !texts.contains(text.as_ref()) {
            texts.insert(text.as_ref().to_owned());
        }
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes down what is said.
#[derive(Clone, Default)]
struct Listener(Texts);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(format!("span {}", span.metadata().name()));
        span.record(&mut line);
        self.0.add(line.0);
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("span".into());
        values.record(&mut line);
        self.0.add(line.0);
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("log {} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        self.0.add(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Listener {
    fn metric(&self, key: &metrics::Key) {
        let mut line = Line(format!("metric {}", key.name()));
        for label in key.labels() {
            let _ = write!(line.0, " {}={}", label.key(), label.value());
        }
        self.0.add(line.0);
    }
}

impl Recorder for Listener {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &metrics::Key, _: &Metadata<'_>) -> Counter {
        self.metric(key);
        Counter::noop()
    }
    fn register_gauge(&self, key: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        self.metric(key);
        Gauge::noop()
    }
    fn register_histogram(&self, key: &metrics::Key, _: &Metadata<'_>) -> Histogram {
        self.metric(key);
        Histogram::noop()
    }
}

/// The metrics, and beside them the names of what the calls are about.
#[derive(Clone)]
struct Spy {
    names: Texts,
    metrics: Metrics,
}

impl Observer for Spy {
    fn call_began(&self, call: &Call<'_>) {
        if let Some(key) = call.key {
            self.names.add(key);
        }
    }
    fn call_ended(&self, call: &Call<'_>, end: End<'_>, took: Duration) {
        self.metrics.call_ended(call, end, took);
    }
    fn attempted(&self, attempt: &Attempt<'_>) {
        self.metrics.attempted(attempt);
    }
    fn renewed(&self, renewal: &Renewal<'_>) {
        self.metrics.renewed(renewal);
    }
    fn watch_began(&self, watch: &Call<'_>) {
        self.metrics.watch_began(watch);
    }
    fn watch_ended(&self, watch: &Call<'_>) {
        self.metrics.watch_ended(watch);
    }
    fn resynced(&self, watch: &Call<'_>) {
        self.metrics.resynced(watch);
    }
    fn lagged(&self, lag: &Lag) {
        self.metrics.lagged(lag);
    }
    fn took(&self, holding: &Holding<'_>) {
        self.metrics.took(holding);
    }
    fn let_go(&self, holding: &Holding<'_>) {
        self.metrics.let_go(holding);
    }
    fn lost(&self, loss: &Loss<'_>) {
        self.metrics.lost(loss);
    }
}

const NAME: &str = "listener";

struct Heard(Spy);

#[async_trait]
impl Harness for Heard {
    fn name(&self) -> String {
        NAME.into()
    }

    async fn open(&self, prefix: &str) -> Result<Kv> {
        Ok(Config::new().name(NAME).prefix(prefix).open().await?.with_observer(self.0.clone()))
    }

    fn is_documented(&self) -> bool {
        false
    }
}

/// Adds the names and values of all that is put below the root of the store.
async fn follow(kv: Kv, names: Texts, values: Texts) -> Result<()> {
    let mut watch = kv.watch_tree("").await?;
    loop {
        if let WatchEvent::Put(entry) = watch.event().await? {
            names.add(entry.key.as_str());
            if let Some(text) = entry.text().filter(|text| text.len() < 1000) {
                values.add(text);
            }
        }
    }
}

/// Tells whether a name is none of the words that a line may have by itself.
fn is_name(text: &str) -> bool {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    text.len() >= 3 && !is_number && text.contains(|c: char| c == '/' || c.is_ascii_digit() || !c.is_ascii())
}

/// Tells whether a value is none of the words that a line may have by itself.
fn is_value(text: &str) -> bool {
    text.len() >= 8 && !text.bytes().all(|b| b.is_ascii_digit())
}

/// Tells whether the text stands in the line, as words of its own.
fn has(line: &str, text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    line.match_indices(text).any(|(at, _)| {
        let (before, behind) = (line[..at].chars().next_back(), line[at + text.len()..].chars().next());
        !before.is_some_and(is_part) && !behind.is_some_and(is_part)
    })
}

/// Makes the calls whose names, values and secrets are marked, through all layers, also in trouble.
async fn marked(spy: &Spy) -> Result<()> {
    let open = || Config::new().clock(Clock::tokio()).open();
    let (store, other) = (open().await?, open().await?);
    let faults = Faults::of(&store).expect("a store in memory");
    let copies = Faults::of(&other).expect("a store in memory");
    let key: [u8; 32] = *b"marked-secret-marked-secret-mark";
    let kv = store
        .layer(Chaos::new(3).delays(0.1, Duration::from_millis(1)))
        .layer(Tee::to(other.store().clone()))
        .layer(Encrypt::new(&Keyring::new(1, key)))
        .layer(Coalesce)
        .layer(Limit::new().reads(8).writes(8))
        .layer(Prefix::new("marked-prefix")?)
        .with_observer(spy.clone());
    let ttl = Duration::from_secs(3);
    let mut watch = kv.watch_tree("marked-key").await?;
    while watch.event().await? != WatchEvent::Synced {}
    kv.put("marked-key/a", "marked-value").await?;
    kv.put("marked-key/a", "marked-value").if_missing().await.unwrap_err();
    let put = kv.put("marked-key/b", "marked-value");
    assert!(!kv.transact().when_missing("marked-key/a").then(put).await?.is_committed());
    kv.clone().layer(ReadOnly).put("marked-key/a", "marked-value").await.unwrap_err();
    kv.put("marked-key/".repeat(200), "marked-value").await.unwrap_err();
    let guard = kv.new_lock("marked-key/lock").value("marked-value").ttl(ttl).acquire().await?;
    let lease = kv.lease(ttl).await?;
    kv.put("marked-key/c", "marked-value").lease(&lease).await?;
    faults.lose_answers(1);
    kv.delete("marked-key/a").await.unwrap_err();
    faults.cut_watches();
    let waiter = tokio::spawn(kv.new_lock("marked-key/lock").value("marked-value").acquire());
    tokio::time::sleep(ttl).await;
    faults.pause();
    copies.pause();
    kv.put("marked-key/d", "marked-value").deadline(ttl / 10).await.unwrap_err();
    kv.get("marked-key/d").deadline(ttl / 10).await.unwrap_err();
    guard.lost().await;
    lease.lost().await;
    tokio::time::sleep(10 * ttl).await;
    faults.resume();
    copies.resume();
    kv.put("marked-key/e", "marked-value").await?;
    drop((guard, lease));
    let held = waiter.await.expect("it does not panic")?;
    faults.evict_lock("marked-prefix/marked-key/lock")?;
    held.lost().await;
    tokio::time::sleep(ttl).await;
    drop(held);
    kv.close().await
}

#[test]
fn nothing_of_a_program_is_in_what_is_told_of_it() {
    let (listener, spy) = (Listener::default(), Spy { names: Texts::default(), metrics: Metrics::new() });
    tracing::subscriber::set_global_default(listener.clone()).expect("the first");
    metrics::set_global_recorder(listener.clone()).unwrap_or_else(|e| panic!("{e}"));

    let paused = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    paused.expect("a runtime").block_on(marked(&spy)).expect("the calls");
    let heard = listener.0.take();
    for line in &heard {
        assert!(!line.contains("marked"), "it is told: {line}");
    }
    for part in ["span kv", "error.type=key_exists", "log WARN", "log INFO", "metric kv.lock.lost"] {
        assert!(heard.iter().any(|line| line.contains(part)), "nothing is heard of {part}: {heard:#?}");
    }
    spy.names.take();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let values = Texts::default();
    runtime.expect("a runtime").block_on(async {
        let root = Config::new().name(NAME).open().await.expect("a store in memory");
        let following = tokio::spawn(follow(root, spy.names.clone(), values.clone()));
        let (harness, options) = (Arc::new(Heard(spy.clone())), Options::default());
        let report = kv_testsuite::run(harness, &cases::all(), &options).await.expect("it can be opened");
        let kept = report.results.iter().filter(|(_, outcome)| *outcome == Outcome::Kept).count();
        assert!(kept > 180, "{kept} cases were run to their end");
        following.abort();
    });
    let (heard, names, values) = (listener.0.take(), spy.names.take(), values.take());
    let names: Vec<_> = names.iter().filter(|name| is_name(name)).collect();
    let values: Vec<_> = values.iter().filter(|value| is_value(value)).collect();
    assert!(names.len() > 100 && values.len() > 10, "{} names, {} values", names.len(), values.len());
    let told = |line: &&String| {
        line.contains("kv-suite-") || names.iter().chain(&values).any(|text| has(line, text))
    };
    let told: Vec<_> = heard.iter().filter(told).collect();
    assert!(told.is_empty(), "of {} lines these tell: {told:#?}", heard.len());

    // It does hear what is asked for.
    let asked = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = asked.expect("a runtime").block_on(async {
        let kv = Config::new().open().await?.with_keys_in_spans();
        kv.put("marked-key/a", "marked-value").await
    });
    asked.expect("a put");
    let heard = listener.0.take();
    assert!(heard.iter().any(|line| has(line, "marked-key/a")), "{heard:#?}");
    assert!(!heard.iter().any(|line| has(line, "marked-value")), "{heard:#?}");
}
