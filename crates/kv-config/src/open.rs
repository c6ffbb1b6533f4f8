//! Opens live settings: checks the options, reads the first settings, and starts the tasks.

use crate::{
    follower::Follower,
    keeper::Keeper,
    last_good::LastGood,
    live::Live,
    opening::Opening,
    place::{Form, Place},
    reader::{Check, Reader},
    reporter::Reporter,
    state::Shared,
    values::Values,
};
use futures_core::future::BoxFuture;
use kv_core::{
    Directory, Error, ErrorKind, IntoKey, Key, Kv, Result, Watching, backend::AbortOnDrop,
    driver::LockOptions,
};
use serde::de::DeserializeOwned;
use std::{error::Error as StdError, fmt, ops::Range, path::PathBuf, time::Duration};

/// The quiet times of a directory, in which several keys may be written one by one.
const QUIET: Range<Duration> = Duration::from_millis(250)..Duration::from_secs(10);

/// Live settings that are to be opened, by awaiting this; made by [`live`](crate::live()).
///
/// # Errors
/// Before any I/O [`InvalidKey`](ErrorKind::InvalidKey) for a name,
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for an option, and
/// [`Unsupported`](ErrorKind::Unsupported) where the store has no watches, or no leases for a
/// report. Then, where there are no settings of a [`last_good`](Self::last_good) file that are
/// valid: [`Corrupt`](ErrorKind::Corrupt) for stored settings that are not, and what opening,
/// watching or reading the store gives.
///
/// # Cancel safety
/// A future that is dropped leaves nothing behind.
#[must_use = "nothing is opened until it is awaited"]
pub struct OpenLive<T> {
    opening: Opening,
    directory: Result<Directory>,
    form: Form,
    quiet: Option<Range<Duration>>,
    defaults: Vec<Values>,
    overrides: Vec<Values>,
    checks: Vec<Box<Check<T>>>,
    quotes: bool,
    last_good: Option<PathBuf>,
    report: Option<Result<Key>>,
    report_ttl: Duration,
    within: Option<Duration>,
}

/// The options of [`OpenLive`], checked before any I/O.
struct Prepared<T> {
    place: Place,
    quiet: Range<Duration>,
    reader: Reader<T>,
    report: Option<Key>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> OpenLive<T> {
    pub(crate) fn new(opening: Opening, name: impl IntoKey) -> Self {
        Self {
            opening,
            directory: name.into_directory(),
            form: Form::Tree,
            quiet: None,
            defaults: Vec::new(),
            overrides: Vec::new(),
            checks: Vec::new(),
            quotes: false,
            last_good: None,
            report: None,
            report_ttl: LockOptions::DEFAULT_TTL,
            within: None,
        }
    }

    /// Reads the settings from one key, which holds a document in JSON, in place of a directory. A
    /// key that is not there counts as an empty document.
    pub fn json(mut self) -> Self {
        self.form = Form::Json;
        self
    }

    /// Reads the settings from one key, which holds a document in TOML, in place of a directory. A
    /// key that is not there counts as an empty document.
    #[cfg(feature = "toml")]
    pub fn toml(mut self) -> Self {
        self.form = Form::Toml;
        self
    }

    /// Sets settings that count where none are stored: [`Values::of`] a value, a `Figment` (feature
    /// `figment`), or a `Config` of the crate `config` (feature `config`). What is given later is
    /// laid over what was given before, name by name.
    pub fn defaults(mut self, values: impl Into<Values>) -> Self {
        self.defaults.push(values.into());
        self
    }

    /// Sets settings that count whatever is stored, such as those of the environment of this
    /// process. The same as [`defaults`](Self::defaults) otherwise.
    pub fn overrides(mut self, values: impl Into<Values>) -> Self {
        self.overrides.push(values.into());
        self
    }

    /// Rejects settings for which this gives an error, whose text says why: it is logged, reported
    /// to the store and given by [`Live::rejected`], so it should show no secret. Given several
    /// times, all must agree. A check that panics rejects.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
    /// #[derive(serde::Deserialize)]
    /// struct Limits {
    ///     least: u32,
    ///     most: u32,
    /// }
    ///
    /// impl Limits {
    ///     fn check(&self) -> Result<(), &'static str> {
    ///         if self.least <= self.most { Ok(()) } else { Err("`least` is above `most`") }
    ///     }
    /// }
    ///
    /// let kv = kv_memory::open("memory://").await?;
    /// kv.put("app/limits", r#"{"least":5,"most":3}"#).await?;
    /// let limits = kv_config::live::<Limits>(&kv, "app/limits").json().validate(Limits::check);
    /// assert!(limits.await.unwrap_err().to_string().ends_with("`least` is above `most`"));
    /// # Ok(()) }
    /// ```
    pub fn validate<E>(mut self, check: impl Fn(&T) -> Result<(), E> + Send + Sync + 'static) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let check = move |settings: &T| -> Result<(), String> {
            check(settings).map_err(|why| {
                let why: Box<dyn StdError + Send + Sync> = why.into();
                why.to_string()
            })
        };
        self.checks.push(Box::new(check));
        self
    }

