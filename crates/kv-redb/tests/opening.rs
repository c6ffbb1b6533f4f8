//! The errors of opening, their words, and the behaviour of a store whose disk is full.

use kv_core::{Error, ErrorKind, Result, WatchEvent};
use kv_redb::Config;
use redb::{Database, TableDefinition};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

const FILE: &str = "KV_REDB_TEST_FILE";

/// Starts this test binary again, as a process that runs one of its tests. It ignores SIGXFSZ: so
/// a file at its largest size is an error of the write.
fn another_process(test: &str, file: &Path) -> Child {
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(FILE, file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn until_it_says(child: &mut Child, word: &str) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let said = lines.map(Result::unwrap).any(|line| line.ends_with(word));
    assert!(said, "the other process ended without saying {word:?}");
}

async fn refused(path: &Path) -> Error {
    Config::new(path).open().await.expect_err("this cannot be opened")
}

fn says(error: &Error, kind: ErrorKind, file: &Path, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(&file.display().to_string()), "{text:?} names no {}", file.display());
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

/// Makes a store with some content, and closes it.
async fn filled(path: &Path) -> Result<()> {
    let kv = Config::new(path).open().await?;
    for n in 0..300 {
        kv.put(format!("key/{n}"), vec![n as u8; 4_000]).await?;
    }
    kv.close().await
}

/// Keeps the file open until its input ends; a test starts it as a process.
#[tokio::test]
#[ignore = "started by another test, as a process of its own"]
async fn the_process_that_has_it_open() -> Result<()> {
    let Ok(file) = env::var(FILE) else { return Ok(()) };
    let kv = Config::new(file).open().await?;
    kv.put("whose", "theirs").await?;
    println!("\nready");
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    kv.close().await
}

#[tokio::test]
async fn a_file_is_for_one_process_at_a_time() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.redb");
    let mut other = another_process("the_process_that_has_it_open", &file);
    until_it_says(&mut other, "ready");
    says(
        &refused(&file).await,
        ErrorKind::Unavailable,
        &file,
        &["open in another process", "stop the other"],
    );
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    // When close returns, the next process can have it.
    let kv = Config::new(&file).open().await?;
    assert_eq!(kv.get("whose").await?.unwrap().text(), Some("theirs"));
    kv.close().await?;
    let mut other = another_process("the_process_that_has_it_open", &file);
    until_it_says(&mut other, "ready");
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    Ok(())
}

