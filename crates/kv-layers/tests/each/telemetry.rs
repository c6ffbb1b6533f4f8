//! `Metrics` tells what a handle does, by OpenTelemetry's names, and no name or value of a
//! program.

use kv_core::{ErrorKind, Result, WatchEvent, backend::Clock};
use kv_layers::{Chaos, Metrics};
use kv_memory::{Config, Faults};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, KeyName, Metadata, Recorder, SharedString,
    Unit, set_default_local_recorder,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The recorded values, by the metric with its labels.
type Lines = Arc<Mutex<BTreeMap<String, Vec<f64>>>>;

/// The metrics: of each its name, its unit as OpenTelemetry writes it, and the labels beside
/// `db.system.name` that it can have. That of the conventions is the first; the others are ours, since
/// the conventions have none for what they measure.
pub(crate) const METRICS: [(&str, &str, &[&str]); 12] = [
    ("db.client.operation.duration", "s", &["db.operation.name", "error.type"]),
    ("kv.lease.held", "{lease}", &[]),
    ("kv.lease.lost", "{lease}", &["error.type", "kv.lost.cause"]),
    ("kv.lease.slack", "s", &["db.operation.name", "error.type"]),
    ("kv.lock.held", "{lock}", &[]),
    ("kv.lock.lost", "{lock}", &["error.type", "kv.lost.cause"]),
    ("kv.lock.wait.duration", "s", &["error.type"]),
    ("kv.outcome_unknown", "{write}", &["db.operation.name"]),
    ("kv.request.attempts", "{attempt}", &["db.operation.name", "error.type"]),
    ("kv.watch.lag", "s", &["db.operation.name"]),
    ("kv.watch.open", "{watch}", &["db.operation.name"]),
    ("kv.watch.resync", "{resync}", &["db.operation.name"]),
];
/// The attributes that the conventions require of, or allow on, `db.client.operation.duration`.
const CONVENTIONS: [&str; 8] = [
    "db.collection.name",
    "db.namespace",
    "db.operation.name",
    "db.response.status_code",
    "db.system.name",
    "error.type",
    "server.address",
    "server.port",
];

/// Checks that a metric has the labels that it may have, by the names of the conventions, or ours.
pub(crate) fn assert_labels<'a>(metric: &str, labels: impl Iterator<Item = &'a str>) {
    let (.., may) = METRICS.into_iter().find(|(name, ..)| *name == metric).expect("a metric of the list");
    for label in labels {
        assert!(label == "db.system.name" || may.contains(&label), "{metric} has the label {label}");
        assert!(CONVENTIONS.contains(&label) || label.starts_with("kv."), "{label} is in no convention");
    }
}

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

