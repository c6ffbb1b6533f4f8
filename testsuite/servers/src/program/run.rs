//! Starting and stopping.

use super::{
    nodes::bring_up,
    ports,
    process::{self, pid_of, state_of},
    say,
    spec::{self, Spec, names},
};
use crate::{certificates, error::Error, folder::Folder, kinds::Kind, named};
use rustix::process::Signal;
use std::{
    fs::{self, File, TryLockError},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// A name, and one of its nodes or all of them.
struct Target {
    spec: Spec,
    numbers: Vec<usize>,
    is_whole: bool,
}

impl Target {
    fn named(folder: &Folder, what: &str) -> Result<Self, Error> {
        let (name, node) = what.split_once('/').map_or((what, None), |(name, node)| (name, Some(node)));
        let spec = Spec::read(folder, name)?;
        let numbers = match node {
            None => spec.numbers().collect(),
            Some(node) => {
                let number = node.parse().ok().filter(|number| spec.numbers().contains(number));
                vec![number.ok_or_else(|| {
                    Error::misuse(format!("{name} has no node '{node}' (it has {})", spec.nodes))
                })?]
            }
        };
        Ok(Self { spec, numbers, is_whole: node.is_none() })
    }

    fn whole(folder: &Folder, name: &str, command: &str) -> Result<Self, Error> {
        let target = Self::named(folder, name)?;
        match target.is_whole {
            true => Ok(target),
            false => Err(Error::misuse(format!("{command} takes a whole NAME"))),
        }
    }

    fn nodes(&self) -> Vec<PathBuf> {
        self.numbers.iter().map(|number| self.spec.node(*number)).collect()
    }
}

/// Takes the lock of the folder: only one program at a time may choose ports and start or stop.
fn lock(folder: &Folder) -> Result<File, Error> {
    let at = spec::running(folder);
    let refused = |e| {
        let at = at.display();
        Error::new(format!("cannot write in {at} (KV_SERVERS_DIR names another folder): {e}"))
    };
    fs::create_dir_all(&at).map_err(refused)?;
    let lock = File::options().create(true).append(true).open(at.join(".lock")).map_err(refused)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(e)) => return Err(refused(e)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(Error::new(format!("another ci/servers holds {}/.lock", at.display())));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(process::LOOK),
        }
    }
}

/// The options of `start`.
#[derive(Default)]
struct Options {
    name: Option<String>,
    port: Option<u16>,
    nodes: Option<usize>,
    tls: bool,
    auth: bool,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, Error> {
        let (mut options, mut given) = (Self::default(), arguments.iter());
        while let Some(option) = given.next() {
            let mut value =
                || given.next().ok_or_else(|| Error::misuse(format!("start: {option} wants a value")));
            match option.as_str() {
                "--name" => options.name = Some(value()?.clone()),
                "--port" => options.port = Some(number(value()?, 1, u16::MAX, "is no port")?),
                "--nodes" => options.nodes = Some(number(value()?, 1, 9, "is no number from 1 to 9")?.into()),
                "--tls" => options.tls = true,
                "--auth" => options.auth = true,
                _ => return Err(Error::misuse(format!("start: unknown option '{option}'"))),
            }
        }
        Ok(options)
    }

    /// Tells whether the name was made with these options, as far as they are given.
    fn fit(&self, spec: &Spec) -> bool {
        self.port.is_none_or(|port| port == spec.ports[0])
            && self.nodes.is_none_or(|nodes| nodes == spec.nodes)
            && (!self.tls || spec.is_tls)
            && (!self.auth || spec.has_users)
    }
}

fn number(text: &str, least: u16, most: u16, wrong: &str) -> Result<u16, Error> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| Error::misuse(format!("start: '{text}' {wrong}")))
}

pub(super) fn start(folder: &Folder, arguments: &[String]) -> Result<(), Error> {
    let (what, rest) =
        arguments.split_first().ok_or_else(|| Error::misuse("start: which kind, or which name?"))?;
    let options = Options::read(rest)?;
    let base = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
    let is_name = Spec::exists(folder, &base(what)) && options.name.as_ref().is_none_or(|name| name == what);
    if !is_name {
        check_kind(what)?;
    }
    let name = if is_name { what.clone() } else { options.name.clone().unwrap_or_else(|| what.clone()) };
    if !is_name && name.contains('/') {
        return Err(Error::misuse(format!("start: '{name}' is no name")));
    }
    let _lock = lock(folder)?;
    if Spec::exists(folder, &base(&name)) {
        check_same(&Spec::read(folder, &base(&name))?, what, &options)?;
    } else {
        let kind = Kind::named(what)?;
        folder.server(kind)?;
        create(folder, kind, &name, &options)?;
    }
    let target = Target::named(folder, &name)?;
    folder.server(target.spec.kind)?;
    bring_up(&target.spec, &target.numbers)?;
    tell(&target);
    Ok(())
}

fn check_kind(name: &str) -> Result<(), Error> {
    match Kind::named(name)?.is_server() {
        true => Ok(()),
        false => Err(Error::misuse(format!("{name} is no server"))),
    }
}

