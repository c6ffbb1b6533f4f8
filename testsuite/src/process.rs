//! Servers for a backend's tests: they run on free ports of loopback, and end with the test,
//! however that ends.

pub use kv_servers::launch;

use crate::Failure;
use kv_servers::{Folder, Kind, Stat};
use std::{
    fmt,
    fs::{self, DirEntry},
    io::{self, BufRead, BufReader, PipeWriter, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

/// The longest time until a server serves, on a machine that is busy.
const READY: Duration = Duration::from_secs(60);

/// Returns the path of the server of a kind that `ci/servers` gets.
///
/// # Errors
/// The server is not there; the message names the command that gets it, and the variable that
/// names a running server instead.
pub fn server(kind: &str, variable: &str) -> Result<PathBuf, Failure> {
    program(kind, variable, Folder::server)
}

/// Returns the path of the command-line client of a kind that `ci/servers` gets.
///
/// # Errors
/// Those of [`server`].
pub fn client(kind: &str, variable: &str) -> Result<PathBuf, Failure> {
    program(kind, variable, Folder::client)
}

fn program(
    kind: &str,
    variable: &str,
    of: impl FnOnce(&Folder, &Kind) -> Result<PathBuf, kv_servers::Error>,
) -> Result<PathBuf, Failure> {
    // A relative folder counts from the root, where people run things; tests run in their crate's
    // folder.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    of(&Folder::from_env(&root), Kind::named(kind)?)
        .map_err(|e| format!("{e}; or set {variable} to the URL of a running server").into())
}

/// Runs the command with this on its standard input, and returns what it printed.
///
/// # Errors
/// The command cannot be run, or fails; the message has what it said.
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

/// Makes the folder `to` a copy of `from`; what was in `to` is gone. A folder `from` that is not
/// there counts as empty.
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

/// Makes a folder for the data of a server, in memory where there is such a folder: the data have
/// to outlive the process alone, and every write would wait for a disk that is busy with other
/// data.
///
/// # Errors
/// The folder cannot be made.
pub fn folder() -> Result<TempDir, Failure> {
    Ok(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?)
}

/// Connects to this address, sends the request as it is, and returns all that is answered until
/// the other side hangs up.
///
/// # Errors
/// Nobody listens there, or the answer does not come within this time.
pub async fn ask(address: SocketAddr, request: &[u8], within: Duration) -> Result<Vec<u8>, Failure> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, Failure>(answer)
    };
    timeout(within, asked).await?
}

/// A port of loopback that stays ours as long as this lives: it is bound, and never listens.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Errors
    /// There is no free port.
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

/// A server that a test takes away and gives back. The same command starts it each time, so that
/// addresses and data are the same.
pub struct Daemon {
    command: Command,
    log: PathBuf,
    /// The signal by which an operator ends the server.
    ends_by: &'static str,
    process: Mutex<Option<Process>>,
}

impl Daemon {
    /// Makes a daemon that is not started yet. What the server prints goes to the end of the file
    /// `log`.
    #[must_use]
    pub fn new(command: Command, log: PathBuf) -> Self {
        Self { command, log, ends_by: "TERM", process: Mutex::default() }
    }

    /// Has [`stop`](Self::stop) send this signal in place of `TERM`, for a server that an operator
    /// ends in another way: `INT`, `QUIT`.
    #[must_use]
    pub fn ended_by(mut self, signal: &'static str) -> Self {
        self.ends_by = signal;
        self
    }

    /// Starts the server, unless it runs, and does not wait until it serves.
    ///
    /// # Errors
    /// The server cannot be started.
    pub fn spawn(&self) -> Result<(), Failure> {
        let mut process = self.process();
        if process.is_none() {
            *process = Some(Process::spawn(&self.command, &self.log, Stdio::null())?);
        }
        Ok(())
    }

    /// Starts the server anew with a pipe as its standard input, which ends when the writer that
    /// this returns is dropped; a server that runs is killed before.
    ///
    /// # Errors
    /// The server cannot be started.
    pub fn spawn_with_input(&self) -> Result<PipeWriter, Failure> {
        self.kill();
        let (reader, writer) = std::io::pipe()?;
        *self.process() = Some(Process::spawn(&self.command, &self.log, reader.into())?);
        Ok(writer)
    }

    /// Waits until the probe says that the server serves.
    ///
    /// # Errors
    /// It does not serve within a minute; the message has its log.
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

    /// Asks the server to end, and returns when it has ended; kills it if it has not within ten
    /// seconds.
    pub fn stop(&self) {
        let process = self.process().take();
        if let Some(process) = process {
            process.stop(self.ends_by);
        }
    }

    /// Kills the server without warning, and the processes that it has started; returns when they
    /// are gone.
    pub fn kill(&self) {
        let process = self.process().take();
        let children = process.as_ref().map(|process| started_by(&process.server));
        drop(process);
        for child in children.into_iter().flatten() {
            tell(&child, "KILL");
            stands_still(&child);
        }
    }

