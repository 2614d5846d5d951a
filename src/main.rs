//! The `groundmist-sync` binary: parse the command line, run one command.

use std::process::ExitCode;

mod nss;

fn main() -> ExitCode {
    nss::only_files_and_dns();
    groundmist_sync::cli::main()
}