fn check_same(spec: &Spec, what: &str, options: &Options) -> Result<(), Error> {
    let name = &spec.name;
    let is_other_kind = Kind::named(what).is_ok_and(|kind| kind != spec.kind) && what != name;
    if is_other_kind {
        let kind = spec.kind.name;
        return Err(Error::new(format!("'{name}' is a {kind}; take another --name, or wipe it")));
    }
    match options.fit(spec) {
        true => Ok(()),
        false => {
            Err(Error::new(format!("'{name}' was made with other options; wipe it, or take another --name")))
        }
    }
}

fn tell(target: &Target) {
    let spec = &target.spec;
    let log = spec.node(target.numbers[0]).join("log");
    say(&format!("{} is ready; log: {}", spec.name, log.display()));
    if spec.has_users {
        say(&named::of(spec.kind).users());
    }
    if spec.is_tls {
        say(&format!("certificates: {}", spec.certificates().display()));
    }
    println!("{}", named::of(spec.kind).url(spec));
}

fn create(folder: &Folder, kind: &'static Kind, name: &str, options: &Options) -> Result<(), Error> {
    spec::check_name(name)?;
    let nodes = options.nodes.unwrap_or(1);
    let of = named::of(kind);
    for (option, is_wanted) in [("nodes", nodes > 1), ("tls", options.tls), ("auth", options.auth)] {
        if is_wanted && !of.options().contains(&option) {
            return Err(Error::misuse(format!("start: {} takes no --{option}", kind.name)));
        }
    }
    of.check_nodes(kind, nodes)?;
    let ports = ports::choose(options.port, nodes * of.ports(), &spec::kept_ports(folder))?;
    let (is_tls, has_users, name) = (options.tls, options.auth, name.to_owned());
    let spec = Spec { name, kind, nodes, is_tls, has_users, ports, folder: folder.clone() };
    fs::create_dir_all(spec.at()).map_err(|e| Error::file("made", &spec.at(), &e))?;
    if is_tls {
        certificates::make(&spec.certificates())?;
    }
    spec.write()
}

pub(super) fn stop(folder: &Folder, given: &[String]) -> Result<(), Error> {
    let all = given.is_empty() || given == ["all"];
    let names = if all { names(folder) } else { given.to_vec() };
    if all && names.is_empty() {
        return Ok(());
    }
    let _lock = lock(folder)?;
    let targets = names.iter().map(|name| Target::named(folder, name)).collect::<Result<Vec<_>, _>>()?;
    process::end(&targets.iter().flat_map(Target::nodes).collect::<Vec<_>>())
}

pub(super) fn wipe(folder: &Folder, arguments: &[String]) -> Result<(), Error> {
    let [name] = arguments else {
        return Err(Error::misuse("wipe NAME, or wipe all"));
    };
    let names = if name == "all" { names(folder) } else { vec![name.clone()] };
    if name == "all" && names.is_empty() {
        return Ok(());
    }
    let _lock = lock(folder)?;
    for name in names {
        let target = Target::whole(folder, &name, "wipe")?;
        process::end_now(&target.nodes())?;
        let at = target.spec.at();
        fs::remove_dir_all(&at).map_err(|e| Error::file("deleted", &at, &e))?;
    }
    Ok(())
}

/// Does something to nodes, all of which must run.
fn to_running(
    folder: &Folder,
    arguments: &[String],
    act: impl FnOnce(&[PathBuf]) -> Result<(), Error>,
) -> Result<(), Error> {
    let [what] = arguments else {
        return Err(Error::misuse("one NAME or NAME/NODE is needed"));
    };
    let _lock = lock(folder)?;
    let target = Target::named(folder, what)?;
    let nodes = target.nodes();
    for (node, number) in nodes.iter().zip(&target.numbers) {
        if pid_of(node).is_none() {
            return Err(Error::new(format!("{}: node {number} does not run", target.spec.name)));
        }
    }
    act(&nodes)
}

fn signal_all(nodes: &[PathBuf], signal: Signal) -> Result<(), Error> {
    nodes.iter().for_each(|node| process::signal(node, signal));
    Ok(())
}

pub(super) fn pause(folder: &Folder, arguments: &[String]) -> Result<(), Error> {
    to_running(folder, arguments, |nodes| signal_all(nodes, Signal::STOP))
}

pub(super) fn resume(folder: &Folder, arguments: &[String]) -> Result<(), Error> {
    to_running(folder, arguments, |nodes| signal_all(nodes, Signal::CONT))
}

pub(super) fn kill(folder: &Folder, arguments: &[String]) -> Result<(), Error> {
    to_running(folder, arguments, process::end_now)
}

pub(super) fn status(folder: &Folder) -> Result<(), Error> {
    println!("{:<20} {:<12} {:<8} {:<8} URL", "NAME", "KIND", "STATE", "PID");
    for name in names(folder) {
        let spec = Spec::read(folder, &name)?;
        for number in spec.numbers() {
            let node = spec.node(number);
            let shown = if spec.nodes > 1 { format!("{name}/{number}") } else { name.clone() };
            let pid = pid_of(&node).map_or_else(|| "-".to_owned(), |pid| pid.as_raw_pid().to_string());
            let url = if number == 1 { named::of(spec.kind).url(&spec) } else { String::new() };
            let state = state_of(&node).name();
            println!("{shown:<20} {:<12} {state:<8} {pid:<8} {url}", spec.kind.name);
        }
    }
    Ok(())
}
