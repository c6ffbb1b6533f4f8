//! The command line. Help, completions and man pages are made of it.

use crate::{
    commands::{
        about::{CompletionsArgs, HealthArgs, ManArgs},
        adopt::AdoptArgs,
        config::ConfigArgs,
        delete::DeleteArgs,
        doctor::DoctorArgs,
        edit::EditArgs,
        elect::ElectArgs,
        get::{ExistsArgs, GetArgs},
        lease::LeaseArgs,
        list::{CatArgs, LsArgs},
        lock::{HolderArgs, LockArgs},
        locks::{BreakArgs, LocksArgs},
        put::{CasArgs, PutArgs},
        render::RenderArgs,
        run::RunArgs,
        semaphore::SemaphoreArgs,
        transfer::{ApplyArgs, CheckArgs, CopyArgs, DiffArgs, ExportArgs, ImportArgs, SyncArgs},
        tree::TreeArgs,
        txn::TxnArgs,
        watch::{WaitArgs, WatchArgs},
    },
    log::Shown,
    stores::Turn,
    text,
    ui::UiArgs,
};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind, parser::ValueSource};
use std::{path::PathBuf, time::Duration};

const CODES: &str = "\
Exit codes:
  0    done
  1    no: not there, different, or not got
  2    the command line, or what it names, is wrong; nothing happened
  3    conflict: somebody else has written the key
  4    refused, not offered, or failed; nothing happened
  5    the store could not be reached; nothing happened
  6    nobody knows whether the write happened: read before writing again
  7    the lock, the permit or the lease was lost
  8    failed when something was done already: a part of it, or all but its output
  141  whoever read the output is gone
lock, semaphore, elect, lease and run end with the code of their command, or with 128 and the
number of the signal that ended it; 126 and 127 say that the command cannot be run, or is not there.";

/// Looks at, changes, watches and locks what is in a key/value store
///
/// A store is named by its URL (etcd, consul, zookeeper, redis, rediss, redis-cluster,
/// redis-sentinel, dynamodb, redb, memory), or by a name from a file of lines `NAME URL`. Where
/// none is named, it is the one that the file calls default, or else an embedded one of this user,
/// which needs no server.
///
/// Values go to a pipe as they are, and to a terminal with escapes.
#[derive(Debug, Parser)]
#[command(name = "kv", version, after_help = CODES, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The URL of the store, or its name in the file of stores
    #[arg(
        long,
        short,
        global = true,
        value_name = "URL|NAME",
        env = "KV_STORE",
        hide_env_values = true,
        help_heading = "Every command"
    )]
    pub(crate) store: Option<String>,
    /// Prints one object a line, on standard error for errors
    #[arg(long, global = true, help_heading = "Every command")]
    pub(crate) json: bool,
    /// The time that each request to a store has
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "5s",
        value_parser = text::duration,
        help_heading = "Every command"
    )]
    pub(crate) timeout: Duration,
    /// The file of stores; unless given, ~/.config/kv/stores
    #[arg(long, global = true, value_name = "FILE", env = "KV_CONFIG", help_heading = "Every command")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line; ends the program where it is wrong.
    pub(crate) fn read() -> Self {
        let matches = Self::command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
        let Some(place) = cli.command.place().cloned() else { return cli };
        // The environment names a store for commands that name none.
        let is_given = matches.value_source("store") == Some(ValueSource::CommandLine);
        if is_given && cli.store.as_ref() != Some(&place) {
            let why = "two stores are named, one by --store and another behind the command; name one";
            Self::command().error(ErrorKind::ArgumentConflict, why).exit();
        }
        cli.store = Some(place);
        cli
    }

    /// Returns what the command shows of the library's log: what goes on through outages tells of
    /// them.
    pub(crate) fn shown_of_the_log(&self) -> Shown {
        let goes_on = match &self.command {
            Command::OnStore(OnStore::Doctor(_)) => return Shown::Warnings,
            Command::OnStore(command) => command.goes_on(),
            Command::Sync(_) => true,
            _ => false,
        };
        if goes_on { Shown::Outages { json: self.json } } else { Shown::Nothing }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    OnStore(OnStore),
    /// Copies keys from one store or folder to another, and deletes nothing
    ///
    /// In a folder, dir:PATH, the key app/color is the file app/color; where app is a key too, its
    /// value is the file app/.kv. A git work tree, git:PATH, must have no changes that are not
    /// committed; what is written to it becomes one commit of yours, whose message has the keys.
    ///
    /// What is the same already is not written, so that a copy that was broken off goes on where it
    /// was. A key that somebody else writes meanwhile is left as it is. It ends with a comparison.
    Copy(CopyArgs),
    /// Makes one store or folder as another is; deletes only with --delete
    ///
    /// It is `copy` with deletions. With --follow it goes on with every change, each of which is a
    /// commit of its own in a work tree, and ends with a comparison when a signal comes; another
    /// signal breaks that off. Behind the first copy it rides out outages of both sides.
    Sync(SyncArgs),
    /// Compares two stores or folders, key by key and byte by byte
    Check(CheckArgs),
    /// Prints a script that completes commands in a shell
    Completions(CompletionsArgs),
    /// Prints a manual page
    Man(ManArgs),
}

