//! The command-line clients that servers bring.

use super::{process::without_settings, spec::Spec};
use crate::{error::Error, folder::Folder, named};
use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// Becomes the client of a server; returns only when that fails.
pub(super) fn client(folder: &Folder, arguments: &[String]) -> Result<ExitCode, Error> {
    let (name, rest) = arguments.split_first().ok_or_else(|| Error::misuse("client: of which server?"))?;
    if name.contains('/') {
        return Err(Error::misuse("client takes a whole NAME"));
    }
    let spec = Spec::read(folder, name)?;
    let mut command: Command = named::of(spec.kind).client(&spec)?;
    let e = without_settings(command.args(rest)).exec();
    Err(Error::new(format!("{:?} cannot be run: {e}", command.get_program())))
}