    /// Freezes the server, and the processes that it has started; returns when they stand still.
    /// Where there is no `/proc`, returns when the server alone has been told to.
    pub fn pause(&self) {
        if let Some(process) = self.process().as_mut() {
            process.signal("STOP");
            stands_still(&process.server);
            // One that still runs may start others meanwhile.
            loop {
                let mut running = started_by(&process.server);
                running.retain(|child| !is_still(child));
                if running.is_empty() {
                    break;
                }
                for child in running {
                    tell(&child, "STOP");
                    stands_still(&child);
                }
            }
        }
    }

    /// Ends a freeze; returns when the server may run.
    pub fn resume(&self) {
        if let Some(process) = self.process().as_mut() {
            process.resume();
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

/// The script of the keeper: starts the server and says its id, passes on signals whose names it
/// reads and says so, and kills the server when its own input ends, which it does when our process
/// dies. A signal with a word behind it is to end the server, which may refuse: it is killed after
/// ten seconds. What the server
/// prints goes to the log, on either output. The keeper gets the log's name as its first argument,
/// and the server's standard input as its own standard error, for it has no other descriptor left.
const KEEPER: &str = r#"
log=$1
shift
"$@" <&2 >>"$log" 2>&1 &
pid=$!
exec 2>>"$log"
echo "$pid"
while read -r signal ends; do
    kill -"$signal" "$pid"
    if [ "$ends" ]; then
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
    server: String,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Process {
    fn spawn(command: &Command, log: &Path, input: Stdio) -> Result<Self, Failure> {
        // An error here tells that the log cannot be written.
        fs::File::options().create(true).append(true).open(log)?;
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(log).arg(command.get_program()).args(command.get_args());
        keeper.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(input).spawn()?;
        let orders = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().ok_or("the keeper's output is a pipe")?);
        let mut process = Self { keeper, server: String::new(), orders, answers };
        process.server = process.answer();
        Ok(process)
    }

    /// Sends the signal, and returns when it has been sent.
    fn signal(&mut self, name: &str) {
        self.order(name);
        self.answer();
    }

    fn order(&mut self, signal: &str) {
        let orders = self.orders.as_mut().expect("orders are taken only at the end");
        writeln!(orders, "{signal}").expect("the keeper lives as long as this");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the keeper answers");
        line.truncate(line.trim_end().len());
        line
    }

    fn resume(&mut self) {
        for child in started_by(&self.server) {
            tell(&child, "CONT");
        }
        self.signal("CONT");
    }

    fn stop(mut self, signal: &str) {
        self.resume();
        self.order(&format!("{signal} ends"));
        self.keeper.wait().expect("a child of ours");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.orders.take());
        // The keeper kills its server, and waits for it.
        let _ = self.keeper.wait();
    }
}

/// Freezes a child; returns when it stands still. Where there is no `/proc`, returns when it has
/// been told to.
///
/// # Errors
/// There is no program `kill`.
pub fn pause(child: &Child) -> Result<(), Failure> {
    signal(child, "STOP")?;
    stands_still(&child.id().to_string());
    Ok(())
}

/// Ends a freeze of a child.
///
/// # Errors
/// There is no program `kill`.
pub fn resume(child: &Child) -> Result<(), Failure> {
    signal(child, "CONT")
}

fn signal(child: &Child, name: &str) -> Result<(), Failure> {
    Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status()?;
    Ok(())
}

/// Sends a signal to a process that may be gone.
fn tell(pid: &str, signal: &str) {
    // It is nobody's child here, so that nobody can know better whether it is there.
    let _ = Command::new("kill").args([&format!("-{signal}"), pid]).stderr(Stdio::null()).status();
}

/// Returns the processes that this one has started, and those that they have; none where there is
/// no `/proc`.
fn started_by(pid: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().into_string().ok()?, Stat::read(&entry.path())?.parent))
    });
    let all: Vec<_> = all.collect();
    let (mut found, mut at) = (vec![pid.to_owned()], 0);
    while let Some(parent) = found.get(at).cloned() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(child, _)| child.clone()));
        at += 1;
    }
    found.split_off(1)
}

/// Waits until a process stands still. A signal that has been sent is obeyed by each of its threads
/// in its own time: one that runs on another core writes on.
fn stands_still(pid: &str) {
    let began = Instant::now();
    while !is_still(pid) {
        assert!(began.elapsed() < READY, "the process {pid} does not stand still");
        std::thread::yield_now();
    }
}

/// Tells whether a process is gone, or all of its threads stand still.
fn is_still(pid: &str) -> bool {
    let is_still = |thread: io::Result<DirEntry>| {
        // One without a `stat` is gone.
        thread.ok().and_then(|thread| Stat::read(&thread.path())).is_none_or(|stat| stat.is_still())
    };
    fs::read_dir(Path::new("/proc").join(pid).join("task")).map_or(true, |mut all| all.all(is_still))
}
