//! Reads a store's settings from a URL.

use crate::{
    config::{Config, Kind},
    error::invalid,
};
use kv_core::{Result, Secret, StoreUrl, backend};
use std::str::FromStr;

impl Config {
    /// Reads the settings from a URL, as [`open`](crate::open) knows them. Opens nothing.
    ///
    /// # Errors
    /// [`InvalidArgument`](kv_core::ErrorKind::InvalidArgument) for another scheme, and for a
    /// parameter that is unknown or cannot be read.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        url.expect(&["redis", "rediss", "redis-cluster", "redis-sentinel"])?;
        let (scheme, secure) = match url.scheme() {
            "rediss" => ("redis", true),
            other => (other, false),
        };
        let kind = match scheme {
            "redis-cluster" => Kind::Cluster,
            "redis-sentinel" => Kind::Sentinel,
            _ => Kind::Single,
        };
        let mut tls = backend::tls::take(&mut url)?;
        if secure && backend::tls::switch(&tls) == Some(false) {
            return Err(invalid("a rediss:// URL with `tls=false`; say redis:// for plain text"));
        }
        if secure {
            tls = tls.enabled(true);
        }
        let config = Self {
            endpoints: url.hosts().to_vec(),
            kind,
            prefix: Some(url.prefix().to_owned()),
            raw_prefix: url.take("raw_prefix")?,
            user: url.user().map(str::to_owned),
            password: url.password().cloned(),
            tls,
            database: if kind == Kind::Cluster { None } else { number(&mut url, "db", "0 to 255")? },
            master: if kind == Kind::Sentinel { url.take("master")? } else { None },
            sentinel_user: if kind == Kind::Sentinel { url.take("sentinel_user")? } else { None },
            sentinel_password: match kind {
                Kind::Sentinel => url.take::<String>("sentinel_password")?.map(Secret::from),
                _ => None,
            },
            spread: if kind == Kind::Cluster { number(&mut url, "spread", "2 to 64")? } else { None },
            allow_eviction: yes_or_no(&mut url, "allow_eviction")?.unwrap_or(false),
            ..Self::default()
        };
        url.finish()?;
        Ok(config)
    }
}

/// Takes a number from a parameter; `range` tells in the error which numbers are possible.
fn number<T: FromStr>(url: &mut StoreUrl, name: &'static str, range: &str) -> Result<Option<T>> {
    let Some(given) = url.take::<String>(name)? else { return Ok(None) };
    let wrong =
        |_| invalid(&format!("the parameter `{name}` is {given:?}; a number from {range} is possible"));
    given.parse().map(Some).map_err(wrong)
}

fn yes_or_no(url: &mut StoreUrl, name: &'static str) -> Result<Option<bool>> {
    let Some(given) = url.take::<String>(name)? else { return Ok(None) };
    let wrong = |_| invalid(&format!("the parameter `{name}` is {given:?}; it is `true` or `false`"));
    given.parse().map(Some).map_err(wrong)
}
