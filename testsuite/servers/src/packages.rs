//! The packages of Debian that each kind is unpacked from.

use Suite::{Backports, Bookworm, Bullseye, Trixie};

/// A suite of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 11.
    Bullseye,
    /// Debian 12.
    Bookworm,
    /// The packages that were built for Debian 12 later.
    Backports,
    /// Debian 13.
    Trixie,
}

impl Suite {
    /// Returns the name that mirrors have it under.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Bullseye => "bullseye",
            Bookworm => "bookworm",
            Backports => "bookworm-backports",
            Trixie => "trixie",
        }
    }
}

/// Names of packages by their suites.
type Packages<const N: usize> = [(Suite, &'static [&'static str]); N];

const OF_ZOOKEEPER: &[&str] = &[
    "libzookeeper-java",
    "libcommons-cli-java",
    "libcommons-io-java",
    "libdropwizard-metrics-java",
    "libnetty-java",
    "libjctools-java",
    "libslf4j-java",
    "libsnappy-java",
    "libservlet-api-java",
];
const ETCD_BOTH: &[&str] = &["etcd-server", "etcd-client"];

pub(crate) static ETCD: Packages<1> = [(Trixie, ETCD_BOTH)];
pub(crate) static ETCD34: Packages<1> = [(Bookworm, ETCD_BOTH)];
pub(crate) static CONSUL: Packages<1> = [(Bullseye, &["consul"])];
pub(crate) static ZOOKEEPER: Packages<1> = [(Trixie, OF_ZOOKEEPER)];
pub(crate) static ZOOKEEPER38: Packages<1> = [(Bookworm, OF_ZOOKEEPER)];
pub(crate) static REDIS: Packages<1> =
    [(Bookworm, &["redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"])];
// Built against a newer libc than Debian 12's, so it brings its own, with all that it links to.
pub(crate) static REDIS8: Packages<1> = [(
    Trixie,
    &[
        "redis-server",
        "redis-tools",
        "libjemalloc2",
        "liblzf1",
        "libatomic1",
        "libc6",
        "libstdc++6",
        "libgcc-s1",
        "libssl3t64",
        "libsystemd0",
        "libcap2",
        "libzstd1",
        "zlib1g",
    ],
)];
pub(crate) static VALKEY: Packages<2> =
    [(Backports, &["valkey-server", "valkey-tools"]), (Bookworm, &["libjemalloc2", "liblzf1", "libatomic1"])];
pub(crate) static PROTOC: Packages<1> =
    [(Bookworm, &["protobuf-compiler", "libprotoc32", "libprotobuf32", "libprotobuf-dev", "zlib1g"])];
pub(crate) static FAKETIME: Packages<1> = [(Bookworm, &["libfaketime"])];
// The parts that a server without a screen loads, and no fonts, printers or sound.
pub(crate) static JAVA: Packages<1> =
    [(Bookworm, &["openjdk-17-jre-headless", "libstdc++6", "libgcc-s1", "zlib1g"])];
