//! An emulator of DynamoDB on loopback: dynoxide's, with the deletion of items past their TTL,
//! which its own program leaves out.
//!
//!     dynamodb --port PORT [--db-path FILE]
//!
//! Without a file everything is gone with the process. It serves until SIGTERM; what it
//! acknowledged survives SIGKILL.

#![forbid(unsafe_code)]

use std::{error::Error, net::SocketAddr, process::ExitCode, time::Duration};
use tokio::{
    net::TcpSocket,
    signal::unix::{SignalKind, signal},
};

/// The time between two looks for items past their TTL; the real service takes days to delete
/// them.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Without these, dynoxide looks through all records of all streams at every write and every read
/// of a stream.
const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS by_table ON _stream_records (table_name, CAST(sequence_number AS INTEGER));
    CREATE INDEX IF NOT EXISTS by_shard ON _stream_records (table_name, shard_id, CAST(sequence_number AS INTEGER));
";
const USAGE: &str = "dynamodb --port PORT [--db-path FILE] | --version";

struct Arguments {
    port: u16,
    file: Option<String>,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut given = std::env::args().skip(1);
        let (mut port, mut file) = (None, None);
        while let Some(name) = given.next() {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (name, None),
            };
            let value =
                value.or_else(|| given.next()).ok_or_else(|| format!("{name} wants a value; {USAGE}"))?;
            match &*name {
                "--port" => port = Some(value.parse().map_err(|_| format!("{value:?} is no port"))?),
                "--db-path" => file = Some(value),
                _ => return Err(format!("unknown argument {name:?}; {USAGE}")),
            }
        }
        Ok(Self { port: port.ok_or(USAGE)?, file })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("dynoxide {}", dynoxide::PRODUCT_VERSION);
        return ExitCode::SUCCESS;
    }
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("dynamodb: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let Arguments { port, file } = Arguments::read()?;
    let database = match &file {
        Some(file) => {
            let database = dynoxide::Database::new(file)?;
            rusqlite::Connection::open(file)?.execute_batch(INDEXES)?;
            database
        }
        None => dynoxide::Database::memory()?,
    };
    // What is acknowledged has to outlive this process, not the machine: no flush to the disk.
    database.enable_bulk_loading()?;
    // A port that a test keeps bound, without listening, can be used too.
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    let listener = socket.listen(1024)?;
    let swept = database.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(SWEEP_EVERY);
            if let Err(e) = swept.sweep_ttl() {
                eprintln!("dynamodb: items past their TTL are not deleted: {e}");
            }
        }
    });
    let mut end = signal(SignalKind::terminate())?;
    // Clients keep idle connections, and some a request; none of them is waited for.
    tokio::select! {
        served = dynoxide::server::serve_with_shutdown(listener, database, std::future::pending()) => Ok(served?),
        _ = end.recv() => Ok(()),
    }
}
