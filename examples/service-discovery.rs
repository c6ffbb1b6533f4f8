//! Instances of a service that come and go, and a client that calls those that live.
//!
//! ```text
//! cargo run --example service-discovery            # on an embedded store, in a file
//! cargo run --example service-discovery -- URL     # on the store of this URL
//! ```
//!
//! Each instance listens on a port of its own, and registers its address. The program fails if one
//! of its claims is false: the client finds every instance, calls none that has left, hears of a
//! new address, and one that cannot be read harms no other.

use kv_core::{Error, ErrorKind, Kv, Result};
use kv_recipes::{Registered, Registration, Service};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const DIRECTORY: &str = "service-discovery/hello";

/// The value that an instance registers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Instance {
    name: String,
    address: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redb://service-discovery.redb".into());
    let kv = kv_examples::open(&url).await?;
    kv.delete_tree("service-discovery").await?; // removes what an earlier run left

    let service: Service<Instance> = Service::open(&kv, DIRECTORY).await?;
    claim(service.pick().is_none(), "nobody is there yet")?;
    let mut running = Vec::new();
    for name in ["a", "b", "c"] {
        running.push(start(&kv, name).await?);
    }
    service.synced_now().await?;
    claim(call_all(&service, 6).await? == set(&["a", "b", "c"]), "the client finds each instance")?;
    println!("a, b and c answer, in turn");

    // It leaves: clients are told before it stops.
    let (gone, server) = running.remove(1);
    claim(gone.deregister().await?, "it was registered")?;
    service.synced_now().await?;
    claim(call_all(&service, 4).await? == set(&["a", "c"]), "nobody calls one that has left")?;
    server.abort();
    println!("b has left, and is not called");

    // An instance moves to another port.
    let (me, old) = &mut running[0];
    let (address, server) = serve("a").await?;
    me.set_json(&Instance { name: "a".into(), address }).await?;
    service.synced_now().await?;
    std::mem::replace(old, server).abort();
    claim(call_all(&service, 4).await? == set(&["a", "c"]), "clients hear of a new address")?;
    println!("a has moved, and is found");

    let _bad = Registration::new(&kv, format!("{DIRECTORY}/bad")).json(&"no instance").register().await?;
    service.synced_now().await?;
    claim(service.unreadable().len() == 1, "one that cannot be read is told apart")?;
    claim(call_all(&service, 4).await? == set(&["a", "c"]), "it harms no other")?;
    println!("one that cannot be read is told apart: {}", service.unreadable()[0].0);
    kv.close().await
}

/// Starts an instance, and registers it.
async fn start(kv: &Kv, name: &str) -> Result<(Registered, JoinHandle<()>)> {
    let (address, server) = serve(name).await?;
    let instance = Instance { name: name.to_owned(), address };
    let me = Registration::new(kv, format!("{DIRECTORY}/{name}")).json(&instance).register().await?;
    Ok((me, server))
}

/// Answers every connection with the name.
async fn serve(name: &str) -> Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let (address, name) = (listener.local_addr().map_err(failed)?, name.to_owned());
    let server = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // A client that went away needs no answer.
            let _ = client.write_all(name.as_bytes()).await;
        }
    });
    Ok((address, server))
}

/// Calls the instances in turn, so often; returns who answered.
async fn call_all(service: &Service<Instance>, times: usize) -> Result<BTreeSet<String>> {
    let mut answers = BTreeSet::new();
    for _ in 0..times {
        let instance = service.pick().ok_or_else(|| Error::new(ErrorKind::Other, "no instance"))?;
        let mut answer = String::new();
        let mut stream = TcpStream::connect(instance.value.address).await.map_err(failed)?;
        stream.read_to_string(&mut answer).await.map_err(failed)?;
        claim(answer == instance.value.name, "who is called answers")?;
        answers.insert(answer);
    }
    Ok(answers)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Other, "an instance cannot be reached").with_cause(error)
}

fn claim(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Other, format!("not true: {what}"))) }
}
