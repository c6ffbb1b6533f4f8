//! Starts: with a store that is down, or holds bad settings, and with the last good file.

mod common;

use common::{Limits, MS, Pair, S, limits, pair, put_limits, until};
use kv_config::{Live, Opening, Origin, live};
use kv_core::{Error, ErrorKind, Kv, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limits.json");
    (folder, file)
}

async fn open(kv: &Kv, file: &Path) -> Result<Live<Limits>> {
    live::<Limits>(kv, "app/limits").validate(Limits::check).last_good(file).deadline(S).await
}

/// Makes a pair whose limits are these, and a file that has them.
async fn saved(n: u32) -> (Pair, TempDir, PathBuf) {
    let (p, (folder, file)) = (pair().await, folder());
    put_limits(&p.other, limits(n)).await;
    let settings = open(&p.kv, &file).await.unwrap();
    until("the file", async || file.exists()).await;
    assert!(settings.troubles().is_empty());
    (p, folder, file)
}

#[tokio::test(start_paused = true)]
async fn without_valid_settings_there_is_no_start() {
    let p = pair().await;
    let open = || live::<Limits>(&p.kv, "app/limits").validate(Limits::check).deadline(S);
    let e = open().await.unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Corrupt, "requests: is missing"));
    put_limits(&p.other, Limits { requests: 1, burst: 1 }).await;
    let e = open().await.unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Corrupt, "refused by the validation: 1 is not twice 1"));
    p.faults.pause();
    let e = open().await.unwrap_err();
    assert_eq!((e.kind(), e.operation()), (ErrorKind::Timeout, Some("list")), "{e}");
    p.faults.clear();
    until("nothing is left", async || p.memory.leftovers().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn it_starts_from_the_file_when_the_store_is_down() {
    let (p, _folder, file) = saved(1).await;
    p.faults.pause();
    let mut settings = open(&p.kv, &file).await.unwrap();
    assert_eq!((*settings.get(), settings.origin()), (limits(1), Origin::File));
    assert_eq!(settings.troubles().store.unwrap().kind(), ErrorKind::Timeout);
    let generation = settings.generation();
    p.faults.resume();
    until("the store", async || settings.origin() == Origin::Store).await;
    assert_eq!(settings.generation(), generation, "nobody has written meanwhile");
    assert!(settings.troubles().is_empty());
    put_limits(&p.other, limits(2)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(2), "the first change");
}

#[tokio::test(start_paused = true)]
async fn what_changed_while_the_store_was_down_is_a_change() {
    let (p, _folder, file) = saved(1).await;
    p.faults.pause();
    let mut settings = open(&p.kv, &file).await.unwrap();
    put_limits(&p.other, limits(2)).await;
    p.faults.resume();
    assert_eq!(*settings.changed().await.unwrap(), limits(2));
    assert_eq!(settings.origin(), Origin::Store);
}

#[tokio::test(start_paused = true)]
async fn it_starts_from_the_file_when_the_stored_settings_are_bad() {
    let (p, _folder, file) = saved(1).await;
    p.other.put("app/limits/burst", "lots").await.unwrap();
    let mut settings = open(&p.kv, &file).await.unwrap();
    assert_eq!((*settings.get(), settings.origin()), (limits(1), Origin::File));
    let rejected = settings.next_rejected().await.unwrap();
    assert_eq!(rejected.error.message(), "burst: expected u32, found other text");
    assert_eq!(settings.rejected().unwrap().generation, rejected.generation);
    assert!(settings.troubles().is_empty());
    put_limits(&p.other, limits(3)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(3));
    until("the file", async || fs::read_to_string(&file).unwrap().contains(r#""value":"6""#)).await;
}

#[tokio::test(start_paused = true)]
async fn the_file_is_not_believed_blindly() {
    let (p, folder, file) = saved(1).await;
    let good = fs::read(&file).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    p.faults.pause();
    let text = String::from_utf8(good.clone()).unwrap();
    let refused = async |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let e = open(&p.kv, &file).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Timeout, "that of the store: {e}");
        assert!(e.to_string().contains("there are no settings from before"), "{e}");
        e.to_string()
    };
    for at in [0, text.find('\n').unwrap(), good.len() / 2, good.len() - 1] {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        assert!(refused(&damaged).await.contains("is damaged"), "byte {at}");
        assert!(refused(&good[..at]).await.contains("is damaged"), "cut at {at}");
    }
    assert!(refused(text.replace("\"v\":1", "\"v\":2").as_bytes()).await.contains("the format 2"));
    let other = text.replace("\"name\":\"app/limits\"", "\"name\":\"app/other\"");
    assert!(refused(other.as_bytes()).await.contains("is of the tree \"app/other\""));
    fs::remove_file(&file).unwrap();
    let e = open(&p.kv, &file).await.unwrap_err();
    assert!(e.to_string().contains("cannot be read"), "{e}");

    // Settings that were valid once need not be so for a newer program.
    fs::write(&file, &good).unwrap();
    let refuses = |_: &Limits| Err::<(), _>("no limits at all");
    let e = live::<Limits>(&p.kv, "app/limits").validate(refuses).last_good(&file).deadline(S).await;
    assert!(e.unwrap_err().to_string().ends_with("no limits at all"));
    assert_eq!(*open(&p.kv, &file).await.unwrap().get(), limits(1));

    // The store counts, whatever the file is.
    p.faults.resume();
    fs::write(&file, "junk").unwrap();
    assert_eq!(open(&p.kv, &file).await.unwrap().origin(), Origin::Store);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_is_told() {
    let (p, (folder, _)) = (pair().await, folder());
    put_limits(&p.other, limits(1)).await;
    let file = folder.path().join("missing/limits.json");
    let mut settings = open(&p.kv, &file).await.unwrap();
    until("the trouble", async || settings.troubles().last_good.is_some()).await;
    fs::create_dir(folder.path().join("missing")).unwrap();
    put_limits(&p.other, limits(2)).await;
    settings.changed().await.unwrap();
    until("the file", async || file.exists() && settings.troubles().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn any_bytes_come_back_from_the_file() {
    #[derive(Debug, serde::Deserialize)]
    struct Secret {
        key: Vec<u8>,
        note: String,
    }
    let (p, (_folder, file)) = (pair().await, folder());
    p.other.put("app/secret/key", "[1,2]").await.unwrap();
    p.other.put("app/secret/note", "ä\n\"\\").await.unwrap();
    p.other.put("app/secret/unknown", b"\xff\x00").await.unwrap();
    let open = || live::<Secret>(&p.kv, "app/secret").last_good(&file).deadline(S);
    let first = open().await.unwrap();
    until("the file", async || file.exists()).await;
    drop(first);
    p.faults.pause();
    let settings = open().await.unwrap();
    assert_eq!(settings.origin(), Origin::File);
    assert_eq!((&*settings.get().key, &*settings.get().note), (&[1, 2][..], "ä\n\"\\"));
}

#[tokio::test(start_paused = true)]
async fn a_store_may_be_opened_later() {
    let (p, _folder, file) = saved(1).await;
    let (is_up, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let opening = |kv: &Kv| {
        let (kv, is_up, tries) = (kv.clone(), is_up.clone(), tries.clone());
        Opening::by(move || {
            let (kv, is_up) = (kv.clone(), is_up.load(SeqCst));
            tries.fetch_add(1, SeqCst);
            async move {
                let down = || Error::new(ErrorKind::Unavailable, "nobody listens");
                if is_up { Ok(kv) } else { Err(down()) }
            }
        })
    };
    let without = live::<Limits>(opening(&p.kv), "app/limits").await.unwrap_err();
    assert_eq!(without.kind(), ErrorKind::Unavailable);

    let open = live::<Limits>(opening(&p.kv), "app/limits").report("app/status/a").last_good(&file);
    let mut settings = open.await.unwrap();
    assert_eq!((*settings.get(), settings.origin()), (limits(1), Origin::File));
    assert!(settings.kv().is_none());
    tokio::time::sleep(60 * S).await;
    assert!((8..100).contains(&tries.load(SeqCst)), "{tries:?} tries in a minute");
    assert_eq!(settings.troubles().store.unwrap().message(), "nobody listens");

    is_up.store(true, SeqCst);
    put_limits(&p.other, limits(2)).await;
    assert_eq!(*settings.changed().await.unwrap(), limits(2));
    assert!(settings.kv().is_some());
    until("the report", async || p.other.exists("app/status/a").await.unwrap()).await;
    let tried = tries.load(SeqCst);
    tokio::time::sleep(10 * MS).await;
    assert_eq!(tries.load(SeqCst), tried, "it is open");
}
