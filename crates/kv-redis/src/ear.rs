//! Hears what concerns those that wait in lines.

use crate::{feed::News, part::Core, session::Session, soonest::Soonest, tale::Tale, waiting::Place};
use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

/// Has those who wait look whenever something may have changed without a word. It does not keep the session: that is what
/// its users do.
pub(crate) async fn hear(session: Weak<Session>, core: Arc<Core>, channel: String, soonest: Arc<Soonest>) {
    let mut news = core.feed.subscribe(channel);
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
            news = news.next() => Some(news),
            () = due => None,
            () = soonest.changed() => continue,
        };
        let Some(session) = session.upgrade() else { return };
        match heard {
            Some(News::Tale(Tale::Front(contender))) => session.is_at(&contender, Place::First),
            Some(News::Tale(_)) => {}
            // Without it the renewals tell.
            Some(News::Refused(error)) => {
                tracing::warn!(%error, "waits for locks are not woken");
                return;
            }
            Some(News::Look) | None => {
                if session.is_waited_on() && session.renew().await.is_err() {
                    let now = core.clock.now();
                    soonest.again(now + Duration::from_millis(100), now);
                }
            }
        }
    }
}
