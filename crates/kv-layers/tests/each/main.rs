//! The effects of each layer, beyond keeping the promises of the store below.

mod below;
mod chaos;
mod coalesce;
mod encrypt;
mod limit;
#[cfg(feature = "opentelemetry")]
mod otel;
mod prefix;
mod read_only;
mod runtimes;
mod tee;
mod telemetry;
