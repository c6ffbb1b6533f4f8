//! A host name that now leads to another member.

mod common;

use common::{Setup, nodes};
use kv_testsuite::{Failure, Proxy, own};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(60);

/// Starts a proxy that leads to the current address of the channel. When that changes, its
/// connections are reset.
async fn name(leads_to: watch::Receiver<SocketAddr>) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut leads_to = leads_to.clone();
            let member = *leads_to.borrow_and_update();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(member).await else { return };
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = leads_to.changed() => {}
                }
            });
        }
    });
    Ok(address)
}

/// After a connection breaks, the session is not resumed before the member has told what it
/// grants.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_given_to_whomever_a_name_leads_to_now() -> Result<(), Failure> {
    let nodes = nodes(&Setup::new("zookeeper"), 2)?;
    nodes[1].grants_at_most(Duration::from_secs(4))?;
    own::start(&nodes).await?;
    let less = Proxy::start(nodes[1].address).await;
    for round in 0..10 {
        let (leads, leads_to) = watch::channel(nodes[0].address);
        let kv = kv_zookeeper::open(&format!("zookeeper://{}/name{round}/", name(leads_to).await?)).await?;
        let guard = kv.new_lock("l").ttl(Duration::from_secs(40)).acquire().await?;
        less.hold_answer_to(nodes[0].owner().await?.to_be_bytes());
        leads.send_replace(less.address());
        timeout(SOON, less.trapped()).await?;
        // The session is given to the server to be ended, once nobody counts on it.
        assert!(!guard.is_held(), "round {round}: a member was asked for a session that is counted on");
        less.heal().await;
        let gone = async {
            while nodes[0].sessions().await?.values().any(|owns| !owns.is_empty()) {}
            Ok::<_, Failure>(())
        };
        timeout(SOON, gone).await??;
        kv.close().await?;
    }
    Ok(())
}
