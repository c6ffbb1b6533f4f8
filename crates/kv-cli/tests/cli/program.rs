//! Runs the program.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    path::Path,
    process::{self, Child, Command, Output, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// The longest that a test waits for something that comes by itself.
const SOON: Duration = Duration::from_secs(60);

/// Makes the commands begin with the default for an interrupt and a hangup, which ends them. What
/// ignores it, as a shell's background job or one under `nohup` does, has children that ignore it
/// too; what handles it does not.
static INTERRUPTS: LazyLock<()> = LazyLock::new(|| {
    let (ready, handled) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let mut interrupts = signal(SignalKind::interrupt()).unwrap();
            let _hangups = signal(SignalKind::hangup()).unwrap();
            ready.send(()).unwrap();
            interrupts.recv().await;
            process::exit(130);
        });
    });
    handled.recv().unwrap();
});

/// A user's place: a home of its own, and the store that the commands are for.
pub(crate) struct Place {
    home: TempDir,
    store: Option<String>,
}

/// The result of a command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    /// Makes a place without a store: it is the embedded one.
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), store: None }
    }

    /// Makes a place whose store is a file.
    pub(crate) fn redb() -> Self {
        let mut place = Self::new();
        place.store = Some(place.url("app"));
        place
    }

    /// Makes a place whose store is in memory, and so empty for every command.
    pub(crate) fn memory() -> Self {
        Self { store: Some("memory://".to_owned()), ..Self::new() }
    }

    /// Makes a place whose store has this URL.
    #[cfg(feature = "redis")]
    pub(crate) fn at(url: &str) -> Self {
        Self { store: Some(url.to_owned()), ..Self::new() }
    }

    /// Returns the URL of a file of this name here.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("redb://{}", self.home.path().join(format!("{name}.redb")).display())
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Returns the command, in this home and with nothing of the tester's own.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        LazyLock::force(&INTERRUPTS);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
        for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "KV_CONFIG", "KV_STORE", "VISUAL", "EDITOR"] {
            command.env_remove(variable);
        }
        command.env("HOME", self.home()).current_dir(self.home()).args(arguments);
        if let Some(store) = &self.store {
            command.env("KV_STORE", store);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// Runs a command with this standard input, and returns what it printed as bytes.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut to = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end without reading it all.
        let writes = thread::spawn(move || drop(to.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writes.join().unwrap();
        output
    }

    /// Runs a command that has to succeed, and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.code, &*ended.err), (0, ""), "{arguments:?}: {ended:?}");
        ended.out
    }

    /// Runs commands one after another, and compares what each prints and its exit code. A line
    /// `#` stands for a version.
    pub(crate) fn table(&self, rows: &[(&[&str], i32, &str)]) {
        for (arguments, code, expected) in rows {
            let ended = self.run(arguments);
            let is_version = *expected == "#\n" && ended.out.trim_end().parse::<f64>().is_ok();
            assert_eq!(ended.code, *code, "{arguments:?}: {ended:?}");
            assert!(is_version || ended.out == *expected, "{arguments:?}: {ended:?}");
            // An answer on standard output needs no words beside it.
            let has_words = *code != 0 && expected.is_empty() && arguments[0] != "exists";
            assert_eq!(!ended.err.is_empty(), has_words, "{arguments:?}: {ended:?}");
        }
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().or(output.status.signal().map(|signal| -signal)).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Waits until this holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "it did not come: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a line of what a command that goes on prints, without its end; an output that is over has none.
pub(crate) fn line(child: &mut Child) -> String {
    let (out, mut line) = (child.stdout.as_mut().unwrap(), Vec::new());
    let mut byte = [0];
    loop {
        let count = out.read(&mut byte).unwrap();
        assert_eq!(count, 1, "its output is over, behind {:?}", String::from_utf8_lossy(&line));
        if byte == *b"\n" {
            return String::from_utf8(line).unwrap();
        }
        line.push(byte[0]);
    }
}

/// Waits for the end of a command.
pub(crate) fn end(child: Child) -> Ended {
    Ended::of(child.wait_with_output().unwrap())
}
