//! A git work tree, by the program `git`: who has the tree has the program.

use crate::exit::{Failure, Run};
use std::{
    ffi::OsStr,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Variables by which `git` would work on another repository than the one that was named: they are
/// set where this program is called by a hook.
const ELSEWHERE: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
];

/// A folder in a git work tree. What is there is what was committed: a tree with changes that are
/// not is refused, so that none is lost, or committed with those of a transfer.
#[derive(Clone, Debug)]
pub(super) struct WorkTree {
    folder: PathBuf,
}

impl WorkTree {
    pub(super) fn open(folder: &Path) -> Run<Self> {
        let shown = folder.display();
        let tree = Self { folder: folder.to_owned() };
        if !folder.is_dir() {
            return Err(Failure::usage(format!("{shown} is no folder; make one with `git init {shown}`")));
        }
        let is_inside = tree.git(&["rev-parse", "--is-inside-work-tree"], &[])?;
        if !matches!(&is_inside, Ok(said) if said == b"true\n") {
            let why = format!(
                "{shown} is in no git work tree; make it one with `git init`, or name it dir:{shown}"
            );
            return Err(Failure::usage(why));
        }
        // The drafts of a transfer that was killed are nobody's changes.
        let status = ["status", "--porcelain", "-z", "--untracked-files=all", "--", ".", ":(exclude).kv"];
        let changes = tree.must(&status, &[])?;
        if let Some(change) = changes.split(|byte| *byte == 0).next().filter(|change| !change.is_empty()) {
            let path = String::from_utf8_lossy(change.get(3..).unwrap_or_default()).into_owned();
            let why =
                format!("{shown} has changes that are not committed, as of {path:?}; commit or stash them");
            return Err(Failure::here(why));
        }
        Ok(tree)
    }

    /// Returns the committed files below a folder of the tree.
    pub(super) fn files(&self, root: &Path) -> Run<Vec<PathBuf>> {
        let listed = self.must(&["ls-files", "-z"], &[])?;
        let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let paths = names.map(|name| self.folder.join(OsStr::from_bytes(name)));
        Ok(paths.filter(|path| path.starts_with(root)).collect())
    }

    /// Commits these paths, and nothing else that may be staged; returns the commit's name.
    pub(super) fn commit(&self, message: &str, paths: &[PathBuf]) -> Run<String> {
        let mut names = Vec::new();
        for path in paths {
            names.extend(path.strip_prefix(&self.folder).unwrap_or(path).as_os_str().as_bytes());
            names.push(0);
        }
        const NAMED: [&str; 2] = ["--pathspec-from-file=-", "--pathspec-file-nul"];
        let add = ["add", "--all", "--force", NAMED[0], NAMED[1]];
        let commit = ["commit", "--quiet", "--only", "--message", message, NAMED[0], NAMED[1]];
        for arguments in [&add[..], &commit] {
            self.git(arguments, &names)?.map_err(|why| {
                let folder = self.folder.display();
                Failure::here(format!("the files in {folder} are written, and not committed: {why}"))
            })?;
        }
        let name = self.must(&["rev-parse", "--short", "HEAD"], &[])?;
        Ok(String::from_utf8_lossy(&name).trim_end().to_owned())
    }

    fn must(&self, arguments: &[&str], input: &[u8]) -> Run<Vec<u8>> {
        self.git(arguments, input)?.map_err(|why| Failure::here(format!("{}: {why}", self.folder.display())))
    }

    /// Runs `git`, and returns what it prints, or what it says when it fails.
    fn git(&self, arguments: &[&str], input: &[u8]) -> Run<Result<Vec<u8>, String>> {
        let failed =
            |e| Failure::here(format!("the program git cannot be run: {e}; install it, or use dir:PATH"));
        let mut command = Command::new("git");
        for variable in ELSEWHERE {
            command.env_remove(variable);
        }
        if !input.is_empty() {
            // Names of keys may have what patterns are made of.
            command.env("GIT_LITERAL_PATHSPECS", "1");
        }
        // Values are bytes, whose line ends are not git's to change.
        command.arg("-C").arg(&self.folder).args(["-c", "core.autocrlf=false"]).args(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // It reads all of it before it prints. If it ends before that, its own words tell why.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(Ok(output.stdout));
        }
        let words = [output.stderr, output.stdout].concat();
        let words = String::from_utf8_lossy(&words).trim().replace('\n', "; ");
        let what = arguments.first().copied().unwrap_or_default();
        Ok(Err(format!("git {what} ended with {}: {words}", output.status)))
    }
}
