//! Sends requests to one member of the cluster, and tells what became of each.

use super::{
    access::Access,
    channel::{CALL_WINDOW, Channels, MemberChannel, WATCH_WINDOW},
    login::{LoggedIn, Login},
    purpose::Purpose,
};
use crate::error::{About, Failure, NO_ETCD, classify, is_cut_off, refusal};
use etcd_client::{Client as Service, Error as ClientError};
use kv_core::{
    Error, ErrorKind, Result,
    backend::{
        catch_up,
        retry::{Attempt, Effect, RequestError, before},
    },
    driver::Deadline,
};
use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Limits how long nothing may be heard on a connection while a request waits: then the connection
/// is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// A member, with its channels for calls and for watches.
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    access: Arc<Access>,
    calls: Channels,
    streams: Channels,
    has_answered: AtomicBool,
}

impl Member {
    pub(crate) fn new(name: Arc<str>, access: Arc<Access>) -> Self {
        let (calls, streams) = (Channels::new(CALL_WINDOW), Channels::new(WATCH_WINDOW));
        Self { name, access, calls, streams, has_answered: AtomicBool::new(false) }
    }

    /// Checks the address and the TLS settings, by making a channel that does not connect.
    pub(crate) fn check(&self) -> Result<()> {
        MemberChannel::new(&self.name, &self.access, CALL_WINDOW).map(drop)
    }

