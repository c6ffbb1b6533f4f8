//! Hears what concerns those that wait in lines.

use crate::{
    feed::News,
    part::Core,
    session::{Session, lock},
    tale::Tale,
    waiting::Place,
};
use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::Notify;

/// Has those who wait look whenever something may have changed without a word. It does not keep the session: that is what
/// its users do.
pub(crate) async fn hear(session: Weak<Session>, core: Arc<Core>, channel: String, sooner: Arc<Notify>) {
    let mut news = core.feed.subscribe(channel);
    loop {
        let soonest = {
            let Some(session) = session.upgrade() else { return };
            (*lock(&session.soonest)).filter(|_| session.is_waited_on())
        };
        let due = async {
            match soonest {
                Some(at) => core.clock.sleep_until(at).await,
                None => pending().await,
            }
        };
        let heard = tokio::select! {
            news = news.next() => Some(news),
            () = due => None,
            () = sooner.notified() => continue,
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
                    *lock(&session.soonest) = Some(core.clock.now() + Duration::from_millis(100));
                }
            }
        }
    }
}
