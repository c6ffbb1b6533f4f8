//! Keeps the credentials, which age: they are fetched anew once the service refuses the old ones.

use crate::{
    client::clock::ServiceTime,
    error::{Failure, Refusal},
};
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_sdk_dynamodb::config::{ConfigBag, RuntimeComponents};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityResolver,
};
use kv_core::{
    Error, ErrorKind,
    backend::{ByRuntime, InTurn, Mutex, retry::Effect},
};
use std::{
    fmt,
    future::Future,
    sync::{Arc, MutexGuard},
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// Limits how long it may take to fetch credentials.
const FETCH: Duration = Duration::from_secs(5);
/// Credentials are fetched anew when they have less than this left.
const EARLY: Duration = Duration::from_secs(10);
/// Credentials that do not tell when they end are fetched anew after this time.
const UNTOLD: Duration = Duration::from_secs(15 * 60);

/// The credentials of one store, for calls and streams alike. Clones share them.
#[derive(Clone)]
pub(crate) struct Login(Arc<Inner>);

struct Inner {
    /// Holds the credentials that the settings gave; then no others are used.
    given: Option<Credentials>,
    region: Option<String>,
    profile: Option<String>,
    time: ServiceTime,
    state: Mutex<State>,
}

/// The refusals of one call so far: of its date, and of its credentials.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Refused>);

#[derive(Default)]
struct Refused {
    date: bool,
    credentials: Option<Credentials>,
}

struct State {
    /// Counts how many times the credentials were fetched anew.
    round: usize,
    places: ByRuntime<Arc<Place>>,
    last: Option<Credentials>,
}

/// The part of one runtime: whoever waited for what another one fetches would stand still with it.
struct Place {
    /// Gives the credentials, from files and environment as they were when this provider was made.
    provider: Mutex<Option<SharedCredentialsProvider>>,
    /// Holds the credentials that were fetched last, and the time until which they are used.
    kept: Mutex<Option<(Credentials, SystemTime)>>,
    fetching: InTurn,
}

impl Place {
    fn new() -> Arc<Self> {
        Arc::new(Self { provider: Mutex::default(), kept: Mutex::default(), fetching: InTurn::default() })
    }

    /// Returns the credentials, unless they are to be fetched anew.
    fn fresh(&self, now: SystemTime) -> Option<Credentials> {
        let kept = self.kept.lock();
        kept.as_ref().filter(|(_, until)| now < *until).map(|(kept, _)| kept.clone())
    }

    fn keep(&self, credentials: &Credentials, now: SystemTime) {
        let until = credentials
            .expiry()
            .map_or(now + UNTOLD, |end| end.checked_sub(EARLY).unwrap_or(SystemTime::UNIX_EPOCH));
        *self.kept.lock() = Some((credentials.clone(), until));
    }
}

/// Makes a loader with the region and profile that the settings gave; the environment gives the
/// rest.
pub(crate) fn loader(region: Option<&str>, profile: Option<&str>) -> ConfigLoader {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    loader
}

impl Login {
    pub(crate) fn new(
        given: Option<Credentials>,
        region: Option<String>,
        profile: Option<String>,
        time: ServiceTime,
    ) -> Self {
        let state = State { round: 0, places: ByRuntime::new(), last: None };
        Self(Arc::new(Inner { given, region, profile, time, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    fn place(&self) -> Arc<Place> {
        // Outside of a runtime nothing is kept.
        self.state().places.here(Place::new).unwrap_or_else(|_| Place::new())
    }

    fn now(&self) -> SystemTime {
        TimeSource::now(&self.0.time)
    }

    /// Returns the credentials: given ones, those that were fetched before, or new ones.
    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        if let Some(given) = &self.0.given {
            return Ok(given.clone());
        }
        let place = self.place();
        if let Some(fresh) = place.fresh(self.now()) {
            return Ok(fresh);
        }
        let ((login, there), (look, kept)) = ((self.clone(), place.clone()), (self.clone(), place.clone()));
        let fetched = place.fetching.get(move || kept.fresh(look.now()).map(Ok), async move {
            let late = |_| Err(CredentialsError::provider_timed_out(FETCH));
            Ok(timeout(FETCH, login.fetch(&there)).await.unwrap_or_else(late))
        });
        fetched.await.unwrap_or_else(|e| Err(CredentialsError::unhandled(e)))
    }

    async fn fetch(&self, place: &Place) -> Result<Credentials, CredentialsError> {
        let there = place.provider.lock().clone();
        let provider = match there {
            Some(provider) => provider,
            None => {
                let loader = loader(self.0.region.as_deref(), self.0.profile.as_deref());
                let loaded = Box::pin(loader.load()).await;
                let provider = loaded.credentials_provider();
                provider.ok_or_else(|| CredentialsError::not_loaded("the SDK knows of none"))?
            }
        };
        let credentials = provider.provide_credentials().await?;
        *place.provider.lock() = Some(provider);
        place.keep(&credentials, self.now());
        self.state().last = Some(credentials.clone());
        Ok(credentials)
    }

    /// Has the next request fetch its credentials anew, from files and environment as they are
    /// now, unless that was done since this round.
    fn renew(&self, round: usize) {
        let mut state = self.state();
        if state.round == round {
            state.round += 1;
            state.places = ByRuntime::new();
        }
    }

    /// Sends a request. If the service refuses its credentials or its date, mends that: the
    /// request took no effect, and may be sent again.
    pub(crate) async fn send<T>(
        &self,
        refusals: &Refusals,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let round = self.state().round;
        match request.await {
            Err(Failure { refusal: Some(refusal), error, .. }) => {
                Err(self.mend(refusal, error, round, refusals))
            }
            answer => answer,
        }
    }

    /// Returns the meaning of a refusal; the credentials of the refused request were of this
    /// round. Credentials that were fetched anew, and are the same as those that were refused
    /// before, are refused for good.
    fn mend(&self, refusal: Refusal, error: Error, round: usize, refusals: &Refusals) -> Failure {
        let (used, mut before) = (self.state().last.clone(), refusals.0.lock());
        let passes = |why| {
            let error = Error::new(ErrorKind::Unavailable, why).with_cause(error.clone());
            Failure::of(Effect::RefusedHere, error)
        };
        match refusal {
            // The answer told the service's date, by which the next attempt is signed.
            Refusal::Date => {
                let is_first = !std::mem::replace(&mut before.date, true);
                Failure { is_mended: is_first, ..passes(DATES) }
            }
            // The old credentials have run out, and their source is away for now.
            Refusal::Missing if used.is_some() => {
                self.renew(round);
                passes(RAN_OUT)
            }
            Refusal::Missing => Failure::refused(error),
            Refusal::Unknown => {
                let has_others = self.0.given.is_none() && (used.is_none() || before.credentials != used);
                if has_others {
                    before.credentials = used;
                    self.renew(round);
                }
                Failure { is_mended: has_others, ..Failure::refused(error) }
            }
        }
    }
}

const DATES: &str = "the service refuses the date of the signature, and its answers tell no other";
const RAN_OUT: &str = "the credentials cannot be had anew";

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("profile", &self.0.profile).finish_non_exhaustive()
    }
}

impl ProvideCredentials for Login {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

impl ResolveCachedIdentity for Login {
    fn resolve_cached_identity<'a>(
        &'a self,
        _: SharedIdentityResolver,
        _: &'a RuntimeComponents,
        _: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        // The resolver would ask this one too.
        IdentityFuture::new(async move { Ok(self.credentials().await?.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::poll;
    use kv_core::backend::Clock;
    use tokio::sync::Semaphore;

    /// Gives credentials once it may.
    #[derive(Debug)]
    struct Slow(Arc<Semaphore>);

    impl ProvideCredentials for Slow {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                self.0.acquire().await.map_err(CredentialsError::unhandled)?.forget();
                Ok(Credentials::new("id", "secret", None, None, "tests"))
            })
        }
    }

    #[tokio::test]
    async fn credentials_that_nobody_polls_for_are_fetched_for_all() {
        let (login, may) =
            (Login::new(None, None, None, ServiceTime::new(Clock::system())), Arc::new(Semaphore::new(0)));
        *login.place().provider.lock() = Some(SharedCredentialsProvider::new(Slow(may.clone())));
        let mut first = Box::pin(login.credentials());
        assert!(poll!(first.as_mut()).is_pending());
        may.add_permits(1);
        let second = timeout(FETCH, login.credentials()).await.expect("it waits for no other");
        assert_eq!(second.expect("credentials"), first.await.expect("the same credentials"));
    }

    #[test]
    fn credentials_are_used_until_shortly_before_their_end() {
        let place = Place::new();
        for (left, is_fresh) in [(EARLY * 2, true), (EARLY / 2, false)] {
            let now = SystemTime::now();
            place.keep(&Credentials::new("id", "secret", None, Some(now + left), "tests"), now);
            assert_eq!(place.fresh(now).is_some(), is_fresh, "{left:?}");
        }
    }
}