    /// Makes one attempt at a request, by the rules of [`retry`](kv_core::backend::retry).
    pub(crate) async fn attempt<T, F>(
        attempt: Attempt<'_, Self>,
        purpose: Purpose,
        request: impl Fn(&Service) -> F,
    ) -> Result<Result<T>, RequestError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let member = attempt.server;
        match member.logged_in_attempt(&attempt, purpose, request).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(Failure { failed, about: About::Data }) => Ok(Err(failed.error)),
            Err(Failure { failed, .. }) => Err(failed),
        }
    }

    /// Sends the request with a trusted login; logs in first where there is none.
    async fn logged_in_attempt<T, F>(
        &self,
        attempt: &Attempt<'_, Self>,
        purpose: Purpose,
        request: impl Fn(&Service) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let channels = if purpose == Purpose::Watch { &self.streams } else { &self.calls };
        let channel = channels.here(&self.name, &self.access).map_err(|error| self.unmade(error))?;
        let (client, led) = match purpose {
            Purpose::Stale => (&channel.unled, false),
            _ => (&channel.led, true),
        };
        let (service, login) = match client.ready(&self.access) {
            Some(ready) => ready,
            None => {
                // Only the login is sent here, so that a write may still go to another member.
                let within = match purpose {
                    Purpose::Write => attempt.connect_patience(),
                    _ => patience(attempt, purpose),
                };
                let log_in = Box::pin(client.log_in(&channel.transport, led, &self.access));
                match before(within, log_in).await {
                    Some(ready) => ready.map_err(|e| self.not_logged_in(self.failed(&channel, e)))?,
                    None => return Err(self.without("login", Effect::None, within)),
                }
            }
        };
        let answer = self.once(attempt, purpose, &channel, || request(service)).await;
        answer.map_err(|failure| self.after_login(failure, purpose, client, login))
    }

    /// Sends the request once. The request is given up when its patience is over, unless the
    /// member says anything meanwhile.
    async fn once<T, F>(
        &self,
        attempt: &Attempt<'_, Self>,
        purpose: Purpose,
        channel: &MemberChannel,
        request: impl FnOnce() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let link = &channel.link;
        if purpose == Purpose::Write {
            // A runtime of one thread may have stood still while the server ended the connection.
            // The task that hands requests to the connection hears of its end last, so that all
            // turns are needed.
            if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
                catch_up(attempt.deadline, || false).await;
            }
        }
        let ((connections, stands), heard) = (link.state(), link.heard());
        let within = patience(attempt, purpose);
        if within.has_passed() {
            return Err(self.silent(Effect::None, within));
        }
        let answer = {
            // The request is dropped before it is asked whether it can have been sent.
            let mut request = pin!(request());
            match before(within, request.as_mut()).await {
                None if link.heard() != heard => before(attempt.deadline, request).await,
                answer => answer,
            }
        };
        match answer {
            Some(Ok(answer)) => {
                self.has_answered.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
            Some(Err(e)) => return Err(self.failed(channel, e)),
            None => {}
        }
        let was_sent = stands || link.state().0 > connections;
        channel.led.doubt_all();
        channel.unled.doubt_all();
        // A route that was lost stays lost; another connection may find one.
        let silence = match purpose {
            Purpose::Renewal => SILENCE.min(attempt.deadline.within() / 2),
            _ => SILENCE,
        };
        if link.heard() == heard && within.within() >= silence {
            link.reset();
        }
        Err(self.silent(if was_sent { Effect::Unknown } else { Effect::None }, within))
    }

    /// Tells whether the settings are known to be right.
    fn was_right(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed) || self.access.was_opened.load(Ordering::Relaxed)
    }

    /// Returns the failure of a channel that could not be made: after `open`, it means that files
    /// are being replaced.
    fn unmade(&self, error: Error) -> Failure {
        let failure = Failure::new(refusal(error.kind()), error);
        match failure.failed.error.kind() {
            ErrorKind::InvalidArgument if self.was_right() => failure.passing(),
            _ => failure,
        }
    }

    /// Returns the failure of a login: the request itself was not sent, whatever became of the
    /// login.
    fn not_logged_in(&self, failure: Failure) -> Failure {
        match failure.failed.effect {
            Effect::Unknown => failure.with_effect(Effect::None),
            _ if failure.about == About::Token => failure.with_effect(Effect::None),
            _ => failure,
        }
    }

    /// Returns the failure of a request, with what it says of the login by which the request was
    /// sent: a token that has ended is mended by another login. A server before 3.4.20 answers a
    /// watch with such a token that it is denied.
    fn after_login(&self, failure: Failure, purpose: Purpose, client: &LoggedIn, login: Login) -> Failure {
        if self.access.login.is_none() {
            return failure;
        }
        let is_denied = failure.failed.error.kind() == ErrorKind::PermissionDenied;
        match failure.about {
            About::Token => client.doubt(login.number),
            _ if purpose == Purpose::Watch && is_denied && !login.is_new => client.doubt(login.number),
            _ => return failure,
        }
        tracing::debug!(error = %failure.failed.error, "logging in again");
        let mut failure = match failure.about {
            // Users change, or the member does not know the new token yet.
            About::Token => failure.passing(),
            _ => failure,
        };
        failure.failed.is_mended = !login.is_new;
        failure
    }

    /// Returns the failure that the client's error means, for a request on this channel.
    fn failed(&self, channel: &MemberChannel, error: impl Into<Arc<ClientError>>) -> Failure {
        let error = error.into();
        let is_cut_off = matches!(&*error, ClientError::GRpcStatus(status) if is_cut_off(status));
        let mut failure = classify(&self.name, self.was_right(), error);
        if !channel.is_plain {
            // The trusted authorities may have changed, those of the system too.
            if failure.about == About::Tls {
                channel.link.outdate();
            }
            let is_refused = matches!(failure.failed.effect, Effect::Refused | Effect::RefusedHere);
            if channel.link.is_outdated() && is_refused && self.was_right() {
                return failure.with_effect(Effect::None);
            }
        }
        let hint = match &channel.link {
            _ if !channel.is_plain || self.was_right() => return failure,
            link if link.is_strange() || link.has_spoken() && is_cut_off => NO_ETCD,
            link if link.is_hung_up_on() => {
                "hangs up without a word; if it wants TLS, name its CA as `ca`, or say `tls=true`"
            }
            _ => return failure,
        };
        let why = format!("{}: {hint}", self.name);
        failure.failed.error = Error::new(failure.failed.error.kind(), why).with_cause(failure.failed.error);
        failure
    }

    /// Returns the failure of a request that had no answer in time.
    fn silent(&self, effect: Effect, cut: Deadline) -> Failure {
        let missing = if effect == Effect::Unknown { "answer" } else { "connection" };
        self.without(missing, effect, cut)
    }

    fn without(&self, missing: &str, effect: Effect, cut: Deadline) -> Failure {
        let why = format!("{}: no {missing} within {cut}", self.name);
        Failure::new(effect, Error::new(ErrorKind::Timeout, why))
    }
}

/// Returns how long a member may be silent. A renewal has little time, and gives most of it to the
/// first attempt, which is the only one on a connection that stands.
fn patience(attempt: &Attempt<'_, Member>, purpose: Purpose) -> Deadline {
    match purpose {
        Purpose::Renewal => Deadline::after(attempt.deadline.remaining() * 3 / 4),
        _ => attempt.patience(),
    }
}
