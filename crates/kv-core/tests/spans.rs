//! The spans of calls, and the log line of a lock that is lost. These tests are in a
//! process of their own: a test that listens to nothing would take part in whether a place says
//! anything.

use kv_core::{Kv, Result, backend::Clock};
use kv_memory::Config;
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// The attributes of spans that OpenTelemetry's stable conventions for database clients know.
const CONVENTIONS: [&str; 14] = [
    "db.collection.name",
    "db.namespace",
    "db.operation.batch.size",
    "db.operation.name",
    "db.query.summary",
    "db.query.text",
    "db.response.status_code",
    "db.stored_procedure.name",
    "db.system.name",
    "error.type",
    "network.peer.address",
    "network.peer.port",
    "server.address",
    "server.port",
];
/// The attributes that they require of every span.
const REQUIRED: [&str; 2] = ["db.system.name", "db.operation.name"];
/// The fields by which a span of `tracing` says what is no attribute in OpenTelemetry: its name, its
/// kind and its status.
const OF_THE_SPAN: [&str; 3] = ["otel.kind", "otel.name", "otel.status_code"];
/// Our own, which is empty unless it is asked for.
const OURS: [&str; 1] = ["kv.key"];

/// Keeps all that is said: `NAME=VALUE` of spans, and the lines of the log.
#[derive(Clone, Default)]
struct Said {
    /// The fields that the spans can have.
    fields: Arc<Mutex<BTreeSet<&'static str>>>,
    spans: Arc<Mutex<Vec<String>>>,
    lines: Arc<Mutex<Vec<String>>>,
    last: Arc<AtomicU64>,
}

struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push(format!("{}={value:?}", field.name()));
    }
}

impl Said {
    fn spans(&self) -> Vec<String> {
        std::mem::take(&mut *self.spans.lock().unwrap())
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("kv_core")
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.fields.lock().unwrap().extend(span.metadata().fields().iter().map(|field| field.name()));
        let mut fields = Fields(Vec::new());
        span.record(&mut fields);
        self.spans.lock().unwrap().extend(fields.0);
        Id::from_u64(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut fields = Fields(Vec::new());
        values.record(&mut fields);
        self.spans.lock().unwrap().extend(fields.0);
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(vec![event.metadata().level().to_string()]);
        event.record(&mut fields);
        self.lines.lock().unwrap().push(fields.0.join(" "));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Returns what the span of this operation says.
fn of(operation: &str) -> Vec<String> {
    let named = ["otel.name", "db.operation.name"].map(|name| format!("{name}={operation:?}"));
    let [name, operation] = named;
    let (kind, system) = (r#"otel.kind="internal""#, r#"db.system.name="memory""#);
    vec![name, kind.into(), system.into(), operation]
}

#[tokio::test]
async fn a_span_has_the_names_of_the_conventions_and_no_key_unless_it_is_asked_for() -> Result<()> {
    let said = Said::default();
    let _listens = tracing::subscriber::set_default(said.clone());
    let kv = kv_memory::open("memory://").await?;
    said.spans();
    kv.put("persons/ann", "secret").await?;
    assert_eq!(said.spans(), of("put"));
    kv.put("persons/ann", "secret").if_missing().await.unwrap_err();
    let failed = [r#"error.type="key_exists""#, r#"otel.status_code="ERROR""#].map(String::from);
    assert_eq!(said.spans(), [of("put"), failed.to_vec()].concat());
    let kv = kv.with_keys_in_spans();
    kv.put("persons/ann", "secret").await?;
    assert_eq!(said.spans(), [of("put"), vec![r#"kv.key="persons/ann""#.into()]].concat());
    assert_eq!(said.lines(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_span_has_no_attribute_but_those_of_the_conventions_and_ours() -> Result<()> {
    let said = Said::default();
    let _listens = tracing::subscriber::set_default(said.clone());
    let kv = kv_memory::open("memory://").await?;
    kv.put("a", "1").await?;
    let fields = said.fields.lock().unwrap().clone();
    let known: BTreeSet<_> = CONVENTIONS.into_iter().chain(OF_THE_SPAN).chain(OURS).collect();
    assert!(fields.is_subset(&known), "{:?}", fields.difference(&known));
    let said = said.spans();
    for required in REQUIRED {
        assert!(
            said.iter().any(|field| field.starts_with(&format!("{required}="))),
            "{required} in {said:?}"
        );
    }
    Ok(())
}

/// Opens a store on the runtime's clock.
async fn open() -> Result<(Kv, kv_memory::Faults)> {
    let memory = Config::new().clock(Clock::tokio()).build().await?;
    let faults = memory.faults();
    Ok((Kv::new(memory), faults))
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_one_line_and_so_are_the_begin_and_the_end_of_an_outage() -> Result<()> {
    let said = Said::default();
    let _listens = tracing::subscriber::set_default(said.clone());
    let (kv, faults) = open().await?;
    let held = kv.new_lock("secret/lock").ttl(Duration::from_secs(9)).acquire().await?;
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(said.lines(), [""; 0], "nothing happens");

    // The renewal at 63 s is given up after 2.25 s; the time of the one before ends at 68.1 s.
    faults.pause();
    tokio::time::sleep(Duration::from_millis(5500)).await;
    faults.resume();
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(held.is_held());
    let lines = said.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("WARN") && lines[0].contains("renewal"), "{lines:?}");
    assert!(lines[1].starts_with("INFO") && lines[1].contains("over"), "{lines:?}");

    faults.pause();
    tokio::time::sleep(Duration::from_secs(60)).await;
    faults.resume();
    assert!(!held.is_held());
    let lines = said.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("WARN") && lines[1].contains("a lock is lost"), "{lines:?}");
    assert!(lines[1].contains(r#"cause="renewals_failed""#), "{lines:?}");
    drop(held);

    let ended = kv.new_lock("secret/other").ttl(Duration::from_secs(9)).acquire().await?;
    faults.evict_lock("secret/other")?;
    ended.lost().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let lines = said.lines();
    assert_eq!(lines.len(), 1, "what is heard of twice is told once: {lines:?}");
    assert!(lines[0].starts_with("WARN") && lines[0].contains(r#"cause="ended_there""#), "{lines:?}");
    drop(ended);

    let lease = kv.lease(Duration::from_secs(9)).await?;
    let lock = kv.new_lock("other").ttl(Duration::from_secs(9)).acquire().await?;
    assert!(lease.revoke().await? && lock.release().await?);
    let _held = kv.new_lock("other").ttl(Duration::from_secs(9)).acquire().await?;
    kv.close().await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(said.lines(), [""; 0], "what is given back is not lost");
    Ok(())
}
