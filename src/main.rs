//! The `groundmist-sync` binary: parse the command line, run one command.

use std::process::ExitCode;

fn main() -> ExitCode {
    groundmist_sync::cli::main()
}
