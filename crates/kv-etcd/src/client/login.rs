//! A client of one member, and its logins there.

use super::{access::Access, shared::Shared};
use crate::error::needs_no_login;
use etcd_client::{Channel, Client as Service, ConnectOptions, Error as ClientError};
use kv_core::driver::Deadline;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::OnceCell;
use tonic::{Status, transport::Channel as Connections};

/// Limits how long one login may take: for longer than pings need to find a frozen link.
const LOGIN: Duration = Duration::from_secs(10);

/// A client, and its logins, which are numbered.
#[derive(Default)]
pub(crate) struct LoggedIn {
    service: OnceCell<Service>,
    /// Holds the number of the last login that was answered.
    last: Arc<AtomicU64>,
    /// Holds the number of the last login that is no longer trusted.
    doubted: AtomicU64,
    logins: Shared<Result<(), Arc<ClientError>>>,
}

/// The login by which a request is sent.
#[derive(Clone, Copy)]
pub(crate) struct Login {
    pub(crate) number: u64,
    /// Tells whether the login was begun for this very request, or since: another login would help
    /// no more.
    pub(crate) is_new: bool,
}

impl LoggedIn {
    /// Returns the client and its login, if they exist and the login is trusted.
    pub(crate) fn ready(&self, access: &Access) -> Option<(&Service, Login)> {
        self.service.get().zip(self.standing(access))
    }

    /// Makes the client, and logs in unless there is a trusted login by then. Cancel safe: a login
    /// goes on without the call that began it, for those that follow.
    pub(crate) async fn log_in(
        &self,
        channel: &Connections,
        led: bool,
        access: &Access,
    ) -> Result<(&Service, Login), Arc<ClientError>> {
        let make = || async {
            let options = ConnectOptions::new().with_require_leader(led);
            Service::from_channel(Channel::Tonic(channel.clone()), Some(options)).await
        };
        let service = self.service.get_or_try_init(make).await?;
        let before = self.logins.last();
        loop {
            if let Some(standing) = self.standing(access) {
                return Ok((service, standing));
            }
            let (number, answer) = self.logins.join(|number| self.login(number, service, access)).await;
            let is_new = number > before;
            match answer.unwrap_or_else(|| Err(unanswered("its runtime has ended"))) {
                Ok(()) => return Ok((service, Login { number, is_new })),
                // What a login was told that was begun earlier may be out of date.
                Err(_) if !is_new => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Makes the login of this number.
    fn login(
        &self,
        number: u64,
        service: &Service,
        access: &Access,
    ) -> impl Future<Output = Result<(), Arc<ClientError>>> + Send + use<> {
        let (mut service, last) = (service.clone(), self.last.clone());
        let was_opened = access.was_opened.load(Ordering::Relaxed);
        let user = access.login.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned()));
        async move {
            match Deadline::after(LOGIN).limit(service.update_user(user)).await {
                Some(Ok(())) => {}
                // Authentication was switched off, and the server looks at no token.
                Some(Err(e)) if was_opened && needs_no_login(&e) => {}
                Some(Err(e)) => return Err(e.into()),
                None => return Err(unanswered("a login had no answer")),
            }
            last.store(number, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Returns the login that is trusted. Without a user none is needed.
    fn standing(&self, access: &Access) -> Option<Login> {
        let number = self.last.load(Ordering::Relaxed);
        let is_trusted = access.login.is_none() || number > self.doubted.load(Ordering::Relaxed);
        is_trusted.then_some(Login { number, is_new: false })
    }

    /// Has the next request log in anew, unless somebody has logged in since the login of this
    /// number.
    pub(crate) fn doubt(&self, number: u64) {
        self.doubted.fetch_max(number, Ordering::Relaxed);
    }

    /// Has the next request log in anew, after one that had no answer: a server that was restored
    /// from an older copy of its data looks at no token before it has come again to the point at
    /// which the token was given.
    pub(crate) fn doubt_all(&self) {
        self.doubt(self.last.load(Ordering::Relaxed));
    }
}

fn unanswered(why: &'static str) -> Arc<ClientError> {
    Arc::new(ClientError::GRpcStatus(Status::unavailable(why)))
}
