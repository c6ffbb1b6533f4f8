//! Stored settings as values of a type: what is read, what is refused, and what errors show.

use kv_config::{Source, Values, live};
use kv_core::{ErrorKind, Result};
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Reads the settings of these keys.
async fn tree<T: DeserializeOwned>(keys: &[(&str, &str)]) -> Result<T> {
    let kv = kv_memory::open("memory://").await?;
    for (key, value) in keys {
        kv.put(format!("s/{key}"), *value).await?;
    }
    kv.put("settings", "of another").await?;
    Source::tree(&kv, "s").snapshot().await?.settings()
}

/// Reads the settings of this document.
async fn json<T: DeserializeOwned>(document: &str) -> Result<T> {
    let kv = kv_memory::open("memory://").await?;
    kv.put("s", document).await?;
    Source::json(&kv, "s").snapshot().await?.settings()
}

#[derive(Debug, PartialEq, Deserialize)]
struct All {
    text: String,
    digits: String,
    number: u16,
    negative: i64,
    large: u128,
    float: f64,
    flag: bool,
    letter: char,
    level: Level,
    maybe: Option<u8>,
    absent: Option<u8>,
    list: Vec<String>,
    pair: (u8, String),
    nested: Nested,
    inline: Nested,
    map: BTreeMap<String, u32>,
    numbered: BTreeMap<u16, bool>,
    shapes: BTreeMap<String, Level>,
    wrapped: Wrapped,
    any: serde_json::Value,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Nested {
    inner: u8,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Wrapped(u32);

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Low,
    Exact(u8),
    Between { least: u8, most: u8 },
}

#[tokio::test]
async fn keys_are_read_as_what_the_type_asks_for() {
    let read: All = tree(&[
        ("text", " as it is\n"),
        ("digits", "007"),
        ("number", " 65535\n"),
        ("negative", "-5"),
        ("large", "340282366920938463463374607431768211455"),
        ("float", "1.5"),
        ("flag", "true"),
        ("letter", "ä"),
        ("level", "low"),
        ("maybe", "3"),
        ("list", r#"["a","b"]"#),
        ("pair", r#"[7,"x"]"#),
        ("nested/inner", "1"),
        ("inline", r#"{"inner":2}"#),
        ("map/a", "1"),
        ("map/b.c", "2"),
        ("numbered/80", "true"),
        ("shapes/exact/exact", "5"),
        ("shapes/between/between/least", "1"),
        ("shapes/between/between/most", "2"),
        ("shapes/spelt", r#"{"exact":6}"#),
        ("wrapped", "9"),
        ("any/number", "12"),
        ("any/text", "012"),
        ("any/list", "[1]"),
        ("unknown", "is skipped"),
    ])
    .await
    .unwrap();
    let shapes = [
        ("exact", Level::Exact(5)),
        ("between", Level::Between { least: 1, most: 2 }),
        ("spelt", Level::Exact(6)),
    ];
    let expected = All {
        text: " as it is\n".into(),
        digits: "007".into(),
        number: 65535,
        negative: -5,
        large: u128::MAX,
        float: 1.5,
        flag: true,
        letter: 'ä',
        level: Level::Low,
        maybe: Some(3),
        absent: None,
        list: vec!["a".into(), "b".into()],
        pair: (7, "x".into()),
        nested: Nested { inner: 1 },
        inline: Nested { inner: 2 },
        map: BTreeMap::from([("a".into(), 1), ("b.c".into(), 2)]),
        numbered: BTreeMap::from([(80, true)]),
        shapes: shapes.into_iter().map(|(name, level)| (name.to_owned(), level)).collect(),
        wrapped: Wrapped(9),
        any: serde_json::json!({ "number": 12, "text": "012", "list": [1] }),
    };
    assert_eq!(read, expected);
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is never made")]
struct Small {
    limits: BTreeMap<String, u32>,
    level: Level,
    list: Vec<u8>,
}

#[tokio::test]
async fn errors_say_where_and_why_without_the_value() {
    let good = [("limits/a", "1"), ("level", "low"), ("list", "[1]")];
    tree::<Small>(&good).await.unwrap();
    for (changed, says) in [
        (("limits/a", "hunter2"), "limits.a: expected u32, found other text"),
        (("limits/a", "-1"), "limits.a: expected u32, found other text"),
        (("limits/a", "4294967296"), "limits.a: expected u32, found other text"),
        (("limits/a", "[\"hunter2\"]"), "limits.a: expected u32, found other text"),
        (("level", "hunter2"), "level: expected one of low, exact, between, found another name"),
        (("list", "hunter2"), "list: expected a list in JSON, found other text"),
        (("list", "[1,\"hunter2\"]"), "list.1: expected u8, found text"),
        (("list", "[1,256]"), "list.1: expected u8, found an integer that is none"),
        (("unknown", "hunter2"), "unknown: there is no such setting; there are: limits, level, list"),
        (("list/more", "hunter2"), "list.more: is a value and a table of values"),
    ] {
        let mut keys = good.to_vec();
        keys.retain(|(key, _)| *key != changed.0);
        keys.push(changed);
        let e = tree::<Small>(&keys).await.unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::Corrupt, says), "{changed:?}");
        assert_eq!(e.to_string(), format!("config \"s\" on memory: {says}"));
    }
    let lacking = tree::<Small>(&good[..2]).await.unwrap_err();
    assert_eq!(lacking.message(), "list: is missing");
}

#[tokio::test]
async fn bytes_are_bytes_and_text_is_text() {
    #[derive(Debug, Deserialize)]
    struct Raw {
        text: String,
    }
    let kv = kv_memory::open("memory://").await.unwrap();
    kv.put("s/text", b"\xff\x00").await.unwrap();
    let e = Source::tree(&kv, "s").snapshot().await.unwrap().settings::<Raw>().unwrap_err();
    assert_eq!(e.message(), "text: expected text, found bytes that are not UTF-8");
    kv.put("s/text", "fine").await.unwrap();
    let snapshot = Source::tree(&kv, "s").snapshot().await.unwrap();
    assert_eq!(snapshot.settings::<Raw>().unwrap().text, "fine");
    assert_eq!(snapshot.entries().len(), 1);
    assert!(!format!("{snapshot:?}").contains("fine"), "{snapshot:?}");
}

#[tokio::test]
async fn documents_have_types() {
    let read: Nested = json(r#"{ "inner": 7, "more": [] }"#).await.unwrap();
    assert_eq!(read, Nested { inner: 7 });
    for (document, says) in [
        (r#"{"inner":"7"}"#, "inner: expected u8, found text"),
        (r#"{"inner":300}"#, "inner: expected u8, found an integer that is none"),
        (r#"{"inner":null}"#, "inner: expected u8, found nothing"),
        ("[]", "expected"),
        ("{}", "inner: is missing"),
        ("", "is cut off: its JSON has no end, at line 1, column 0"),
        ("hunter2", "is no JSON, at line 1, column"),
    ] {
        let e = json::<Nested>(document).await.unwrap_err();
        assert!(e.message().starts_with(says) && !e.to_string().contains("hunter2"), "{document}: {e}");
    }
    let kv = kv_memory::open("memory://").await.unwrap();
    let nothing = Source::json(&kv, "s").snapshot().await.unwrap();
    assert_eq!((nothing.generation().as_str(), nothing.entries().len()), ("none", 0));
    assert_eq!(nothing.settings::<Nested>().unwrap_err().message(), "inner: is missing");
}

#[cfg(feature = "toml")]
#[tokio::test]
async fn documents_may_be_toml() {
    let kv = kv_memory::open("memory://").await.unwrap();
    kv.put("s", "inner = 7\n[other]\nlist = [1]\n").await.unwrap();
    assert_eq!(Source::toml(&kv, "s").snapshot().await.unwrap().settings::<Nested>().unwrap().inner, 7);
    let mut settings = live::<Nested>(&kv, "s").toml().await.unwrap();
    kv.put("s", "inner = hunter2").await.unwrap();
    let rejected = settings.next_rejected().await.unwrap();
    assert!(rejected.error.message().starts_with("is no TOML"), "{rejected:?}");
    assert!(!rejected.error.to_string().contains("hunter2"), "{rejected:?}");
    kv.put("s", "inner = 8").await.unwrap();
    assert_eq!(settings.changed().await.unwrap().inner, 8);
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
#[allow(dead_code, reason = "it is never made")]
struct Picky;

impl TryFrom<String> for Picky {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Err(format!("{text:?} is wrong"))
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "it is never made")]
struct WithPicky {
    picky: Picky,
}

#[tokio::test]
async fn words_of_types_are_shown_where_that_is_asked_for() {
    let kv = kv_memory::open("memory://").await.unwrap();
    kv.put("s/picky", "hunter2").await.unwrap();
    let e = live::<WithPicky>(&kv, "s").await.unwrap_err();
    assert_eq!(e.message(), "picky: its type refuses the value");
    let e = live::<WithPicky>(&kv, "s").quote_values().await.unwrap_err();
    assert_eq!(e.message(), "picky: its type refuses the value: \"hunter2\" is wrong");
}

#[tokio::test]
async fn defaults_are_under_and_overrides_over_what_is_stored() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Settings {
        a: u32,
        b: BTreeMap<String, u32>,
        c: u32,
    }
    let kv = kv_memory::open("memory://").await.unwrap();
    kv.put("s/a", "2").await.unwrap();
    kv.put("s/b/y", "2").await.unwrap();
    let open = || {
        live::<Settings>(&kv, "s")
            .defaults(Values::of(&serde_json::json!({ "a": 1, "b": { "x": 1, "y": 1, "z": 1 }, "c": 0 })))
            .defaults(Values::of(&serde_json::json!({ "c": 1 })))
    };
    let b = |x, y, z| BTreeMap::from([("x".to_owned(), x), ("y".to_owned(), y), ("z".to_owned(), z)]);
    assert_eq!(*open().await.unwrap().get(), Settings { a: 2, b: b(1, 2, 1), c: 1 });
    let over = Values::of(&serde_json::json!({ "a": 3, "b": { "z": 3 } }));
    assert_eq!(*open().overrides(over).await.unwrap().get(), Settings { a: 3, b: b(1, 2, 3), c: 1 });

    let nobody = live::<Settings>(&kv, "s").defaults(Values::of(&5)).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::InvalidArgument);
    assert_eq!(nobody.message(), "the values are an integer, not a table of settings");
    let unwritten = Values::of(&BTreeMap::from([((1, 2), 3)]));
    let unwritten = live::<Settings>(&kv, "s").defaults(unwritten).await.unwrap_err();
    assert_eq!(unwritten.kind(), ErrorKind::InvalidArgument, "{unwritten}");
}