    /// Sets how long nothing must have been written before settings are read, at least, and how
    /// long that is waited for at most; also for the first settings. Unless set, it is 250 ms and
    /// 10 s for a directory, whose keys may be written one by one, and no time for a document.
    ///
    /// Where a reading shows writes that the store has not told yet, as one can that tells several
    /// changes at once, more of them may follow: it is quiet only when the next reading, after the
    /// same time, shows no others.
    ///
    /// A transaction needs no quiet: it is read whole or not at all.
    #[doc(alias = "debounce")]
    #[doc(alias = "wait")]
    pub fn quiet(mut self, times: Range<Duration>) -> Self {
        self.quiet = Some(times);
        self
    }

    /// Keeps the last stored settings that were valid in this file, and starts with them when the
    /// store cannot be read, or holds settings that are not valid; [`Live::origin`] tells. Stored
    /// settings are taken as soon as they can be read and are valid.
    ///
    /// The file is replaced in one step, and only its owner can read it. It has the stored settings
    /// alone: defaults, overrides and the validation are those of the program that reads it. Its
    /// folder must be there. Several processes may share it if they have the same settings.
    pub fn last_good(mut self, path: impl Into<PathBuf>) -> Self {
        self.last_good = Some(path.into());
        self
    }

    /// Reports under this key, by a lease, which generation this process runs, or why it rejects
    /// the stored one; [`status`](crate::status()) counts the reports of a directory. Each process
    /// needs a name of its own, such as `app/status/host-7`: of two with the same name, the one
    /// that wrote last is seen. The report is written in the background, where
    /// [outages](Live::troubles) are ridden out. It is gone when this process is, after the lease's
    /// TTL at the latest.
    #[doc(alias = "status")]
    pub fn report(mut self, key: impl IntoKey) -> Self {
        self.report = Some(key.into_key());
        self
    }

    /// Sets how long the report outlives this process if that is killed: 15 s unless set. It is
    /// rounded as the TTL of a lease.
    pub fn report_ttl(mut self, ttl: Duration) -> Self {
        self.report_ttl = ttl;
        self
    }

    /// Sets the time that each request has, in place of the handle's: also the first, after which
    /// the last good settings are taken.
    #[doc(alias = "timeout")]
    pub fn deadline(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Has errors quote the words of types that read their values by themselves, such as those of
    /// durations and addresses. These words may show the value, so they are left out unless this is
    /// set: errors are logged, and reported to the store.
    pub fn quote_values(mut self) -> Self {
        self.quotes = true;
        self
    }

    async fn run(mut self) -> Result<Live<T>> {
        let backend = self.opening.backend();
        let prepared = self.prepare().map_err(|e| e.in_call("config", backend, None))?;
        let Prepared { place, quiet, reader, report } = prepared;
        let follower = Follower::new(self.opening, place, quiet, self.within);
        let (keeper, state) = Keeper::start(follower, reader, self.last_good.map(LastGood::new)).await?;
        let shared = Shared::new(state);
        let mut tasks = vec![tokio::spawn(keeper.run(shared.clone()))];
        if let Some(key) = report {
            tasks.push(tokio::spawn(Reporter::new(key, self.report_ttl).run(shared.clone())));
        }
        Ok(Live::new(shared, tasks.iter().map(|task| AbortOnDrop::new(task.abort_handle())).collect()))
    }

    fn prepare(&mut self) -> Result<Prepared<T>> {
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidArgument, why));
        let place = Place { directory: self.directory.clone()?, form: self.form };
        if self.form != Form::Tree {
            place.key()?;
        }
        let usual = if self.form == Form::Tree { QUIET } else { Duration::ZERO..Duration::ZERO };
        let quiet = self.quiet.take().unwrap_or(usual);
        if quiet.start > quiet.end {
            return refused(format!(
                "the quiet time is at least {:?} and at most {:?}",
                quiet.start, quiet.end
            ));
        }
        let report = self.report.take().transpose()?;
        let is_setting = |key: &&Key| match self.form {
            Form::Tree => key.is_below(&place.directory),
            _ => key.as_str() == place.directory.as_str(),
        };
        if let Some(key) = report.as_ref().filter(is_setting) {
            let why = format!("the report {key:?} lies among the settings; report it in another directory");
            return refused(why);
        }
        if let Some(kv) = self.opening.opened() {
            check(kv, report.is_some().then_some(self.report_ttl))?;
        }
        let (mut defaults, mut overrides) = (None, None);
        self.defaults.drain(..).try_for_each(|values| values.over(&mut defaults))?;
        self.overrides.drain(..).try_for_each(|values| values.over(&mut overrides))?;
        let checks = std::mem::take(&mut self.checks);
        Ok(Prepared {
            place,
            quiet,
            reader: Reader { defaults, overrides, checks, quotes: self.quotes },
            report,
        })
    }
}

/// Checks whether the store can do what is asked for.
fn check(kv: &Kv, report_ttl: Option<Duration>) -> Result<()> {
    let can = kv.capabilities();
    if can.watch == Watching::Unsupported {
        return Err(can.unsupported("watches"));
    }
    if let Some(ttl) = report_ttl {
        can.lease.as_ref().ok_or_else(|| can.unsupported("leases"))?.grant(ttl)?;
    }
    Ok(())
}

impl<T: DeserializeOwned + Send + Sync + 'static> IntoFuture for OpenLive<T> {
    type Output = Result<Live<T>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T> fmt::Debug for OpenLive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLive")
            .field("store", &self.opening)
            .field("name", &self.directory)
            .field("form", &self.form.as_str())
            .field("last_good", &self.last_good)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
