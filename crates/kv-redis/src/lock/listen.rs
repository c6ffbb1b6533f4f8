//! Listens for the server's messages to contenders that wait in queues.

use crate::{
    core::Core,
    lock::{next_look::NextLook, session::Session, waiters::QueuePosition},
    watch::notification::Notification,
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::task::AbortHandle;

/// The pauses behind looks that fail: each is twice as long as the one before, from the first to the
/// last one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_millis(1600);

/// Listens, from the first wait on, for messages to the waiting contenders of a session.
pub(crate) fn listen(session: &Arc<Session>) {
    let mut listening = session.listening.lock();
    // The runtime of an earlier task may have ended.
    if listening.as_ref().is_none_or(AbortHandle::is_finished) {
        let channel = session.core.names.on_session(&session.id);
        let hear = hear(Arc::downgrade(session), session.core.clone(), channel, session.next_look.clone());
        *listening = Some(tokio::spawn(hear).abort_handle());
    }
}

/// Wakes waiting contenders that are in front now, and renews the session, which looks at all its
/// places, when something may have changed without a message. It does not keep the session alive:
/// its users do.
async fn hear(session: Weak<Session>, core: Arc<Core>, channel: String, next_look: Arc<NextLook>) {
    let (mut published, mut pause) = (core.feed.subscribe(channel), FIRST_PAUSE);
    loop {
        let at = {
            let Some(session) = session.upgrade() else { return };
            next_look.at().filter(|_| !session.waiting.is_empty())
        };
        let heard = tokio::select! {
            published = published.next() => published,
            () = core.sleep_until(at) => Ok(None),
            () = next_look.changed() => continue,
        };
        let Some(session) = session.upgrade() else { return };
        match heard {
            Ok(Some(Notification::Front(contender))) => {
                session.waiting.tell(&contender, QueuePosition::First)
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                if !session.waiting.is_empty() && session.renew().await.is_err() {
                    let now = core.clock.now();
                    next_look.again(now + pause, now);
                    pause = (2 * pause).min(LAST_PAUSE);
                } else {
                    pause = FIRST_PAUSE;
                }
            }
            // Without messages, the renewals tell which contenders are in front.
            Err(error) => {
                tracing::warn!(%error, "waits for locks are not woken");
                return;
            }
        }
    }
}
