//! The names of servers: each keeps its ports, its options and its data from start to start, until
//! it is wiped. `run/NAME/spec` has its ports and options, `run/NAME/NODE/` holds one process.

use crate::{error::Error, folder::Folder, kinds::Kind};
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// One server or cluster.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) kind: &'static Kind,
    pub(crate) nodes: usize,
    pub(crate) is_tls: bool,
    pub(crate) has_users: bool,
    pub(crate) ports: Vec<u16>,
    pub(crate) folder: Folder,
}

/// Returns the folder of all that runs.
pub(crate) fn running(folder: &Folder) -> PathBuf {
    folder.path().join("run")
}

pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let is_first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_good = name.starts_with(is_first)
        && name.chars().all(|c| is_first(c) || matches!(c, '-' | '_' | '.'))
        && name != "all";
    match is_good {
        true => Ok(()),
        false => Err(Error::misuse(format!(
            "'{name}' is no name (small letters, digits, '-', '_', '.'; and not 'all')"
        ))),
    }
}

/// Returns the names that there are.
pub(crate) fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(running(folder)).into_iter().flatten().flatten();
    let with_spec = entries.filter(|entry| entry.path().join("spec").exists());
    let mut names: Vec<_> = with_spec.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Returns the ports that names keep.
pub(crate) fn kept_ports(folder: &Folder) -> BTreeSet<u16> {
    names(folder)
        .iter()
        .filter_map(|name| Spec::read(folder, name).ok())
        .flat_map(|spec| spec.ports)
        .collect()
}

impl Spec {
    pub(crate) fn exists(folder: &Folder, name: &str) -> bool {
        running(folder).join(name).join("spec").exists()
    }

    pub(crate) fn read(folder: &Folder, name: &str) -> Result<Self, Error> {
        check_name(name)?;
        let unknown =
            || Error::misuse(format!("there is no '{name}' (ci/servers status tells what there is)"));
        let file = running(folder).join(name).join("spec");
        let text = fs::read_to_string(&file).map_err(|_| unknown())?;
        let of = |text: &str| {
            let (first, ports) = text.split_once('\n')?;
            let mut words = first.split(' ');
            let mut word = || words.next();
            Some(Self {
                name: name.to_owned(),
                kind: Kind::named(word()?).ok()?,
                nodes: word()?.parse().ok()?,
                is_tls: word()? == "1",
                has_users: word()? == "1",
                ports: ports.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?,
                folder: folder.clone(),
            })
        };
        of(&text).ok_or_else(|| Error::new(format!("{} makes no sense; delete its folder", file.display())))
    }

    pub(crate) fn write(&self) -> Result<(), Error> {
        let (new, file) = (self.at().join("spec.new"), self.at().join("spec"));
        let (tls, users) = (u8::from(self.is_tls), u8::from(self.has_users));
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        let text = format!("{} {} {tls} {users}\n{}\n", self.kind.name, self.nodes, ports.join(" "));
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &file))
            .map_err(|e| Error::file("written", &file, &e))
    }

    /// Returns its folder.
    pub(crate) fn at(&self) -> PathBuf {
        running(&self.folder).join(&self.name)
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.at().join("certs")
    }

    pub(crate) fn numbers(&self) -> RangeInclusive<usize> {
        1..=self.nodes
    }

    /// Returns the folder of a node.
    pub(crate) fn node(&self, number: usize) -> PathBuf {
        self.at().join(number.to_string())
    }

    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.node(number).join("data")
    }

    /// Returns an address of a node by its number; the first is that for clients.
    pub(crate) fn address(&self, number: usize, nth: usize) -> SocketAddr {
        let a_node = self.ports.len() / self.nodes;
        SocketAddr::from(([127, 0, 0, 1], self.ports[(number - 1) * a_node + nth]))
    }

    /// Returns the address of this number of every node.
    pub(crate) fn addresses(&self, nth: usize) -> Vec<SocketAddr> {
        self.numbers().map(|number| self.address(number, nth)).collect()
    }

    /// Returns the addresses for clients, each with this in front, joined by commas.
    pub(crate) fn hosts(&self, before: &str) -> String {
        let all: Vec<_> = self.addresses(0).iter().map(|at| format!("{before}{at}")).collect();
        all.join(",")
    }

    /// Returns the parameters of a URL for TLS.
    pub(crate) fn tls_parameters(&self) -> String {
        match self.is_tls {
            true => {
                let at = self.certificates();
                let at = at.display();
                format!("ca={at}/ca.pem&cert={at}/client.pem&key={at}/client.key")
            }
            false => String::new(),
        }
    }

    /// Returns the arguments `ca`, `cert` and `key` of a command-line client.
    pub(crate) fn tls_arguments(&self) -> Vec<PathBuf> {
        match self.is_tls {
            true => ["--cacert", "ca.pem", "--cert", "client.pem", "--key", "client.key"]
                .iter()
                .map(|word| match word.strip_prefix("--") {
                    Some(_) => PathBuf::from(word),
                    None => self.certificates().join(word),
                })
                .collect(),
            false => Vec::new(),
        }
    }

    /// Tells whether a step was done already that is done once, when the server is new.
    pub(crate) fn is_done(&self, what: &str) -> bool {
        self.at().join(what).exists()
    }

    pub(crate) fn is_done_now(&self, what: &str) -> Result<(), Error> {
        write(&self.at().join(what), "")
    }
}

/// Writes a file of settings.
pub(crate) fn write(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content).map_err(|e| Error::file("written", path, &e))
}
