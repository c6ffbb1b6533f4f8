//! The owners of files, by their names or numbers.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
};

/// The user and the group that a file belongs to, as far as that is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    user: Option<u32>,
    group: Option<u32>,
}

impl Owner {
    /// Reads `USER`, `USER:GROUP` or `:GROUP`. A name is one of this machine's own files.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let owner =
            Self { user: number(user, "user", "/etc/passwd")?, group: number(group, "group", "/etc/group")? };
        if owner == Self::default() {
            return Err("an owner looks like www-data, www-data:adm, :adm or 33:4".to_owned());
        }
        Ok(owner)
    }

    /// Returns the one that a file has.
    pub(super) fn of(file: &Metadata) -> Self {
        Self { user: Some(file.uid()), group: Some(file.gid()) }
    }

    /// Returns what is said here, and of the other what is not.
    pub(super) fn or(self, other: Self) -> Self {
        Self { user: self.user.or(other.user), group: self.group.or(other.group) }
    }

    /// Returns the group, and no user.
    pub(super) fn group_alone(self) -> Self {
        Self { user: None, ..self }
    }

    /// Gives a file to this user and group.
    pub(super) fn give(self, file: &Path) -> io::Result<()> {
        chown(file, self.user, self.group)
    }
}

/// Returns the number of a name, or the number that it is.
fn number(name: &str, what: &str, names: &str) -> Result<Option<u32>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let known = fs::read_to_string(names).map_err(|e| format!("{names} cannot be read: {e}"))?;
    let found = of_name(&known, name);
    found.map(Some).ok_or_else(|| format!("{names} has no {what} {name:?}; a number needs no name"))
}

/// Returns the number of a name in lines `NAME:PASSWORD:NUMBER:…`.
fn of_name(lines: &str, name: &str) -> Option<u32> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_user_a_group_or_both() {
        for (text, user, group) in [
            ("7:8", Some(7), Some(8)),
            ("7", Some(7), None),
            ("7:", Some(7), None),
            (":8", None, Some(8)),
            ("root", Some(0), None),
        ] {
            assert_eq!(Owner::parse(text), Ok(Owner { user, group }), "{text}");
        }
        for (text, part) in [("", "looks like"), (":", "looks like"), ("no such", "has no user \"no such\"")]
        {
            let why = Owner::parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
        let lines = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:34::/:/bin/false\n";
        assert_eq!((of_name(lines, "www-data"), of_name(lines, "www")), (Some(33), None));
        assert_eq!(
            Owner { user: Some(1), group: None }.or(Owner { user: Some(2), group: Some(3) }),
            Owner { user: Some(1), group: Some(3) }
        );
    }
}
