//! A put that returned survives `kill -9`, and so do its version and the tokens of locks.
//!
//! The test runs itself as the process that writes, kills that process at some moment, and
//! compares the file with what the process had told.

use kv_core::{Result, Version};
use kv_redb::Config;
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const ROUNDS: u32 = 30;
const FILE: &str = "KV_REDB_TEST_FILE";
/// The number of tasks that write at the same time.
const WRITERS: u32 = 8;

/// The answers that one round was told: key, value and version of each acknowledged put, and the
/// tokens of the lock.
#[derive(Default)]
struct Told {
    puts: BTreeMap<String, (String, Version)>,
    tokens: Vec<u64>,
}

/// Runs as the process that writes until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by another test, as a process of its own"]
async fn the_writer_that_is_killed() -> Result<()> {
    let Ok(file) = env::var(FILE) else { return Ok(()) };
    let kv = Config::new(file).open().await?;
    let round = env::var("KV_REDB_TEST_ROUND").unwrap();
    // Each line is written in one call, after the put returned: a put whose line was read was
    // acknowledged.
    let tell = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    tell("TOLD ready\n".into());
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (kv, round) = (kv.clone(), round.clone());
        tasks.push(tokio::spawn(async move {
            for n in 0u64.. {
                let (key, value) = (format!("k/{writer}/{}", n % 50), format!("{round}-{n}"));
                let version = kv.put(&key, value.clone()).await.unwrap().version;
                tell(format!("TOLD put {key} {value} {version}\n"));
            }
        }));
    }
    let lock = kv.clone();
    tasks.push(tokio::spawn(async move {
        for n in 0.. {
            // Each name is new, so its lock is free.
            let guard = lock.new_lock(format!("lock-{round}-{n}")).acquire().await.unwrap();
            tell(format!("TOLD token {}\n", guard.token()));
            guard.release().await.unwrap();
        }
    }));
    for task in tasks {
        task.await.unwrap();
    }
    Ok(())
}

fn told(line: &str, told: &mut Told) {
    let mut words = line.split(' ');
    match words.next() {
        Some("put") => {
            let (key, value) = (words.next().unwrap(), words.next().unwrap());
            let version = words.next().unwrap().parse().unwrap();
            told.puts.insert(key.into(), (value.into(), version));
        }
        Some("token") => told.tokens.push(words.next().unwrap().parse().unwrap()),
        _ => {}
    }
}

/// Runs one writer, and kills it after so many acknowledgements.
fn round(file: &Path, round: u32, kill_after: usize) -> Told {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "the_writer_that_is_killed",
            "--nocapture",
            "--include-ignored",
            "--test-threads=1",
        ])
        .env(FILE, file)
        .env("KV_REDB_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut all, mut lines) = (Told::default(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The first line of the harness has no end of its own.
        let Some((_, line)) = line.split_once("TOLD ") else { continue };
        told(line, &mut all);
        lines += 1;
        if lines == kill_after {
            child.kill().unwrap(); // SIGKILL; what it had written to the pipe before is still read
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(lines >= kill_after, "the writer ended by itself");
    all
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("killed.redb");
    let (mut versions, mut last_token) = (BTreeMap::<String, Version>::new(), 0);
    for n in 0..ROUNDS {
        // The moments are spread over the first commits and over a busy store.
        let after = 2 + (n as usize * 7919) % 900;
        let path = file.clone();
        let told = tokio::task::spawn_blocking(move || round(&path, n, after)).await.unwrap();
        let kv = Config::new(&file).open().await?;
        for (key, (value, version)) in &told.puts {
            let entry = kv.get(key).await?.unwrap_or_else(|| panic!("round {n}: {key} is lost"));
            // A put whose answer was not read may have come behind it.
            assert!(entry.version >= *version, "round {n}: {key} went back to {:?}", entry.version);
            if entry.version == *version {
                assert_eq!(entry.text(), Some(&**value), "round {n}: {key}");
            }
            let before = versions.insert(key.clone(), entry.version);
            assert!(
                before.is_none_or(|before| before < *version),
                "round {n}: the version of {key} did not grow"
            );
        }
        for token in told.tokens {
            assert!(token > last_token, "round {n}: token {token} after {last_token}");
            last_token = token;
        }
        let guard = kv.new_lock("mine").ttl(Duration::from_secs(1)).acquire().await?;
        assert!(guard.token() > last_token, "round {n}: a token was given out twice");
        last_token = guard.token();
        kv.close().await?;
    }
    Ok(())
}
