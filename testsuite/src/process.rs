//! Servers of a backend's tests: on loopback, on free ports, gone with the test however it ends.

pub use kv_servers::launch;

use crate::Failure;
use kv_servers::{Folder, Kind};
use std::{
    fmt, fs,
    io::{BufRead, BufReader, PipeWriter, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep},
};

/// The longest time until a server serves, on a machine that is busy.
const READY: Duration = Duration::from_secs(60);

/// The server of a kind of `ci/servers`, to be started.
///
/// # Errors
/// It is not there; the message names the command that gets it, and the variable that names a running server instead.
pub fn server(kind: &str, variable: &str) -> Result<PathBuf, Failure> {
    program(kind, variable, Folder::server)
}

/// The command-line client of a kind of `ci/servers`.
///
/// # Errors
/// As of [`server`].
pub fn client(kind: &str, variable: &str) -> Result<PathBuf, Failure> {
    program(kind, variable, Folder::client)
}

fn program(
    kind: &str,
    variable: &str,
    of: impl FnOnce(&Folder, &Kind) -> Result<PathBuf, kv_servers::Error>,
) -> Result<PathBuf, Failure> {
    // A relative folder is meant from the root, whence people run things; tests run in their crate's folder.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    of(&Folder::from_env(&root), Kind::named(kind)?)
        .map_err(|e| format!("{e}; or set {variable} to the URL of a running server").into())
}

/// Runs it with this on its standard input; what it printed.
///
/// # Errors
/// It cannot be run, or fails; with what it said.
pub fn run(mut command: Command, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Makes the second folder a copy of the first; what was in it is gone. A folder that is not there is an empty one.
///
/// # Errors
/// One of the two cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => fs::create_dir_all(to)?,
    }
    if !from.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copied = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &copied)?;
        } else {
            fs::copy(entry.path(), copied)?;
        }
    }
    Ok(())
}

/// A port of loopback that stays ours as long as this lives: bound, and never listening.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Port {
    /// A free one.
    ///
    /// # Errors
    /// There is none.
    pub fn new() -> Result<Self, Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    /// Returns the address at which the server that gets the port listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A server that a test takes away and gives back: the same command each time, so the same addresses and data.
pub struct Daemon {
    command: Command,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Daemon {
    /// Not started yet. What it prints goes to the end of the file `log`.
    #[must_use]
    pub fn new(command: Command, log: PathBuf) -> Self {
        Self { command, log, process: Mutex::default() }
    }

    /// Starts it, unless it runs, and does not wait until it serves.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self) -> Result<(), Failure> {
        let mut process = self.process();
        if process.is_none() {
            *process = Some(Process::spawn(&self.command, &self.log, Stdio::null())?);
        }
        Ok(())
    }

    /// Starts it anew with a pipe as its standard input, which ends when what is given here is dropped; one that runs is
    /// killed before.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_with_input(&self) -> Result<PipeWriter, Failure> {
        self.kill();
        let (reader, writer) = std::io::pipe()?;
        *self.process() = Some(Process::spawn(&self.command, &self.log, reader.into())?);
        Ok(writer)
    }

    /// Waits until the probe says that it serves.
    ///
    /// # Errors
    /// It does not within a minute; with its log.
    pub async fn serves<F>(&self, mut probe: impl FnMut() -> F) -> Result<(), Failure>
    where
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + READY;
        while !probe().await {
            if Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(
                    format!("{:?} did not serve within {READY:?}; its log: {log}", self.command).into()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Asks it to end, and returns when it has; killed, if it refuses for ten seconds.
    pub fn stop(&self) {
        let process = self.process().take();
        if let Some(process) = process {
            process.stop();
        }
    }

    /// Kills it without warning; returns when it is gone.
    pub fn kill(&self) {
        let process = self.process().take();
        drop(process);
    }

    /// Freezes it; returns when it stands still.
    pub fn pause(&self) {
        if let Some(process) = self.process().as_mut() {
            process.signal("STOP");
        }
    }

    /// Ends a freeze; returns when it may run.
    pub fn resume(&self) {
        if let Some(process) = self.process().as_mut() {
            process.signal("CONT");
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon")
            .field("command", &self.command)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// Starts the server, passes on signals that it reads and says so, and kills it when its input ends, which it does with our
/// death. A server may refuse to end when asked: it is killed then. What it prints goes to the log, on either output. The
/// keeper is given the log's name, and what the server reads as its own output of errors, for it has no other left.
const KEEPER: &str = r#"
log=$1
shift
"$@" <&2 >>"$log" 2>&1 &
pid=$!
exec 2>>"$log"
echo started
while read -r signal; do
    kill -"$signal" "$pid"
    if [ "$signal" = TERM ]; then
        (exec >/dev/null; sleep 10 & trap 'kill $!' TERM; wait $! && kill -KILL "$pid") &
        wait "$pid"
        kill -TERM $! 2>/dev/null
        exit
    fi
    echo sent
done
kill -KILL "$pid" 2>/dev/null
wait "$pid"
"#;

/// A process that ends with the test, however the test ends.
struct Process {
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn spawn(command: &Command, log: &Path, input: Stdio) -> Result<Self, Failure> {
        // That it can be written is seen here.
        fs::File::options().create(true).append(true).open(log)?;
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(log).arg(command.get_program()).args(command.get_args());
        keeper.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(input).spawn()?;
        let orders = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().ok_or("the keeper's output is a pipe")?);
        let mut process = Self { keeper, orders, answers };
        process.answer();
        Ok(process)
    }

    /// Returns when it has been sent.
    fn signal(&mut self, name: &str) {
        self.order(name);
        self.answer();
    }

    fn order(&mut self, signal: &str) {
        let orders = self.orders.as_mut().expect("orders are taken only at the end");
        writeln!(orders, "{signal}").expect("the keeper lives as long as this");
    }

    fn answer(&mut self) {
        self.answers.read_line(&mut String::new()).expect("the keeper answers");
    }

    fn stop(mut self) {
        self.signal("CONT");
        self.order("TERM");
        self.keeper.wait().expect("a child of ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.orders.take());
        // The keeper kills what it keeps, and waits for it.
        let _ = self.keeper.wait();
    }
}
