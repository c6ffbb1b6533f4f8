//! Settings of a program that follow the store: typed, validated, swapped whole, and never replaced
//! by bad ones. What the processes run can be seen in the store.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
//! use kv_config::Values;
//! use std::sync::Arc;
//!
//! #[derive(serde::Deserialize)]
//! struct Settings {
//!     color: String,
//!     limits: Limits,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Limits {
//!     requests: u32,
//!     burst: u32,
//! }
//!
//! impl Settings {
//!     fn check(&self) -> Result<(), &'static str> {
//!         let Limits { requests, burst } = self.limits;
//!         if burst >= requests { Ok(()) } else { Err("`burst` is below `requests`") }
//!     }
//! }
//!
//! let kv = kv_memory::open("memory://").await?; // another backend: only this line
//! kv.put("app/config/color", "red").await?;
//! kv.put("app/config/limits/requests", "5").await?;
//!
//! let defaults = serde_json::json!({ "limits": { "requests": 1, "burst": 10 } });
//! let mut settings = kv_config::live::<Settings>(&kv, "app/config")
//!     .defaults(Values::of(&defaults))
//!     .validate(|settings| settings.check())
//!     .report("app/status/host-7")
//!     .await?;
//! let now: Arc<Settings> = settings.get(); // no I/O, and no waiting
//! assert_eq!((&*now.color, now.limits.requests), ("red", 5));
//!
//! // Two keys at once: nobody sees the one without the other.
//! let requests = kv.put("app/config/limits/requests", "50");
//! let burst = kv.put("app/config/limits/burst", "90");
//! assert!(kv.transact().then(requests).then(burst).await?.is_committed());
//! assert_eq!(settings.changed().await?.limits.burst, 90);
//!
//! kv.put("app/config/limits/burst", "lots").await?; // a mistake
//! let rejected = settings.next_rejected().await?;
//! assert_eq!(rejected.error.message(), "limits.burst: expected u32, found other text");
//! assert_eq!(settings.get().limits.burst, 90); // what was valid stays
//! # Ok(()) }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | settings that follow the store | [`live`](live()), [`Live`] |
//! | defaults, and what is laid over the stored settings | [`Values`] |
//! | stored settings at one moment; for the crates `config` and `figment` too | [`Source`], [`Snapshot`] |
//! | what all processes run | [`status`](status()), [`Status`] |
//! | a store that cannot be opened yet | [`Opening`] |
//!
//! # What it promises
//! - **Whole**: [`Live::get`] gives settings that were stored together at one moment, with the
//!   defaults and overrides, valid as a whole. A transaction is in them, or not. Keys that are
//!   written one by one are together if no pause between the writes is as long as the
//!   [quiet time](OpenLive::quiet), also where a store tells them late and several at once.
//! - **Valid**: what has no place in the type, and what the [validation](OpenLive::validate)
//!   refuses, is never seen. The settings of before stay, and the error is logged, given by
//!   [`Live::rejected`], and reported.
//! - **Newest**: nothing is missed: the watch behind it rides out outages. What is stored is run
//!   within the quiet time after it is told, plus the time of a listing; where that listing shows
//!   what was not told yet, within one more quiet time.
//! - **No secrets shown**: an error says where it is wrong and what was expected, and shows no
//!   value (the texts of the program's own validation are shown; see also
//!   [`quote_values`](OpenLive::quote_values)).
//!
//! # When things fail
//! | when | then |
//! |---|---|
//! | stored settings are not valid | those of before stay; at the start those of the [last good file](OpenLive::last_good) are run, and without one opening fails |
//! | the store is down at the start | the last good file; without one opening fails. Where even opening the store fails, [`Opening::by`] tries again |
//! | the last good file is damaged, or of other settings | it is not used, and the error says so; the next valid settings replace it |
//! | the last good file cannot be written | it is told by [`Live::troubles`], and tried again with the next change |
//! | the process is paused beyond the TTL of its report | the report goes, and comes again when the process wakes; the settings catch up by one reading |
//! | the process is killed | the report is gone within the TTL and its [lateness](kv_core::Capabilities::lateness) |
//! | somebody deletes the report, or writes something else in its place | it comes again at once; the report of another process that runs under the same name is left for a TTL |
//! | the process is cut off from the server | it runs what it has; its report goes after the TTL, and comes again |
//! | the server restarts | as when the process is cut off; the report stays if its lease outlives the restart |
//! | the rights to read are withdrawn | it runs what it has, [`Live::troubles`] tells, and it tries again, every ten seconds at least |
//! | an answer to the report is lost | the report is read and written again; no late write takes effect behind a newer one |
//! | [`OpenLive`] is dropped while it is awaited | nothing is left behind |
//! | the last [`Live`] is dropped | its watch and its report are taken back in the background |
//! | the handle is closed | the settings stay as they were, and [`Live::changed`] is `Closed` |
//! | the program panics while it reads or checks settings | they are rejected, as others that are not valid |
//!
//! On a store that may lose acknowledged writes ([`Durability::MayLose`](kv_core::Durability)) a
//! failover can bring settings of before back: they are run then, since they are what is stored.
//!
//! # Layout of the settings
//! A directory is a table: the key `app/config/limits/requests` is `limits.requests` of the
//! settings in `app/config`. The value of a key is text, and is read as what the type asks for.
//!
//! | the type asks for | the value |
//! |---|---|
//! | text, a character | the text as it is |
//! | a number, a boolean | decimal digits, `true` or `false`; white space around is skipped |
//! | an enum | the name of the variant; one with content has it in a directory of that name, or in JSON |
//! | a struct, a map | a directory of that name, or JSON: `{"requests":5}` |
//! | a list, a tuple | JSON: `["a","b"]` |
//! | an option | the key is missing, or holds the value |
//! | bytes | the bytes |
//!
//! A name cannot be a value and a directory at the same time. Types that do not ask (untagged
//! enums, `#[serde(flatten)]`) get a number for what looks like one. JSON that stands in one key
//! replaces the default of that name whole; directories are merged with the defaults name by name.
//! Names that the type does not know are skipped, unless it has `#[serde(deny_unknown_fields)]`.
//!
//! A document is one key, in JSON or TOML; its values have types, which must be those that are
//! asked for. Dates in TOML are text.
//!
//! # Layout of the reports, format 1
//! The key of a report holds JSON, and lives under a lease of its process:
//!
//! ```json
//! {"v":1,"runs":"17","from":"store","rejects":{"generation":"18","why":"limits.requests: is missing"}}
//! ```
//!
//! `from` is `store`, or `file` for the last good file; `rejects` is there while the stored
//! settings are rejected. Whoever reads a report skips fields that it does not know, and refuses
//! other formats.
//!
//! A generation is the version of the key of a document. That of a directory is 16 hexadecimal
//! digits: the digest FNV-1a, 64 bits, of the name below the directory, a zero byte, the version,
//! and a zero byte, for each key in the order of the names' bytes. Where nothing is stored, it is
//! `none`.
//!
//! # Layout of the last good file, format 1
//! A line of JSON, a line feed, and the keys as a list of JSON:
//!
//! ```json
//! {"v":1,"name":"app/config","form":"tree","sum":"85944171f73967e8"}
//! [{"key":"app/config/color","value":"red","version":"3"}]
//! ```
//!
//! A value that is no text is a list of its bytes. The sum is the digest of what comes behind the
//! line feed. The file is for the same program on the same host; its form can change with a new
//! minor version.

