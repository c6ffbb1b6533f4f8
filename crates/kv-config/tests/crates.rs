//! The crates `figment` and `config`: their values as defaults, and stored settings as theirs.

#![cfg(all(feature = "config", feature = "figment"))]

use config::Config;
use figment::{Figment, providers::Serialized};
use kv_config::{Source, Values, live};
use kv_core::{ErrorKind, Kv};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Deserialize)]
struct Settings {
    color: String,
    limits: BTreeMap<String, u32>,
    ratio: f64,
    hosts: Vec<String>,
    on: bool,
}

fn expected() -> Settings {
    Settings {
        color: "blue".into(),
        limits: BTreeMap::from([("burst".into(), 9), ("requests".into(), 5)]),
        ratio: 0.5,
        hosts: vec!["a".into(), "b".into()],
        on: true,
    }
}

/// Returns the defaults; the store has values of its own for two of them.
fn values() -> serde_json::Value {
    serde_json::json!({
        "color": "red", "limits": { "requests": 1, "burst": 9 }, "ratio": 0.5, "hosts": ["a", "b"], "on": true,
    })
}

async fn stored() -> Kv {
    let kv = kv_memory::open("memory://").await.unwrap();
    kv.put("s/color", "blue").await.unwrap();
    kv.put("s/limits/requests", "5").await.unwrap();
    kv
}

#[tokio::test]
async fn defaults_come_from_either() {
    let kv = stored().await;
    let figment = Figment::from(Serialized::defaults(values()));
    let settings = live::<Settings>(&kv, "s").defaults(&figment).await.unwrap();
    assert_eq!(*settings.get(), expected());
    let settings = live::<Settings>(&kv, "s").defaults(figment).await.unwrap();
    assert_eq!(*settings.get(), expected());

    // Text of the crate `config` counts as what it spells.
    let config = Config::builder().add_source(Config::try_from(&values()).unwrap());
    let config = config.set_override("ratio", "0.5").unwrap().set_override("on", "true").unwrap();
    let config = config.build().unwrap();
    let settings = live::<Settings>(&kv, "s").defaults(&config).await.unwrap();
    assert_eq!(*settings.get(), expected());
    let settings = live::<Settings>(&kv, "s").defaults(config).await.unwrap();
    assert_eq!(*settings.get(), expected());
}

#[tokio::test]
async fn a_figment_that_cannot_be_read_is_told() {
    let kv = stored().await;
    let bad = Figment::from(Serialized::defaults("hunter2"));
    let e = live::<Settings>(&kv, "s").defaults(&bad).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert!(!e.to_string().contains("hunter2"), "{e}");
    assert!(format!("{:?}", Values::from(&bad)).contains("unreadable"));
}

#[tokio::test]
async fn stored_settings_are_a_provider() {
    let kv = stored().await;
    let stored = Source::tree(&kv, "s").snapshot().await.unwrap();
    let figment = Figment::from(Serialized::defaults(values())).merge(stored);
    assert_eq!(figment.extract::<Settings>().unwrap(), expected());
    assert_eq!(figment.find_metadata("limits.requests").unwrap().name, "settings");

    kv.put("document", r#"{"color":"blue","limits":{"requests":5},"other":[null,-1,1.5]}"#).await.unwrap();
    let stored = Source::json(&kv, "document").snapshot().await.unwrap();
    let figment = Figment::from(Serialized::defaults(values())).merge(&stored);
    assert_eq!(figment.extract::<Settings>().unwrap(), expected());
    kv.put("document", "[1]").await.unwrap();
    let list = Source::json(&kv, "document").snapshot().await.unwrap();
    let e = Figment::from(&list).extract::<Settings>().unwrap_err();
    assert!(e.to_string().contains("not a table"), "{e}");
}

#[tokio::test]
async fn stored_settings_are_a_source() {
    let kv = stored().await;
    let defaults = || Config::builder().add_source(Config::try_from(&values()).unwrap());
    let read = defaults().add_async_source(Source::tree(&kv, "s")).build().await.unwrap();
    assert_eq!(read.try_deserialize::<Settings>().unwrap(), expected());

    let snapshot = Source::tree(&kv, "s").snapshot().await.unwrap();
    let read = defaults().add_source(snapshot).build().unwrap();
    assert_eq!(read.try_deserialize::<Settings>().unwrap(), expected());

    kv_memory::Faults::of(&kv).unwrap().fail_next(ErrorKind::Unavailable);
    let e = defaults().add_async_source(Source::tree(&kv, "s")).build().await.unwrap_err();
    assert!(e.to_string().starts_with("list \"s\" on memory: "), "{e}");
}
