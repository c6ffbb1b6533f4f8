//! The content of settings files and logs: names, versions, entries, URLs, kinds of error.

#![cfg(feature = "serde")]

use kv_core::{Directory, Entry, ErrorKind, Key, StoreUrl, Version};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Settings {
    store: StoreUrl,
    leader: Key,
    config: Directory,
}

#[test]
fn settings_are_read_and_written() {
    let text =
        r#"{"store":"etcd://me:hush@h1,h2/app/?ca=ca.pem","leader":"jobs/leader","config":"app/config"}"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    assert_eq!(settings.store.prefix(), "app/");
    assert_eq!(serde_json::to_string(&settings).unwrap(), text);
    assert!(!format!("{settings:?}").contains("hush"));
    let read: Settings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
    assert_eq!(read, settings);

    let wrong = text.replace("jobs/leader", "jobs/../leader");
    let e = serde_json::from_str::<Settings>(&wrong).unwrap_err().to_string();
    assert!(e.contains("reserved"), "{e}");
    let e = serde_json::from_str::<Settings>(&text.replace("jobs/leader", "")).unwrap_err().to_string();
    assert!(e.contains("is empty"), "{e}");
    let empty = serde_json::from_str::<Entry>(r#"{"key":"","value":"v","version":"7.1"}"#);
    assert!(empty.unwrap_err().to_string().contains("is empty"));
    assert!(serde_json::from_str::<Directory>("\"\"").unwrap().is_root());
    let e = serde_json::from_str::<StoreUrl>(r#""me:hush@h1""#).unwrap_err().to_string();
    assert!(e.contains("has no `://`") && !e.contains("hush"), "{e}");
}

#[test]
fn entries_are_text_where_they_can_be() {
    let key = || Key::parse("a").unwrap();
    for (value, text) in [
        (&b"v"[..], r#"{"key":"a","value":"v","version":"7.1"}"#),
        (&b"\xff\x00"[..], r#"{"key":"a","value":[255,0],"version":"7.1"}"#),
    ] {
        let entry = Entry::new(key(), value.to_vec(), Version::new(7, 1));
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert_eq!(serde_json::from_str::<Entry>(text).unwrap(), entry);
    }
    assert_eq!(serde_json::to_string(&ErrorKind::OutcomeUnknown).unwrap(), r#""outcome_unknown""#);
    assert_eq!(ErrorKind::OutcomeUnknown.to_string(), "outcome_unknown");
}

#[test]
fn every_kind_is_written_as_it_is_shown() {
    use ErrorKind::*;
    for kind in [
        InvalidKey,
        InvalidArgument,
        KeyExists,
        KeyModified,
        TooLarge,
        NoSpace,
        Unsupported,
        Unauthenticated,
        PermissionDenied,
        Unavailable,
        Timeout,
        OutcomeUnknown,
        LockLost,
        LeaseLost,
        Closed,
        Corrupt,
        Other,
    ] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}