mod digest;
mod fault;
mod follower;
mod keeper;
mod last_good;
mod live;
mod name;
mod node;
mod open;
mod opening;
mod place;
mod reader;
mod record;
mod reporter;
mod snapshot;
mod source;
mod state;
mod status;
mod typed;
mod values;
#[cfg(feature = "config")]
mod with_config;
#[cfg(feature = "figment")]
mod with_figment;

pub use live::Live;
pub use open::OpenLive;
pub use opening::Opening;
pub use snapshot::{Generation, Snapshot};
pub use source::Source;
pub use state::{Origin, Rejected, Running, Troubles};
pub use status::{Rejection, Report, Status, status};
pub use values::Values;

use kv_core::IntoKey;
use serde::de::DeserializeOwned;

/// Opens settings of this type that follow the store: those in the directory of this name, or, with
/// [`json`](OpenLive::json) or `toml` (feature `toml`), in the document that the key of this name
/// holds. Await the answer, with its options chained.
///
/// The store is a handle, or an [`Opening`] of one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> kv_core::Result<()> {
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     color: String,
/// }
///
/// let kv = kv_memory::open("memory://").await?;
/// kv.put("app/config/color", "red").await?;
/// let settings = kv_config::live::<Settings>(&kv, "app/config").await?;
/// assert_eq!(settings.get().color, "red");
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of [`OpenLive`], when it is awaited.
///
/// # Cancel safety
/// A future that is dropped leaves nothing behind.
#[doc(alias = "watch")]
#[doc(alias = "reload")]
#[doc(alias = "settings")]
#[doc(alias = "config")]
pub fn live<T>(store: impl Into<Opening>, name: impl IntoKey) -> OpenLive<T>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    OpenLive::new(store.into(), name)
}

// The program of the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
