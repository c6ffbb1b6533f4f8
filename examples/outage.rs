//! Shows what an outage looks like to a program that holds a lock, waits for one, and watches:
//!
//! ```text
//! cargo run --example outage --features redis -- redis://127.0.0.1:6379/demo/
//! ```
//!
//! Stop the server for 20 s when the program says so (`ci/servers pause NAME`, then `resume`). The
//! program ends when the outage is over, and fails if the lock has not gone to the one who waited.

use kv_core::{Error, ErrorKind, Result, WatchEvent};
use std::{
    fmt::{Debug, Write},
    time::{Duration, Instant},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

const TTL: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let usage = "give the URL of a server that you can stop";
    let url = std::env::args().nth(1).ok_or(Error::new(ErrorKind::InvalidArgument, usage))?;
    // A program takes the crate tracing-subscriber.
    let printer = Printer(Instant::now());
    tracing::subscriber::set_global_default(printer).expect("nothing else listens");

    let (kv, other) = (kv_examples::open(&url).await?, kv_examples::open(&url).await?);
    let guard = kv.new_lock("outage").ttl(TTL).acquire().await?;
    let before = guard.token();
    let loses = async {
        println!("the program: {}", guard.lost().await);
        Ok::<_, Error>(())
    };
    let waits = async {
        let guard = other.new_lock("outage").ttl(TTL).acquire().await?;
        println!("the program: the lock has gone to the one who waited");
        Ok::<_, Error>((guard.token(), guard.release().await?))
    };
    let watches = async {
        let mut watch = kv.watch_tree("outage").await?;
        for what in ["stop the server now", "the watch has told all that was missed"] {
            while watch.event().await? != WatchEvent::Synced {}
            println!("the program: {what}");
        }
        Ok::<_, Error>(())
    };
    let ((), (after, was_held), ()) = tokio::try_join!(loses, waits, watches)?;
    if after <= before || !was_held {
        return Err(Error::new(ErrorKind::Other, "the lock was not handed on"));
    }
    kv.close().await?;
    other.close().await
}

/// Prints what is logged at `INFO` and above.
struct Printer(Instant);

/// One line of the log.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Printer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let (at, level) = (self.0.elapsed().as_secs_f64(), event.metadata().level());
        println!("{at:4.1} s {level:4} {}{}", line.message, line.fields);
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
