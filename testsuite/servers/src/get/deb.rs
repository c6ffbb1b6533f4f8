//! Unpacks a package of Debian's: an `ar` of a compressed `tar`.

use lzma_rust2::XzReader;
use std::{
    io::{self, Error, Read},
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};
use tar::{Archive, EntryType};

/// The folders that no server needs.
const LEFT_OUT: [&str; 5] =
    ["var", "usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale"];

/// Unpacks the files that a server needs below the folder; settings of the system, `etc`, only if
/// they are asked for.
pub(super) fn unpack(package: &[u8], at: &Path, with_settings: bool) -> io::Result<()> {
    let (name, data) = data(package)?;
    match name.strip_prefix("data.tar") {
        Some(".xz") => files(Archive::new(XzReader::new(data, false)), at, with_settings),
        Some("") => files(Archive::new(data), at, with_settings),
        _ => Err(Error::other(format!("{name} is packed in a way that is not known here"))),
    }
}

/// Returns the member that has the files, with its name.
fn data(package: &[u8]) -> io::Result<(&str, &[u8])> {
    let broken = || Error::other("it is no package of Debian's");
    let mut rest = package.strip_prefix(b"!<arch>\n").ok_or_else(broken)?;
    while rest.len() >= 60 {
        let (head, after) = rest.split_at(60);
        let text = |from: usize, to: usize| std::str::from_utf8(&head[from..to]).map(str::trim_end);
        let name = text(0, 16).map_err(|_| broken())?.trim_end_matches('/');
        let size: usize = text(48, 58).map_err(|_| broken())?.parse().map_err(|_| broken())?;
        let member = after.get(..size).ok_or_else(broken)?;
        if name.starts_with("data.tar") {
            return Ok((name, member));
        }
        // Each member begins at an even place.
        rest = after.get(size + size % 2..).unwrap_or_default();
    }
    Err(broken())
}

fn files(mut archive: Archive<impl Read>, at: &Path, with_settings: bool) -> io::Result<()> {
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = plain(&entry.path()?);
        let is_left_out = LEFT_OUT.iter().any(|name| path.starts_with(name))
            || (!with_settings && path.starts_with("etc"))
            // Static libraries take more megabytes than all else.
            || path.extension().is_some_and(|kind| kind == "a");
        if is_left_out {
            continue;
        }
        let target = entry.link_name()?.map(|target| target.into_owned());
        match (entry.header().entry_type(), target) {
            (EntryType::Symlink, Some(target)) if target.is_absolute() => {
                link(&path, &target, at)?;
            }
            _ => drop(entry.unpack_in(at)?),
        }
    }
    Ok(())
}

fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Makes a link that leads to a place of the system lead to the same place of this folder,
/// wherever that is moved.
fn link(path: &Path, target: &Path, at: &Path) -> io::Result<()> {
    let up: PathBuf = path.components().skip(1).map(|_| Component::ParentDir).collect();
    let from = at.join(path);
    if let Some(folder) = from.parent() {
        std::fs::create_dir_all(folder)?;
    }
    symlink(up.join(plain(target)), from)
}

#[cfg(test)]
mod tests {
    use super::{data, link, plain};
    use std::path::Path;

    #[test]
    fn members_are_found_behind_odd_ones() {
        let member = |name: &str, of: &str| {
            let pad = if of.len() % 2 == 1 { "\n" } else { "" };
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n{of}{pad}", 0, 0, 0, 100644, of.len())
        };
        let package = format!("!<arch>\n{}{}", member("debian-binary", "2.0"), member("data.tar.xz", "DATA"));
        assert_eq!(data(package.as_bytes()).unwrap(), ("data.tar.xz", &b"DATA"[..]));
        let cut = &package.as_bytes()[..package.len() - 1];
        assert!(data(cut).is_err(), "one that is cut short is refused");
        assert!(data(b"!<arch>\n").is_err());
    }

    #[test]
    fn links_stay_inside() {
        let at = std::env::temp_dir().join(format!("kv-servers-links-{}", std::process::id()));
        link(Path::new("usr/lib/jvm/conf"), Path::new("/etc/java"), &at).unwrap();
        let to = std::fs::read_link(at.join("usr/lib/jvm/conf")).unwrap();
        std::fs::remove_dir_all(&at).unwrap();
        assert_eq!(to, Path::new("../../../etc/java"));
        assert_eq!(plain(Path::new("./usr/../../x")), Path::new("usr/x"));
    }
}
