//! Command line: parse, run one command.

/// Runs the command of the process arguments.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