impl GaugeFn for Line {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, value: f64) {
        self.add(value);
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
    fn register_gauge(&self, key: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.line(key))
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
        (format!("db.client.operation.duration{{{memory},db.operation.name=put,error.type=key_exists}}"), 1),
        (
            format!(
                "db.client.operation.duration{{{memory},db.operation.name=delete,error.type=outcome_unknown}}"
            ),
            1,
        ),
        (format!("kv.outcome_unknown{{{memory},db.operation.name=delete}}"), 1),
        (format!("kv.watch.resync{{{memory},db.operation.name=watch_tree}}"), 1),
        (format!("kv.lock.wait.duration{{{memory}}}"), 1),
        (format!("kv.lease.slack{{{memory},db.operation.name=acquire}}"), 1),
        (format!("kv.lease.slack{{{memory},db.operation.name=lease}}"), 1),
        (format!("kv.lock.held{{{memory}}}"), 2),
        (format!("kv.lease.held{{{memory}}}"), 2),
        (format!("kv.watch.open{{{memory},db.operation.name=watch_tree}}"), 1),
        (format!("kv.lock.lost{{{memory},error.type=lock_lost,kv.lost.cause=ended_there}}"), 1),
        (format!("kv.lease.lost{{{memory},error.type=lease_lost,kv.lost.cause=ended_there}}"), 1),
    ] {
        assert_eq!(heard.many(&line), many, "{line} in {:#?}", heard.all());
    }
    assert_eq!(heard.all()[&format!("kv.lock.held{{{memory}}}")], [1.0, -1.0]);
    let slack = &heard.all()[&format!("kv.lease.slack{{{memory},db.operation.name=acquire}}")];
    assert!(slack[0] > 1.0 && slack[0] < 3.0, "in seconds: {slack:?}");
    for line in heard.all().keys() {
        assert!(!line.contains("secret"), "{line} shows what is the program's");
    }
    let units = heard.units.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let expected = METRICS.map(|(name, unit, ..)| {
        (name.to_owned(), Some(if unit == "s" { Unit::Seconds } else { Unit::Count }))
    });
    assert_eq!(units, BTreeMap::from(expected));
    for line in heard.all().keys() {
        let (name, labels) = line.trim_end_matches('}').split_once('{').expect("labels");
        assert_labels(name, labels.split(',').filter_map(|label| label.split('=').next()));
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

/// An alerting rule, as far as this test looks at it.
#[derive(Debug, Default)]
struct Rule {
    alert: String,
    fields: BTreeMap<String, String>,
}

/// Reads the rules of a file whose lists are of one level and whose values are on one line, or
/// folded by `>-`.
fn rules(text: &str) -> Vec<Rule> {
    let (mut rules, mut folded) = (Vec::<Rule>::new(), None);
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if let Some(alert) = line.trim_start().strip_prefix("- alert: ") {
            rules.push(Rule { alert: alert.to_owned(), ..Rule::default() });
            folded = None;
            continue;
        }
        let Some(rule) = rules.last_mut() else { continue };
        let (indent, field) = (line.len() - line.trim_start().len(), line.trim_start());
        match (&folded, field.split_once(':')) {
            (Some((name, depth)), _) if indent > *depth => {
                rule.fields.entry(String::clone(name)).or_default().push_str(field);
            }
            (_, Some((name, value))) => {
                folded = (value.trim() == ">-").then(|| (name.to_owned(), indent));
                let value = if folded.is_some() { "" } else { value.trim() };
                assert!(rule.fields.insert(name.to_owned(), value.to_owned()).is_none(), "{line} twice");
            }
            (_, None) => panic!("{line:?} is no field"),
        }
    }
    rules
}

/// Returns all expressions of a dashboard.
fn expressions(json: &serde_json::Value) -> Vec<&str> {
    match json {
        serde_json::Value::Object(fields) => {
            let own = fields.get("expr").and_then(serde_json::Value::as_str);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        serde_json::Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// Returns the words of an expression that can only be names of ours: of metrics and of labels.
fn names(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["kv_", "db_", "error_"].iter().any(|ours| word.starts_with(ours))).collect()
}

#[test]
fn the_alerts_and_the_dashboard_ask_for_what_is_told() {
    let heard = Heard::default();
    let _listening = set_default_local_recorder(&heard);
    let _described = Metrics::new();
    let mut metrics = BTreeMap::new();
    for (name, unit) in heard.units.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let name = name.replace('.', "_");
        let parts: &[_] = if *unit == Some(Unit::Seconds) { &["_bucket", "_sum", "_count"] } else { &[""] };
        metrics.extend(parts.iter().map(|part| (format!("{name}{part}"), name.clone())));
    }
    let labels = ["db_system_name", "db_operation_name", "error_type", "kv_lost_cause"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).expect(file);

    let rules = rules(&read("docs/guide/alerts.yaml"));
    let page = read("docs/guide/src/operating.md");
    assert!(rules.len() > 5, "{rules:?}");
    for Rule { alert, fields } in &rules {
        for field in ["expr", "severity", "summary", "runbook"] {
            assert!(fields.get(field).is_some_and(|value| !value.is_empty()), "{alert} has no {field}");
        }
        let (runbook, _) = fields["runbook"].split_once('#').unwrap_or((&fields["runbook"], ""));
        assert!(root.join(runbook).is_file(), "{alert}: there is no {runbook}");
        assert!(page.contains(&format!("`{alert}`")), "{alert} is not in the guide's page");
    }
    let dashboard = serde_json::from_str(&read("docs/guide/dashboard.json")).expect("JSON");
    let shown = expressions(&dashboard);
    for expression in rules.iter().map(|rule| &*rule.fields["expr"]).chain(shown.iter().copied()) {
        let asked = names(expression);
        assert!(asked.iter().any(|name| metrics.contains_key(*name)), "{expression} asks for no metric");
        for name in asked {
            assert!(metrics.contains_key(name) || labels.contains(&name), "{name} is not told: {expression}");
        }
    }
    let seen: BTreeSet<_> = shown.iter().flat_map(|it| names(it)).filter_map(|it| metrics.get(it)).collect();
    assert_eq!(seen, metrics.values().collect(), "the dashboard shows every metric");
}
