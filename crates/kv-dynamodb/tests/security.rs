//! Opening a store, and the errors for wrong settings, tables and credentials.

mod common;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType,
};
use common::{
    KEY_ID, Node, SECRET, config,
    front::{Front, Trouble},
    single,
};
use kv_core::{ErrorKind, Secret, WatchEvent, Watching};
use kv_dynamodb::Config;
use kv_testsuite::Failure;
use std::time::{Duration, Instant};

async fn refused(config: Config, kind: ErrorKind, names: &[&str]) -> Result<(), Failure> {
    let began = Instant::now();
    let e = match config.open().await {
        Ok(store) => return Err(format!("opened {store:?}").into()),
        Err(e) => e,
    };
    assert_eq!(e.kind(), kind, "{e}");
    let said = format!("{e} {e:?} {:?}", e.cause());
    names.iter().for_each(|name| assert!(said.contains(name), "{said} names {name:?}"));
    assert!(!said.contains(SECRET), "{said} shows no secret");
    assert!(began.elapsed() < Duration::from_secs(8), "after {:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_before_any_request() {
    for (url, names) in [
        ("dynamo://table/?region=r", "not the scheme of this store, which is \"dynamodb\""),
        ("dynamodb:///prefix", "no name of a table"),
        ("dynamodb://a,b/", "no name of a table"),
        ("dynamodb://no%20table/", "no name of a table"),
        ("dynamodb://me@table/?region=r", "without its secret"),
        ("dynamodb://table/?session_token=t", "without an access key"),
        ("dynamodb://me:my@table/?profile=p", "give one of them"),
        ("dynamodb://table/?endpoint=127.0.0.1:1", "no URL"),
        ("dynamodb://table/?create=perhaps", "create"),
        ("dynamodb://table/?regoin=r", "regoin"),
        ("dynamodb://table/app/?region=r&raw_prefix=app", "give one of them"),
    ] {
        let e = kv_dynamodb::open(url).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
        assert!(e.to_string().contains(names), "{e} names {names:?}");
    }
    let e = Config::new("table").prefix("p".repeat(2049)).open().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
}

/// A prefix is the directory of that name, with its slash or without; only a raw prefix is used
/// byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_ends_at_a_segment() -> Result<(), Failure> {
    let node = single().await?;
    let open = |config: Config| async { Ok::<_, Failure>(config.create(true).open().await?) };
    let bare = open(node.config("prefixes").prefix("app")).await?;
    let slashed = open(node.config("prefixes").prefix("app/")).await?;
    let by_url = kv_dynamodb::open(&node.url("prefixes", "app")).await?;
    let raw = open(node.config("prefixes").raw_prefix("app")).await?;
    let version = bare.put("a", "1").await?.version;
    for same in [&slashed, &by_url] {
        assert_eq!(same.get("a").await?.map(|e| e.version), Some(version));
    }
    let guard = bare.new_lock("l").acquire().await?;
    assert!(slashed.new_lock("l").try_acquire().await?.is_none());
    assert!(raw.get("a").await?.is_none() && raw.lock_holder("l").await?.is_none());
    raw.put("a", "raw").await?;
    raw.delete_tree("").await?;
    assert!(slashed.exists("a").await? && guard.release().await?);
    Ok(())
}

#[tokio::test]
async fn a_wrong_endpoint_says_what_was_tried() -> Result<(), Failure> {
    let config = config("127.0.0.1:1".parse()?, "table").deadline(Duration::from_millis(500));
    refused(config, ErrorKind::Unavailable, &["tried for", "cannot be reached", "refused"]).await
}

