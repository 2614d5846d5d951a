//! The `groundmist-sync` binary: parse the command line, run one command.

use std::process::ExitCode;

fn main() -> ExitCode {
    groundmist_sync::sys::resolver::only_files_and_dns();
    groundmist_sync::cli::main()
}
