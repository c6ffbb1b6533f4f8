//! The settings in URLs, and the URLs that are refused.

use kv_core::{ErrorKind, Result, StoreUrl, backend::Clock};
use kv_redb::Config;

#[tokio::test]
async fn urls() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a b.redb");
    let url = format!("redb://{}/a%20b.redb?prefix=app/&cache=1000000", folder.path().display());
    let kv = kv_redb::open(&url).await?;
    kv.put("x", "1").await?;
    kv.close().await?;
    let all = Config::new(&file).open().await?.list("/").await?;
    assert_eq!(all[0].key.as_str(), "app/x");
    for (url, words) in [
        ("redb:///tmp/a.redb?fsink=no", "known: prefix, raw_prefix, cache, verify, quick_repair"),
        ("redb:///tmp/a.redb?prefix=a&raw_prefix=b", "`prefix` and `raw_prefix`"),
        ("redb:///tmp/a.redb?cache=much", "\"cache\""),
        ("redb://me:pass@/tmp/a.redb", "no user"),
        ("redb://", "names no file"),
    ] {
        let error = kv_redb::open(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(words), "{error}");
    }
    // For a URL of another store no file is made.
    for scheme in ["etcd", "file"] {
        let error =
            kv_redb::open(&format!("{scheme}://{}/etcd1", folder.path().display())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let words = format!("\"{scheme}\" is not the scheme of this store, which is \"redb\"");
        assert!(error.to_string().contains(&words), "{error}");
    }
    assert!(!folder.path().join("etcd1").exists());
    // A prefix is a directory with or without its slash; only a raw prefix is bytes as they are.
    let opened = |query: &str| {
        kv_redb::Config::from_url(
            StoreUrl::parse(&format!("redb://{}/a%20b.redb?{query}", folder.path().display())).unwrap(),
        )
    };
    let all = opened("")?.open().await?;
    all.put("application/secret", "theirs").await?;
    let app = opened("prefix=app")?.open().await?;
    app.put("color", "red").await?;
    assert_eq!(opened("prefix=app/")?.open().await?.list("").await?.len(), 2);
    assert_eq!(all.get("app/color").await?.unwrap().text(), Some("red"));
    assert_eq!(app.delete_tree("").await?, Some(2));
    assert!(all.exists("application/secret").await?);
    let raw = opened("raw_prefix=app")?.open().await?;
    assert_eq!(raw.list("").await?[0].key.as_str(), "lication/secret");
    let clock = Config::new(&file).clock(Clock::tokio()).open().await.unwrap_err();
    assert!(clock.kind() == ErrorKind::InvalidArgument && clock.to_string().contains("`Clock::manual()`"));
    let text = format!("{:?}", Config::new("x.redb"));
    assert!(text.contains("x.redb"), "{text}");
    Ok(())
}
