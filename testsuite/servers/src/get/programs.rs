//! The programs of a kind: scripts that find their folder by themselves, so that it can be moved,
//! and that end in `exec`, so that the process that is started is the server.

use crate::kinds::Kind;
use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

const JARS: &str = "C=
for jar in zookeeper zookeeper-jute commons-cli commons-io metrics-core slf4j-api slf4j-simple snappy-java servlet-api \\
    jctools-core netty-buffer netty-codec netty-common netty-handler netty-resolver netty-transport \\
    netty-transport-classes-epoll netty-transport-native-epoll netty-transport-native-unix-common
do C=$C:$D/usr/share/java/$jar.jar; done";
/// The lines that choose a Java: the one that is named, the machine's, or the one that was
/// fetched.
const JAVA: &str = "if [ -n \"${JAVA_HOME:-}\" ]; then J=$JAVA_HOME/bin/java
elif command -v java >/dev/null; then J=java
else J=$D/../java/bin/java; fi";
const QUICK: &str = "exec \"$J\" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData";

/// Writes the programs of a kind that was unpacked there.
pub(super) fn write(kind: &Kind, at: &Path) -> io::Result<()> {
    fs::create_dir_all(at.join("bin"))?;
    let client = kind.client.unwrap_or_default();
    match kind.name {
        "etcd" => both(at, [kind.server, client], |program| plain("", program)),
        "etcd34" => {
            script(at, kind.server, &plain("", kind.server))?;
            script(at, client, &plain("ETCDCTL_API=3 ", client))
        }
        "consul" => script(at, kind.server, &plain("", kind.server)),
        "zookeeper" | "zookeeper38" => zookeeper(kind, at),
        "redis8" => with_own_loader(kind, at),
        "redis" | "valkey" => {
            let path = libraries(at)?;
            both(at, [kind.server, client], |program| plain(&path, program))
        }
        // protoc finds its include folder by itself, from where its binary lies.
        "protoc" => script(at, kind.server, &plain(&libraries(at)?, kind.server)),
        "java" => java(kind, at),
        // This library is the one for processes of several threads.
        "faketime" => symlink(
            Path::new("..").join(own(at)?).join("faketime/libfaketimeMT.so.1"),
            at.join("bin").join(kind.server),
        ),
        other => Err(io::Error::other(format!("the programs of {other} are not in get/programs.rs"))),
    }
}

fn plain(before: &str, program: &str) -> String {
    format!("{before}exec \"$D/usr/bin/{program}\" \"$@\"")
}

fn both(at: &Path, programs: [&str; 2], lines: impl Fn(&str) -> String) -> io::Result<()> {
    programs.iter().try_for_each(|program| script(at, program, &lines(program)))
}

fn zookeeper(kind: &Kind, at: &Path) -> io::Result<()> {
    let server = format!(
        "{JARS}\n{JAVA}\n# Options for the JVM: JVMFLAGS. Arguments: a zoo.cfg.\n{QUICK} -Xmx128m \\
    -Dzookeeper.extendedTypesEnabled=true -Dznode.container.checkIntervalMs=500 \\
    ${{JVMFLAGS:-}} -cp \"$C\" org.apache.zookeeper.server.quorum.QuorumPeerMain \"$@\""
    );
    let client = format!(
        "{JARS}\n{JAVA}\n{QUICK} -Dorg.slf4j.simpleLogger.defaultLogLevel=error ${{JVMFLAGS:-}} \\
    -cp \"$C\" org.apache.zookeeper.ZooKeeperMain \"$@\""
    );
    script(at, kind.server, &server)?;
    script(at, kind.client.unwrap_or_default(), &client)
}

fn with_own_loader(kind: &Kind, at: &Path) -> io::Result<()> {
    let libraries = own(at)?;
    let is_loader = |name: &str| name.starts_with("ld-linux") && name.contains(".so.");
    let loader = first(&at.join(&libraries), is_loader)?;
    both(at, [kind.server, kind.client.unwrap_or_default()], |program| {
        format!(
            "L=$D/{}\nexec \"$L/{loader}\" --argv0 {program} --library-path \"$L\" \"$D/usr/bin/{program}\" \"$@\"",
            libraries.display()
        )
    })
}

fn java(kind: &Kind, at: &Path) -> io::Result<()> {
    let home =
        first(&at.join("usr/lib/jvm"), |name| name.starts_with("java-") && name.contains("-openjdk-"))?;
    let lines = format!("{}exec \"$D/usr/lib/jvm/{home}/bin/{}\" \"$@\"", libraries(at)?, kind.server);
    script(at, kind.server, &lines)
}

/// Returns the folder of a kind's libraries, below the kind's own.
fn own(at: &Path) -> io::Result<PathBuf> {
    let name = first(&at.join("usr/lib"), |name| name.contains("-linux-gnu"))?;
    Ok(Path::new("usr/lib").join(name))
}

/// Returns the setting by which a program finds its libraries: some of a suite's lie in one
/// folder, some in the other.
fn libraries(at: &Path) -> io::Result<String> {
    let usr = own(at)?;
    let usr = usr.display();
    let old = usr.to_string().replacen("usr/", "", 1);
    Ok(match at.join(&old).is_dir() {
        true => format!("LD_LIBRARY_PATH=\"$D/{usr}:$D/{old}\" "),
        false => format!("LD_LIBRARY_PATH=\"$D/{usr}\" "),
    })
}

fn first(folder: &Path, is_it: impl Fn(&str) -> bool) -> io::Result<String> {
    let mut names: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| is_it(name))
        .collect();
    names.sort();
    names
        .into_iter()
        .next()
        .ok_or_else(|| io::Error::other(format!("{} lacks what its packages had so far", folder.display())))
}

fn script(at: &Path, program: &str, lines: &str) -> io::Result<()> {
    let path = at.join("bin").join(program);
    fs::write(&path, format!("#!/bin/sh\nD=$(cd \"${{0%/*}}/..\" && pwd -P) || exit 127\n{lines}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