#[tokio::test]
async fn clients_of_one_process_share_the_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.redb");
    fs::create_dir(folder.path().join("b")).unwrap();
    // This is another way to the same file, with another prefix.
    let (one, two) = tokio::join!(
        Config::new(&file).open(),
        Config::new(folder.path().join("b/../a.redb")).prefix("app/").open()
    );
    let (one, two) = (one?, two?);
    let mut watch = one.watch_tree("app").await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    two.put("x", "1").await?;
    assert_eq!(watch.event().await?.key().unwrap().as_str(), "app/x");
    one.close().await?;
    assert_eq!(two.get("x").await?.unwrap().text(), Some("1"));
    two.close().await?;
    two.close().await?;
    // It is closed and opened many times over: each opening finds the file free.
    for n in 0..20 {
        let kv = Config::new(&file).open().await?;
        kv.put("n", n.to_string()).await?;
        if n % 2 == 0 { kv.close().await? } else { drop(kv) }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_a_store_is_refused_and_left_alone() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    for content in ["dear diary", &"long ".repeat(10_000)] {
        fs::write(&file, content).unwrap();
        says(&refused(&file).await, ErrorKind::Corrupt, &file, &["not a redb file", "another path"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
    let file = folder.path().join("theirs.redb");
    let theirs = Database::create(&file).unwrap();
    let write = theirs.begin_write().unwrap();
    write.open_table(TableDefinition::<&str, u64>::new("users")).unwrap().insert("ann", 1).unwrap();
    write.commit().unwrap();
    drop(theirs);
    says(&refused(&file).await, ErrorKind::Corrupt, &file, &["another program", "users"]);
    // A store of a later version.
    let file = folder.path().join("later.redb");
    filled(&file).await?;
    let later = Database::open(&file).unwrap();
    let write = later.begin_write().unwrap();
    write.open_table(TableDefinition::<&str, u64>::new("kv.meta")).unwrap().insert("format", 99).unwrap();
    write.commit().unwrap();
    drop(later);
    says(&refused(&file).await, ErrorKind::Corrupt, &file, &["format 99", "newer version"]);
    Ok(())
}

#[tokio::test]
async fn a_damaged_file_is_told() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (whole, file) = (folder.path().join("whole.redb"), folder.path().join("damaged.redb"));
    filled(&whole).await?;
    let bytes = fs::read(&whole).unwrap();
    // One bit of a value is flipped.
    let at = bytes.windows(200).position(|w| w == [7; 200]).expect("the value of key/7") + 100;
    let mut flipped = bytes.clone();
    flipped[at] ^= 1;
    fs::write(&file, &flipped).unwrap();
    says(&refused(&file).await, ErrorKind::Corrupt, &file, &["damaged", "restore it from a copy"]);
    // A stretch in the middle is overwritten.
    let mut torn = bytes.clone();
    let middle = torn.len() / 2;
    torn[middle / 2..middle].fill(0xA5);
    fs::write(&file, &torn).unwrap();
    says(&refused(&file).await, ErrorKind::Corrupt, &file, &["damaged", "restore it from a copy"]);
    // The file is cut off, at several places.
    for part in [2, 3, 10, 100, 1_000] {
        fs::write(&file, &bytes[..bytes.len() / part]).unwrap();
        says(&refused(&file).await, ErrorKind::Corrupt, &file, &["damaged", "restore it from a copy"]);
    }
    // The whole file is fine.
    assert_eq!(Config::new(&whole).open().await?.list("key").await?.len(), 300);
    Ok(())
}

#[tokio::test]
async fn paths_that_cannot_be_a_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/a.redb");
    says(&refused(&missing).await, ErrorKind::InvalidArgument, &missing, &["is not there", "mkdir -p"]);
    says(&refused(folder.path()).await, ErrorKind::InvalidArgument, folder.path(), &["is a folder"]);
    fs::write(folder.path().join("file"), "").unwrap();
    let below = folder.path().join("file/a.redb");
    says(&refused(&below).await, ErrorKind::InvalidArgument, &below, &["is a file"]);
    // Root may write everywhere but here.
    let unwritable = PathBuf::from("/proc/a.redb");
    let error = refused(&unwritable).await;
    says(&error, error.kind(), &unwritable, &["cannot be opened for writing"]);
    assert!(matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidArgument));
    Ok(())
}

/// Runs where no file may grow beyond the size of the store's; a test starts it as a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by another test, as a process of its own"]
async fn the_process_on_a_full_disk() -> Result<()> {
    let Ok(file) = env::var(FILE).map(PathBuf::from) else { return Ok(()) };
    let store = Arc::new(Config::new(&file).build().await?);
    let kv = kv_core::Kv::new(store.clone());
    let guard = kv.new_lock("leader").acquire().await?;
    let mut watch = kv.watch_tree("data").await?;
    assert_eq!(watch.event().await?, WatchEvent::Synced);
    let free = getrlimit(Resource::Fsize);
    let full = Rlimit { current: Some(fs::metadata(&file).unwrap().len()), maximum: free.maximum };
    setrlimit(Resource::Fsize, full).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let error = loop {
            let key = format!("data/{}", acknowledged.len());
            match kv.put(&key, vec![round; 100_000]).await {
                Ok(written) => acknowledged.push((key, round, written.version)),
                Err(error) => break error,
            }
        };
        says(&error, ErrorKind::NoSpace, &file, &["largest size", "nothing was written", "make space"]);
        // Reading goes on; nothing acknowledged is lost, and what was refused is not there.
        for (key, value, version) in &acknowledged {
            let entry = kv.get(key).await?.unwrap_or_else(|| panic!("{key} is lost"));
            assert_eq!((entry.version, entry.value[0]), (*version, *value));
        }
        assert_eq!(kv.list("data").keys_only_count().await?, acknowledged.len());
        assert!(guard.is_held());
        // Space is made: writes go on in the same process, under the same lock.
        let more = Rlimit { current: full.current.map(|n| n + (u64::from(round) + 1) * 2_000_000), ..full };
        setrlimit(Resource::Fsize, more).unwrap();
        kv.put("after", "room").fenced(&guard).await?;
    }
    assert!(store.stats()?.reopened >= 3);
    let mut owed: BTreeMap<_, _> =
        acknowledged.iter().map(|(key, _, version)| (key.clone(), *version)).collect();
    while !owed.is_empty() {
        match watch.event().await? {
            WatchEvent::Put(entry) => assert_eq!(owed.remove(entry.key.as_str()), Some(entry.version)),
            WatchEvent::Synced => {}
            gone @ WatchEvent::Delete { .. } => panic!("{gone:?}"),
        }
    }
    setrlimit(Resource::Fsize, free).unwrap();
    kv.close().await?;
    let kv = Config::new(&file).open().await?;
    assert_eq!(kv.list("data").await?.len(), acknowledged.len());
    println!("\nacknowledged");
    Ok(())
}

