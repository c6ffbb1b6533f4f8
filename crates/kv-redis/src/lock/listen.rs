//! Hears what concerns those that wait in lines.

use crate::{
    core::Core,
    lock::{session::Session, soonest::Soonest, waiting::QueuePosition},
    watch::notification::Notification,
};
use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

/// Has those who wait look whenever something may have changed without a word. It does not keep the session: that is what
/// its users do.
pub(crate) async fn hear(session: Weak<Session>, core: Arc<Core>, channel: String, soonest: Arc<Soonest>) {
    let mut published = core.feed.subscribe(channel);
    loop {
        let at = {
            let Some(session) = session.upgrade() else { return };
            soonest.at().filter(|_| session.is_waited_on())
        };
        let due = async {
            match at {
                Some(at) => core.clock.sleep_until(at).await,
                None => pending().await,
            }
        };
        let heard = tokio::select! {
            published = published.next() => published,
            () = due => Ok(None),
            () = soonest.changed() => continue,
        };
        let Some(session) = session.upgrade() else { return };
        match heard {
            Ok(Some(Notification::Front(contender))) => session.is_at(&contender, QueuePosition::First),
            Ok(Some(_)) => {}
            Ok(None) => {
                if session.is_waited_on() && session.renew().await.is_err() {
                    let now = core.clock.now();
                    soonest.again(now + Duration::from_millis(100), now);
                }
            }
            // Without it the renewals tell.
            Err(error) => {
                tracing::warn!(%error, "waits for locks are not woken");
                return;
            }
        }
    }
}
