//! Credentials, which age: they are had anew once the service refuses those that there are.

use crate::error::{Failed, Fate, Refusal};
use aws_config::{BehaviorVersion, ConfigLoader, Region, identity::IdentityCache};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_sdk_dynamodb::config::{ConfigBag, RuntimeComponents};
use aws_smithy_runtime_api::client::identity::{
    IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver,
};
use kv_core::{Error, ErrorKind};
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How often credentials are had anew for one request, if they are others each time.
const ANEW: usize = 3;

/// The credentials of one store, for calls and streams alike. Clones are one.
#[derive(Clone)]
pub(crate) struct Login(Arc<Inner>);

struct Inner {
    /// Given with the settings, so that there are no others.
    given: Option<Credentials>,
    region: Option<String>,
    profile: Option<String>,
    state: Mutex<State>,
}

struct State {
    /// How many times they were had anew.
    round: usize,
    /// Where they come from: files and environment as they were when it was made.
    provider: Option<SharedCredentialsProvider>,
    cache: SharedIdentityCache,
    last: Option<Credentials>,
}

/// With the region and profile that were asked for, and for the rest what the environment says.
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
    pub(crate) fn new(given: Option<Credentials>, region: Option<String>, profile: Option<String>) -> Self {
        let state = State { round: 0, provider: None, cache: IdentityCache::lazy().build(), last: None };
        Self(Arc::new(Inner { given, region, profile, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        if let Some(given) = &self.0.given {
            return Ok(given.clone());
        }
        let there = self.state().provider.clone();
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
        let mut state = self.state();
        (state.provider, state.last) = (Some(provider), Some(credentials.clone()));
        Ok(credentials)
    }

    /// Has the next request have its credentials anew, from files and environment as they are now; unless that was done
    /// since this round.
    fn renew(&self, round: usize) {
        let mut state = self.state();
        if state.round == round {
            state.round += 1;
            state.provider = None;
            state.cache = IdentityCache::lazy().build();
        }
    }

    /// Sends a request, and again with other credentials if the service does not know those that there were: so it took no
    /// effect. What is still refused then, with the same credentials, is refused.
    pub(crate) async fn with<T, F>(&self, request: impl Fn() -> F) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let (mut refused, mut tries) = (None, 0);
        loop {
            let round = self.state().round;
            let failed = match request().await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tries += 1;
            match failed.login {
                None => return Err(failed),
                Some(Refusal::Date) if tries > 1 => {
                    return Err(Failed {
                        fate: Fate::Undone,
                        error: Error::new(ErrorKind::Unavailable, DATES).with_cause(failed.error),
                        ..Failed::throttled()
                    });
                }
                Some(Refusal::Date) => {}
                // Those that there were have run out, and where they come from is away for now.
                Some(Refusal::Missing) if self.state().last.is_some() => {
                    self.renew(round);
                    return Err(Failed {
                        fate: Fate::Undone,
                        error: Error::new(ErrorKind::Unavailable, RAN_OUT).with_cause(failed.error),
                        ..Failed::throttled()
                    });
                }
                Some(Refusal::Missing) => return Err(failed),
                Some(Refusal::Unknown) => {
                    let used = self.state().last.clone();
                    if self.0.given.is_some() || tries > ANEW || tries > 1 && refused == used {
                        return Err(failed);
                    }
                    refused = used;
                    self.renew(round);
                }
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
        resolver: SharedIdentityResolver,
        components: &'a RuntimeComponents,
        bag: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let cache = self.state().cache.clone();
        IdentityFuture::new(async move { cache.resolve_cached_identity(resolver, components, bag).await })
    }
}
