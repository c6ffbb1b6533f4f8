//! `Metrics` tells what a handle does, by OpenTelemetry's names, and no name or value of a
//! program.

use kv_core::{ErrorKind, Result, WatchEvent, backend::Clock};
use kv_layers::{Chaos, Metrics};
use kv_memory::{Config, Faults};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What was recorded: each metric with its labels, and the values.
type Lines = Arc<Mutex<BTreeMap<String, Vec<f64>>>>;

/// An exporter that writes everything down.
#[derive(Default)]
struct Heard {
    lines: Lines,
    units: Mutex<BTreeMap<String, Option<Unit>>>,
}

struct Line(String, Lines);

impl Line {
    fn add(&self, value: f64) {
        let mut lines = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(self.0.clone()).or_default().push(value);
    }
}

impl CounterFn for Line {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }
    fn absolute(&self, value: u64) {
        self.add(value as f64);
    }
}

impl HistogramFn for Line {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Heard {
    fn line(&self, key: &metrics::Key) -> Arc<Line> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Line(format!("{}{{{}}}", key.name(), labels.join(",")), self.lines.clone()))
    }

    fn described(&self, key: &KeyName, unit: Option<Unit>) {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).insert(key.as_str().to_owned(), unit);
    }

    fn all(&self) -> BTreeMap<String, Vec<f64>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how often this line was recorded.
    fn many(&self, line: &str) -> usize {
        self.all().get(line).map_or(0, Vec::len)
    }
}

impl Recorder for Heard {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.described(&key, unit);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.described(&key, unit);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.described(&key, unit);
    }
    fn register_counter(&self, key: &metrics::Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.line(key))
    }
    fn register_gauge(&self, _: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &metrics::Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.line(key))
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handle_does_is_told_by_the_names_of_the_conventions() -> Result<()> {
    let heard = Heard::default();
    let _listening = set_default_local_recorder(&heard);
    let kv = Config::new().clock(Clock::tokio()).open().await?.with_observer(Metrics::new());
    let faults = Faults::of(&kv).expect("a store in memory");
    kv.put("secret-name", "secret-value").await?;
    let refused = kv.put("secret-name", "secret-value").if_missing().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyExists);
    faults.lose_answers(1);
    kv.delete("secret-name").await.unwrap_err();
    let mut watch = kv.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    faults.cut_watches();
    while watch.event().await? != WatchEvent::Synced {}
    let ttl = Duration::from_secs(3);
    let guard = kv.new_lock("secret-name").value("secret-value").ttl(ttl).acquire().await?;
    let lease = kv.lease(ttl).await?;
    tokio::time::sleep(ttl / 2).await;
    faults.evict_lock("secret-name")?;
    guard.lost().await;
    faults.evict_lease(lease.id());
    lease.lost().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop((guard, lease));

    let memory = "db.system.name=memory";
    for (line, many) in [
        (format!("db.client.operation.duration{{{memory},db.operation.name=put}}"), 1),
        (
            format!(
                "db.client.operation.duration{{{memory},db.operation.name=atomic_put,error.type=key_exists}}"
            ),
            1,
        ),
        (
            format!(
                "db.client.operation.duration{{{memory},db.operation.name=delete,error.type=outcome_unknown}}"
            ),
            1,
        ),
        (format!("kv.outcome_unknown{{{memory},db.operation.name=delete}}"), 1),
        (format!("kv.watch.resync{{{memory},db.operation.name=watch_tree}}"), 1),
        (format!("kv.lock.wait.duration{{{memory}}}"), 1),
        (format!("kv.lease.slack{{{memory},db.operation.name=lock}}"), 1),
        (format!("kv.lease.slack{{{memory},db.operation.name=lease}}"), 1),
        (format!("kv.lock.lost{{{memory},error.type=lock_lost}}"), 1),
        (format!("kv.lease.lost{{{memory},error.type=lease_lost}}"), 1),
    ] {
        assert_eq!(heard.many(&line), many, "{line} in {:#?}", heard.all());
    }
    let slack = &heard.all()[&format!("kv.lease.slack{{{memory},db.operation.name=lock}}")];
    assert!(slack[0] > 1.0 && slack[0] < 3.0, "in seconds: {slack:?}");
    for line in heard.all().keys() {
        assert!(!line.contains("secret"), "{line} shows what is the program's");
    }
    let units = heard.units.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let names: Vec<_> = units.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "db.client.operation.duration",
            "kv.lease.lost",
            "kv.lease.slack",
            "kv.lock.lost",
            "kv.lock.wait.duration",
            "kv.outcome_unknown",
            "kv.request.attempts",
            "kv.watch.resync",
        ]
    );
    for (name, unit) in &units {
        let is_time = name.ends_with("duration") || name.ends_with("slack");
        assert_eq!(*unit, Some(if is_time { Unit::Seconds } else { Unit::Count }), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn layers_and_metrics_go_together() -> Result<()> {
    let heard = Heard::default();
    let _listening = set_default_local_recorder(&heard);
    let kv = kv_memory::open("memory://").await?.layer(Chaos::new(1).failures(1.0));
    let kv = kv.with_observer(Metrics::new());
    kv.get("a").await.unwrap_err();
    let line =
        "db.client.operation.duration{db.system.name=memory,db.operation.name=get,error.type=unavailable}";
    assert_eq!(heard.many(line), 1, "{:#?}", heard.all());
    Ok(())
}