#[test]
fn no_secret_is_shown() {
    let config = Config::new("table").credentials(KEY_ID, Secret::new(SECRET)).session_token("the-token");
    let shown = format!("{config:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("the-token"), "{shown}");
}

/// Makes a table with this key and this stream.
async fn make(node: &Node, name: &str, keys: &[&str], stream: Option<StreamViewType>) -> Result<(), Failure> {
    let mut make = node.sdk().create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (n, key) in keys.iter().enumerate() {
        let kind = if n == 0 { KeyType::Hash } else { KeyType::Range };
        let attribute =
            AttributeDefinition::builder().attribute_name(*key).attribute_type(ScalarAttributeType::S);
        make = make.attribute_definitions(attribute.build()?);
        make = make.key_schema(KeySchemaElement::builder().attribute_name(*key).key_type(kind).build()?);
    }
    let stream =
        stream.map(|view| StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build());
    make.set_stream_specification(stream.transpose()?).send().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_checked_and_made() -> Result<(), Failure> {
    let node = single().await?;
    refused(node.config("missing"), ErrorKind::InvalidArgument, &["missing", "`create`", "create-table"])
        .await?;
    make(&node, "other-key", &["id"], None).await?;
    make(&node, "other-names", &["p", "sort"], None).await?;
    for table in ["other-key", "other-names"] {
        // The table is refused also when `create` is set.
        for config in [node.config(table), node.config(table).create(true)] {
            refused(config, ErrorKind::InvalidArgument, &[table, "p (HASH, S), k (RANGE, S)"]).await?;
        }
    }

    let kv = node.open("made").await?;
    assert_eq!(kv.capabilities().watch, Watching::EachChange);
    let made = node.sdk().describe_table().table_name("made").send().await?.table.ok_or("it is there")?;
    let billing = made.billing_mode_summary().and_then(|b| b.billing_mode().cloned());
    assert_eq!(billing, Some(BillingMode::PayPerRequest));
    let view = made.stream_specification().and_then(|s| s.stream_view_type().cloned());
    assert_eq!(view, Some(StreamViewType::NewAndOldImages));
    let ttl = node.sdk().describe_time_to_live().table_name("made").send().await?;
    assert_eq!(ttl.time_to_live_description().and_then(|ttl| ttl.attribute_name()), Some("ttl"));
    // A second client finds the table, and many clients can make one at the same time.
    node.open("made").await?.put("a", "1").await?;
    let opens = (0..8).map(|_| node.open("raced"));
    futures::future::try_join_all(opens).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_there_are_no_watches_and_the_way_to_them_is_told() -> Result<(), Failure> {
    let node = single().await?;
    make(&node, "no-stream", &["p", "k"], None).await?;
    make(&node, "keys-only", &["p", "k"], Some(StreamViewType::KeysOnly)).await?;
    for (table, way) in [("no-stream", "StreamEnabled=true"), ("keys-only", "StreamEnabled=false")] {
        let kv = node.config(table).open().await?;
        assert_eq!(kv.capabilities().watch, Watching::Unsupported);
        let e = kv.watch_tree("").await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
        for part in [table, way, "StreamViewType=NEW_AND_OLD_IMAGES", "update-table"] {
            assert!(e.to_string().contains(part), "{e} names {part:?}");
        }
        // Everything else works.
        kv.put("a", "1").ttl(Duration::from_secs(60)).await?;
        let guard = kv.new_lock("l").acquire().await?;
        kv.put("b", "1").fenced(&guard).await?;
        assert_eq!(kv.list("").await?.len(), 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_of_the_right_kind() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let config = || config(front.address, "refusals").create(true);
    front.trouble("DescribeTable", Trouble::Refused(400, "UnrecognizedClientException"), 1);
    refused(config(), ErrorKind::Unauthenticated, &["credentials", "UnrecognizedClientException"]).await?;
    front.trouble("DescribeTable", Trouble::Refused(400, "AccessDeniedException"), 1);
    refused(config(), ErrorKind::PermissionDenied, &["AccessDeniedException", "said the test"]).await?;

    let kv = config().open().await?;
    for (code, kind) in [
        ("AccessDeniedException", ErrorKind::PermissionDenied),
        ("ExpiredTokenException", ErrorKind::Unauthenticated),
        ("ItemCollectionSizeLimitExceededException", ErrorKind::NoSpace),
        ("ResourceNotFoundException", ErrorKind::Other),
    ] {
        front.trouble("PutItem", Trouble::Refused(400, code), 1);
        let e = kv.put("a", "1").await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(!e.is_transient() && e.to_string().contains(code), "{e}");
    }
    Ok(())
}

/// A release that failed is tried again in the background; closing tries once more, and its error
/// names the lock.
#[tokio::test(flavor = "multi_thread")]
async fn closing_names_the_lock_that_cannot_be_given_back() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let open = || async { Ok::<_, Failure>(config(front.address, "given").create(true).open().await?) };
    let (kv, other) = (open().await?, open().await?);
    let [kept, later] = ["kept", "later"].map(|name| kv.new_lock(name).ttl(Duration::from_secs(60)));
    let (kept, later) = (kept.acquire().await?, later.acquire().await?);
    let denied = Trouble::Refused(400, "AccessDeniedException");
    front.trouble("UpdateItem", denied.clone(), 1);
    assert_eq!(later.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    drop(tokio::time::timeout(Duration::from_secs(20), other.new_lock("later").acquire()).await??);
    front.trouble("UpdateItem", denied, 100_000);
    assert_eq!(kept.release().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let e = kv.close().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{e}");
    assert!(e.to_string().contains("\"kept\"") && e.to_string().contains("60s"), "{e}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_withdrawn_end_a_watch_and_are_no_deletions() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let kv = config(front.address, "rights").create(true).open().await?;
    kv.put("a", "1").await?;
    let mut watch = kv.watch_tree("").await?;
    assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    front.trouble("GetRecords", Trouble::Refused(400, "AccessDeniedException"), 1000);
    assert_eq!(watch.event().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    // A watch that begins when the rights are back works.
    front.no_more_trouble();
    let mut watch = kv.watch_tree("").await?;
    assert!(matches!(watch.event().await?, WatchEvent::Put(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_rides_out_throttling_and_expired_iterators() -> Result<(), Failure> {
    let node = single().await?;
    let front = Front::new(node.address).await?;
    let kv = config(front.address, "iterators").create(true).open().await?;
    kv.put("d/kept", "1").await?;
    kv.put("d/deleted", "1").await?;
    let mut watch = kv.watch_tree("d").await?;
    while watch.event().await? != WatchEvent::Synced {}
    front.trouble("GetRecords", Trouble::Refused(400, "LimitExceededException"), 3);
    let version = kv.put("d/a", "1").await?.version;
    assert!(matches!(watch.event().await?, WatchEvent::Put(e) if e.version == version));
    for trouble in ["ExpiredIteratorException", "TrimmedDataAccessException"] {
        front.trouble("GetRecords", Trouble::Refused(400, trouble), 1);
        kv.delete("d/deleted").await?;
        kv.put("d/a", trouble).await?;
        let (mut events, mut synced) = (Vec::new(), false);
        while !synced {
            let event = watch.event().await?;
            synced = event == WatchEvent::Synced;
            events.extend(event.key().map(|key| key.as_str().to_owned()));
        }
        events.sort();
        assert_eq!(events, ["d/a", "d/deleted"], "what differs after {trouble}");
        kv.put("d/deleted", "1").await?;
        assert!(matches!(watch.event().await?, WatchEvent::Put(e) if e.key.as_str() == "d/deleted"));
    }
    Ok(())
}