impl Command {
    /// Returns the store that is named behind the command.
    fn place(&self) -> Option<&String> {
        match self {
            Self::OnStore(OnStore::Doctor(args)) => args.named.place.as_ref(),
            Self::OnStore(OnStore::Health(args)) => args.named.place.as_ref(),
            Self::OnStore(OnStore::Ui(args)) => args.named.place.as_ref(),
            _ => None,
        }
    }
}

/// The commands that work on one store.
#[derive(Debug, Subcommand)]
pub(crate) enum OnStore {
    /// Prints the value of a key
    Get(GetArgs),
    /// Creates or replaces a key, and prints its new version
    Put(PutArgs),
    /// Deletes a key, or all keys below a directory
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Tells by the exit code whether a key is there
    Exists(ExistsArgs),
    /// Lists the keys and directories in a directory
    Ls(LsArgs),
    /// Draws the keys below a directory
    Tree(TreeArgs),
    /// Prints the values of several keys, one behind the other
    Cat(CatArgs),
    /// Changes a key in an editor
    ///
    /// The value is written only if nobody else has written it meanwhile; else what was edited
    /// stays in a file, as it does when a signal ends the program or the editor fails.
    Edit(EditArgs),
    /// Tells what is there, and then every change
    ///
    /// It rides out outages, and ends only when the store refuses it for good.
    Watch(WatchArgs),
    /// Waits until a key is there, or is gone, or has a value
    Wait(WaitArgs),
    /// Replaces a key at the version that was seen, or creates it
    Cas(CasArgs),
    /// Makes several writes at once, if conditions are true
    ///
    /// Each line is one of `when KEY VERSION`, `when KEY none`, `when KEY exists`, `put KEY VALUE
    /// [ttl TIME]`, `put64 KEY BASE64 [ttl TIME]`, `delete KEY`. A word in double quotes is a
    /// string of JSON; a line that begins with # is skipped.
    Txn(TxnArgs),
    /// Runs a command while holding a lock
    ///
    /// The command runs in a process group of its own, without a shell, with KV_LOCK_NAME and the
    /// fencing token in KV_LOCK_TOKEN. Signals are passed on. The group has the terminal while it
    /// runs, where this program had it and its output goes into no pipe; else the standard input of
    /// the command is empty where that is a terminal. When the lock is lost, the group gets SIGTERM,
    /// and SIGKILL before the store may give the lock to another; so it does when this program is
    /// stopped, as by ^Z, or killed. What the command leaves behind in its group is ended before the lock is released. A
    /// machine that stands still as a whole is not covered: have what the command writes to refuse
    /// a token smaller than one that it has seen.
    Lock(LockArgs),
    /// Leads, or waits to; with a command, which runs while this candidate leads
    ///
    /// The command runs as that of `lock` does, and again after the leadership was lost and won
    /// anew. When it ends by itself, the leadership is given up. What it prints is then all that
    /// there is on standard output; `elected` and `lost` go to standard error. It is an election of
    /// the library's recipes: programs that use these take part too, and see who leads, and its
    /// value, as --observe does. The key NAME/leader has that; it stays when nobody leads.
    Elect(ElectArgs),
    /// Runs a command while holding one of N permits
    ///
    /// N of them run at once, and no more. The command runs as that of `lock` does, and is ended
    /// with its permit as that is with its lock. Besides KV_LOCK_NAME and KV_LOCK_TOKEN, which
    /// grows from permit to permit, it has KV_LOCK_SLOT: a number below N that no other has at the
    /// same time. Who waits is served in the order of asking, where the store's locks are fair.
    Semaphore(SemaphoreArgs),
    /// Has keys be there as long as a command runs
    ///
    /// The keys that --put names are under a lease, and go with it. The command runs as that of
    /// `lock` does, with KV_LEASE_ID, and is ended when the lease is lost. Without a command the
    /// lease is held, and its name shown, until a signal comes. A lease belongs to the program that
    /// took it: none can be listed, looked into, or ended from elsewhere, since not all servers
    /// offer that; the server's own tools do, by the name of the lease.
    Lease(LeaseArgs),
    /// Lists the locks that are held, with their holders
    ///
    /// It shows the name, the fencing token, how many wait, and what the holder says of itself. An
    /// election is a lock, and so is the gate of a semaphore while a permit is given out. The
    /// permits of a semaphore are keys: `ls NAME/slots`.
    Locks(LocksArgs),
    /// Ends an acquisition of a lock by its fencing token, and no other one
    ///
    /// It is for a holder that hangs and renews its lock all the same. The lock goes to the next in
    /// line. The holder is told at its next renewal at the latest, and what it does goes on until
    /// then: end its process first where you can. The exit code is 1 if the lock is not held under
    /// this token. A permit of a semaphore is ended by deleting its key, NAME/slots/NUMBER: its
    /// holder is told at once, and the command that runs under it is ended.
    Break(BreakArgs),
    /// Shows who holds a lock or leads, and the fencing token
    Holder(HolderArgs),
    /// Runs a command whose environment is a directory of the store
    ///
    /// The command is run without a shell, and restarted or told when the directory changes. It
    /// goes on through outages. Signals are passed on. It has a process group of its own, of which
    /// nothing is left when it ends, or when this program does, and which has the terminal as the
    /// command of `lock` has.
    Run(RunArgs),
    /// Keeps a file in step with the store, by a template
    ///
    /// The file is written only when all that the store has is known, and all at once. It stays as
    /// it was when the template, the check or the store fails. The template is read anew at each
    /// change of the store; a change of the template alone is not noticed.
    Render(RenderArgs),
    /// Tells which settings the processes run that follow the store by kv-config
    Config(ConfigArgs),
    /// Has listings show keys that other tools wrote, on Redis and Valkey
    ///
    /// There a key that another tool wrote can be read by its name at once, and is neither listed
    /// nor watched nor copied before it is adopted. On other stores there is nothing to adopt.
    Adopt(AdoptArgs),
    /// Prints all keys with their values, one object a line, for import, apply and diff
    ///
    /// The last line has their number, by which an export that was cut is known. A store does not tell
    /// when a key goes by itself: what is exported has no TTL.
    Export(ExportArgs),
    /// Writes the keys of an export, and deletes nothing
    Import(ImportArgs),
    /// Makes the store as a file says; deletes only with --delete
    Apply(ApplyArgs),
    /// Shows what apply --delete would change
    Diff(DiffArgs),
    /// Tries the store, and says in words what to know and what to change
    ///
    /// The exit code is 1 if something is wrong. A store that cannot be opened is a finding too, with
    /// the exit code of its error.
    Doctor(DoctorArgs),
    /// Shows the store on a page of this machine
    ///
    /// The page has the keys and values, the changes as they happen, locks and elections, and the
    /// latency. It prints the URL of the page, and serves it until a signal comes. Only this machine can
    /// connect, and only who knows the token in the URL; requests of other pages are refused. The
    /// page loads nothing from elsewhere. While it is open it watches the directory and makes a
    /// read each second; while it is seen it also lists the locks, three seconds after the last
    /// answer, or ten times as long as that took, and reads the leader of each election. On Redis
    /// each such list goes through all names of the server. Without --write it changes nothing.
    Ui(UiArgs),
    /// Makes one read that needs the store's quorum, and tells about its server
    Health(HealthArgs),
    /// Shows what the store offers
    Capabilities,
}

impl OnStore {
    /// Returns the time that the command waits for a file that another process has open.
    pub(crate) fn turn(&self) -> Turn {
        match self {
            Self::Lock(args) => args.patience.turn(),
            Self::Semaphore(args) => args.patience.turn(),
            Self::Elect(_) => Turn::Whenever,
            _ => Turn::OfARequest,
        }
    }

    /// Tells whether the command goes on when the server is away.
    fn goes_on(&self) -> bool {
        matches!(
            self,
            Self::Watch(_)
                | Self::Wait(_)
                | Self::Lock(_)
                | Self::Elect(_)
                | Self::Semaphore(_)
                | Self::Lease(_)
                | Self::Holder(_)
                | Self::Run(_)
                | Self::Render(_)
                | Self::Ui(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_make_sense() {
        Cli::command().debug_assert();
    }
}
