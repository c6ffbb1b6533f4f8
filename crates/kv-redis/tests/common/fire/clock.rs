//! A wall clock of a server's own, which jumps, by the library of Debian's package libfaketime.

use super::super::*;
use kv_testsuite::failover::soon;
use std::{
    ffi::OsString,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

/// The jumps in seconds: beyond some of the records that are kept for a while, and beyond all of
/// them, also the last number given, which is kept for 30 days.
const JUMPS: [&str; 4] = ["+90", "-90", "+3000000", "-3000000"];

pub struct Clock {
    libraries: OsString,
    /// The file with the seconds by which the clock is off.
    offset: PathBuf,
    _folder: TempDir,
    jumps: AtomicUsize,
}

impl Clock {
    /// Finds the library; `None` where it is missing.
    pub fn new() -> Result<Option<Self>, Failure> {
        let Ok(library) = server("faketime", LIVE) else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let offset = folder.path().join("offset");
        std::fs::write(&offset, "+0")?;
        // The server's own allocator asks for the time before the library can tell it: so malloc
        // is libc's here.
        let libraries = [library.into_os_string(), "libc.so.6".into()].join(OsStr::new(":"));
        Ok(Some(Self { libraries, offset, _folder: folder, jumps: AtomicUsize::new(0) }))
    }

    /// Returns the variables that give this clock to a server.
    pub fn variables(&self) -> [(&str, &OsStr); 4] {
        [
            ("LD_PRELOAD", &self.libraries),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.as_os_str()),
            // The file is read again each second.
            ("FAKETIME_CACHE_DURATION", "1".as_ref()),
            // The monotonic clock does not jump.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".as_ref()),
        ]
    }

    pub async fn jump(&self, resp: &mut Resp) -> Result<(), Failure> {
        let nth = self.jumps.fetch_add(1, Ordering::Relaxed);
        self.set(resp, JUMPS[nth % JUMPS.len()]).await
    }

    pub async fn back(&self, resp: &mut Resp) -> Result<(), Failure> {
        self.set(resp, "+0").await
    }

    /// Sets the clock, and waits until the server's time is off by so many seconds.
    async fn set(&self, resp: &mut Resp, by: &str) -> Result<(), Failure> {
        // The new file is renamed, so that no half of it is read.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, by)?;
        std::fs::rename(&new, &self.offset)?;
        let by: i64 = by.parse()?;
        soon("the clock to jump", async {
            loop {
                let told = resp.say("TIME").await?.list().first().map(Reply::text).unwrap_or_default();
                let real = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
                let off = told.parse::<i64>()? - i64::try_from(real)?;
                if (off - by).abs() <= 2 {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await?
    }
}