/// Counts entries without their values.
trait Count {
    async fn keys_only_count(self) -> Result<usize>;
}

impl Count for kv_core::List {
    async fn keys_only_count(self) -> Result<usize> {
        let mut keys = self.keys();
        let mut count = 0;
        while let Some(key) = keys.next().await {
            key?;
            count += 1;
        }
        Ok(count)
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = another_process("the_process_on_a_full_disk", &folder.path().join("a.redb"));
    until_it_says(&mut child, "acknowledged");
    assert!(child.wait().unwrap().success());
}

/// Runs in a file system of 8 MB of its own, as a process that a test starts: the disk is full,
/// and removing another file makes space.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by another test, as a process of its own"]
async fn the_process_on_a_full_tmpfs() -> Result<()> {
    let Ok(file) = env::var(FILE).map(PathBuf::from) else { return Ok(()) };
    let ballast = file.with_extension("ballast");
    // No file can be made, and nothing is left that could not be opened later.
    fs::write(&ballast, vec![1; 16_000_000]).unwrap_err();
    let error = Config::new(&file).open().await.unwrap_err();
    says(&error, ErrorKind::NoSpace, &file, &["could not be made", "its disk is full", "open it again"]);
    fs::write(&ballast, vec![1; 3_000_000]).unwrap();
    let kv = Config::new(&file).open().await?;
    let lease = kv.lease(Duration::from_secs(60)).await?;
    kv.put("leased", "1").lease(&lease).await?;
    let guard = kv.new_lock("lock").ttl(Duration::from_secs(60)).acquire().await?;
    let mut acknowledged = 0;
    let error = loop {
        match kv.put(format!("data/{acknowledged}"), vec![2; 100_000]).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    says(&error, ErrorKind::NoSpace, &file, &["the disk is full", "nothing was written", "make space"]);
    assert_eq!(kv.list("data").await?.len(), acknowledged);
    // Beside the calls that want space, one makes some.
    let puts = (0..20).map(|n| kv.put(format!("crowd/{n}"), vec![4; 100_000]).into_future());
    let (refused, gone) = tokio::join!(futures::future::join_all(puts), kv.delete("data/0").into_future());
    assert!(gone?, "a delete");
    let refused: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
    assert!(refused.len() > 10 && refused.iter().all(|e| e.kind() == ErrorKind::NoSpace), "{refused:?}");
    kv.delete_tree("crowd").await?;
    assert!(kv.transact().then(kv.delete("data/1")).then(kv.delete("data/2")).await?.is_committed());
    assert!(guard.is_held() && lease.is_held());
    assert!(lease.revoke().await?);
    assert!(!kv.exists("leased").await?);
    assert!(guard.release().await?);
    // The file is opened while the disk is full.
    kv.close().await?;
    let kv = Config::new(&file).open().await?;
    assert_eq!(kv.list("data").await?.len(), acknowledged - 3);
    assert_eq!(kv.delete_tree("data").await?, Some(acknowledged as u64 - 3));
    for n in 0..acknowledged / 2 {
        kv.put(format!("data/{n}"), vec![5; 100_000]).await?;
    }
    // Space is made from outside.
    fs::remove_file(ballast).unwrap();
    for n in 0..acknowledged {
        kv.put(format!("data/{n}"), vec![6; 100_000]).await?;
    }
    kv.close().await?;
    assert_eq!(Config::new(&file).open().await?.list("data").await?.len(), acknowledged);
    println!("\nacknowledged");
    Ok(())
}

#[test]
#[ignore = "mounts a file system: needs root, or the right to make user namespaces"]
fn a_full_file_system_is_told_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs -o size=8m none \"$0\" && exec \"$@\""])
        .arg(folder.path())
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "the_process_on_a_full_tmpfs",
            "--nocapture",
            "--include-ignored",
            "--test-threads=1",
        ])
        .env(FILE, folder.path().join("a.redb"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until_it_says(&mut child, "acknowledged");
    assert!(child.wait().unwrap().success());
}
