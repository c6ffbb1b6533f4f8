//! A client of one member, and its logins there.

use super::access::Access;
use crate::error::needs_no_login;
use etcd_client::{Channel, Client as Service, ConnectOptions, Error as ClientError};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, OnceCell};
use tonic::transport::Channel as Connections;

/// A client, and its logins, which are numbered.
#[derive(Default)]
pub(crate) struct LoggedIn {
    service: OnceCell<Service>,
    last: AtomicU64,
    /// Holds the number of the last login that is no longer trusted.
    doubted: AtomicU64,
    one_at_a_time: Mutex<()>,
}

/// The login by which a request is sent.
#[derive(Clone, Copy)]
pub(crate) struct Login {
    pub(crate) number: u64,
    /// Tells whether the login was made for this very request: another login would help no more.
    pub(crate) is_new: bool,
}

impl LoggedIn {
    /// Returns the client and its login, if they exist and the login is trusted.
    pub(crate) fn ready(&self, access: &Access) -> Option<(&Service, Login)> {
        self.service.get().zip(self.standing(access))
    }

    /// Makes the client, and logs in unless there is a trusted login by then.
    pub(crate) async fn log_in(
        &self,
        channel: &Connections,
        led: bool,
        access: &Access,
    ) -> Result<(&Service, Login), ClientError> {
        let make = || async {
            let options = ConnectOptions::new().with_require_leader(led);
            Service::from_channel(Channel::Tonic(channel.clone()), Some(options)).await
        };
        let service = self.service.get_or_try_init(make).await?;
        let _turn = self.one_at_a_time.lock().await;
        let Some((user, password)) = access.login.as_ref().filter(|_| self.standing(access).is_none()) else {
            return Ok((service, Login { number: self.last.load(Ordering::Relaxed), is_new: false }));
        };
        let login = service.clone().update_user(Some((user.clone(), password.reveal().to_owned()))).await;
        match login {
            // Authentication was switched off, and the server looks at no token.
            Err(e) if needs_no_login(&e) && access.was_opened.load(Ordering::Relaxed) => {}
            login => login?,
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        Ok((service, Login { number, is_new: true }))
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
