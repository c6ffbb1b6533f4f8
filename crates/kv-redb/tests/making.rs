//! New files whose process is killed while it makes them.

use kv_core::Result;
use kv_redb::Config;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const FILE: &str = "KV_REDB_FILE";

/// Makes files, one after another; the test starts it as a process.
#[tokio::test]
#[ignore = "started by another test, as a process of its own"]
async fn the_process_that_makes_files() -> Result<()> {
    let Ok(folder) = env::var(FILE).map(PathBuf::from) else { return Ok(()) };
    println!("\nready");
    for n in 0.. {
        Config::new(folder.join(format!("{n}.redb"))).open().await?.close().await?;
    }
    Ok(())
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn what_a_killed_process_was_making_can_be_opened() -> Result<()> {
    for round in 0..24 {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Killed(
            Command::new(env::current_exe().unwrap())
                .args(["--exact", "the_process_that_makes_files", "--nocapture", "--include-ignored"])
                .env(FILE, folder.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")));
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        drop(child);
        // These are the files that it had made, and the one that it was making.
        let made = fs::read_dir(folder.path()).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".redb")
        });
        for n in 0..=made.count() {
            let file = folder.path().join(format!("{n}.redb"));
            let kv = Config::new(&file).open().await?;
            kv.put("a", "1").await?;
            kv.close().await?;
        }
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    }
    Ok(())
}

/// Makes a file with both names, as a process leaves it that is killed when it has just given the
/// file its name.
async fn with_both_names(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (file, making) = (folder.join("a.redb"), folder.join(".a.redb.making"));
    let kv = Config::new(&file).open().await?;
    kv.put("a", "1").await?;
    kv.close().await?;
    fs::hard_link(&file, &making).unwrap();
    Ok((file, making))
}

#[tokio::test]
async fn the_second_name_of_a_whole_file_goes() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (file, making) = with_both_names(folder.path()).await?;
    let kv = Config::new(&file).open().await?;
    assert_eq!(kv.get("a").await?.unwrap().value, "1");
    assert!(!making.exists());
    Ok(())
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_not_made_anew() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (file, making) = with_both_names(folder.path()).await?;
    let moved = folder.path().join("moved.redb");
    fs::rename(&file, &moved).unwrap();
    let new = Config::new(&file).open().await?;
    assert!(new.get("a").await?.is_none() && !making.exists());
    let kv = Config::new(&moved).open().await?;
    assert_eq!(kv.get("a").await?.unwrap().value, "1", "what was acknowledged is there");
    Ok(())
}
