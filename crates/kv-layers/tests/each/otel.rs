//! `OpenTelemetry` tells a meter the same metrics, with OpenTelemetry's units and buckets.

use crate::telemetry::{METRICS, assert_labels};
use kv_core::{Result, WatchEvent, backend::Clock};
use kv_layers::{Metrics, OpenTelemetry};
use kv_memory::{Config, Faults};
use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, Metric, MetricData},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;

/// Returns the labels, in their order.
fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut labels: Vec<_> = attributes.map(|label| format!("{}={}", label.key, label.value)).collect();
    labels.sort();
    labels.join(",")
}

/// Returns the labels of each value of a metric, and the value; of a histogram the number of values.
fn values(metric: &Metric) -> Vec<(String, i64)> {
    let number = |count: u64| i64::try_from(count).expect("a small number");
    match metric.data() {
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
            .data_points()
            .map(|point| {
                assert_eq!(point.bounds().collect::<Vec<_>>(), Metrics::BUCKETS, "{}", metric.name());
                (labels(point.attributes()), number(point.count()))
            })
            .collect(),
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic(), "{}", metric.name());
            sum.data_points().map(|point| (labels(point.attributes()), number(point.value()))).collect()
        }
        AggregatedMetrics::I64(MetricData::Sum(sum)) => {
            assert!(!sum.is_monotonic(), "{}", metric.name());
            sum.data_points().map(|point| (labels(point.attributes()), point.value())).collect()
        }
        other => panic!("{}: {other:?}", metric.name()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_meter_is_told_the_metrics_by_the_names_and_units_of_the_conventions() -> Result<()> {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let observer = OpenTelemetry::new(&provider.meter("kv"));
    let kv = Config::new().clock(Clock::tokio()).open().await?.with_observer(observer);
    let faults = Faults::of(&kv).expect("a store in memory");
    kv.put("secret-name", "secret-value").await?;
    kv.put("secret-name", "secret-value").if_missing().await.unwrap_err();
    faults.lose_answers(1);
    kv.delete("secret-name").await.unwrap_err();
    let mut watch = kv.watch_tree("").await?;
    while watch.event().await? != WatchEvent::Synced {}
    let waiting = timeout(Duration::from_secs(1), watch.event()).await;
    assert!(waiting.is_err(), "{waiting:?}");
    kv.put("secret-name", "").await?;
    watch.event().await?;
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

    provider.force_flush().expect("it can be read");
    let told = exporter.get_finished_metrics().expect("it was read");
    let metrics: Vec<_> =
        told.iter().flat_map(|all| all.scope_metrics()).flat_map(|all| all.metrics()).collect();
    let found: BTreeMap<_, _> = metrics.iter().map(|metric| (metric.name(), metric.unit())).collect();
    // Nothing is sent to a server here.
    let expected = METRICS.into_iter().filter(|(name, ..)| *name != "kv.request.attempts");
    assert_eq!(found, expected.map(|(name, unit, _)| (name, unit)).collect());
    let mut lines = BTreeMap::new();
    for metric in metrics {
        for (labels, value) in values(metric) {
            assert_labels(metric.name(), labels.split(',').filter_map(|label| label.split('=').next()));
            lines.insert(format!("{}{{{labels}}}", metric.name()), value);
        }
    }
    let memory = "db.system.name=memory";
    for (line, value) in [
        (format!("db.client.operation.duration{{db.operation.name=put,{memory}}}"), 2),
        (format!("kv.outcome_unknown{{db.operation.name=delete,{memory}}}"), 1),
        (format!("kv.lock.lost{{{memory},error.type=lock_lost,kv.lost.cause=ended_there}}"), 1),
        (format!("kv.lock.held{{{memory}}}"), 0),
        (format!("kv.watch.open{{db.operation.name=watch_tree,{memory}}}"), 1),
    ] {
        assert_eq!(lines.get(&line), Some(&value), "{line} in {lines:#?}");
    }
    for line in lines.keys() {
        assert!(!line.contains("secret"), "{line} shows what is the program's");
    }
    Ok(())
}
