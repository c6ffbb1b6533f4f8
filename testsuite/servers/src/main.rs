//! Gets, starts and stops real servers: see `ci/servers help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv_servers::program::main()
}
