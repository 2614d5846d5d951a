//! Command line: parse, run one command.
//!
//! Results go to stdout, hints and errors to stderr; with `--json` both are JSON. Exit codes are in [`Exit`].

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use crate::config::{Config, ConfigError, Flags, Loaded, Sources, WriteError};
use crate::engine::{OPENER_COMMAND, open_document};
use crate::store::StoreError;
use args::{Args, Command, ConfigCommand, SecretCommand, SessionsCommand, TokenCommand};

mod account;
mod admin_client;
mod apps;
mod args;
mod backup;
mod backup_file;
mod config_check;
mod config_file;
mod doctor;
mod documents;
mod hidden_input;
#[cfg(test)]
mod pages;
mod progress;
mod publish;
mod reload;
mod restore;
mod secret;
mod serve;
mod sessions;
mod setup;
mod sign_in;
mod status;
mod stopped;
mod text;
mod token;

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// It failed; or `status` found the server in trouble, `doctor` anything that does not work, or `setup` wrote the
    /// configuration and the rest did not come to an end.
    Failure = 1,
    /// The command line is not understood, or lacks what cannot be asked for without a terminal.
    Usage = 2,
    /// The command needs the running server and there is none (`EX_UNAVAILABLE`).
    NotRunning = 69,
    /// A part of the server failed and it cannot go on (`EX_SOFTWARE`): start it again, as systemd does.
    Broken = 70,
    /// The configuration has to be put right, or the store needs a newer version (`EX_CONFIG`): the same again would
    /// fail the same way.
    Config = 78,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the configuration names cannot be used as it is.
    #[error("{0}")]
    Setting(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotRunning(String),
    #[error("{0}")]
    Broken(String),
    /// With the code that JSON output carries.
    #[error("{message}")]
    Failed { code: String, message: String },
}

impl CliError {
    fn failed(code: &str, message: impl ToString) -> Self {
        Self::Failed { code: code.into(), message: message.to_string() }
    }

    fn code(&self) -> &str {
        match self {
            Self::Config(_) | Self::Setting(_) => "config",
            Self::Usage(_) => "usage",
            Self::NotRunning(_) => "not_running",
            Self::Broken(_) => "broken",
            Self::Failed { code, .. } => code,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Setting(_) => Exit::Config,
            Self::Usage(_) => Exit::Usage,
            Self::NotRunning(_) => Exit::NotRunning,
            Self::Broken(_) => Exit::Broken,
            // The running server's word, of its configuration.
            Self::Failed { code, .. } if code == "config" => Exit::Config,
            Self::Failed { .. } => Exit::Failure,
        }
    }
}

impl From<crate::appliance::Error> for CliError {
    fn from(error: crate::appliance::Error) -> Self {
        match error {
            crate::appliance::Error::Died(_) => Self::Broken(error.to_string()),
            crate::appliance::Error::Certificate(wrong) => Self::Setting(wrong.to_string()),
            // Trying again would not help either.
            crate::appliance::Error::Store { source: StoreError::Newer { .. }, .. } => {
                Self::Setting(error.to_string())
            }
            error => Self::failed("start", error),
        }
    }
}

impl From<WriteError> for CliError {
    fn from(error: WriteError) -> Self {
        Self::failed("not_written", error)
    }
}

/// Runs the command of the process arguments.
pub fn main() -> ExitCode {
    // The server starts itself this way to open a large document. It is no command for people, so neither help nor completions
    // have it.
    if std::env::args_os().skip(1).eq([OPENER_COMMAND]) {
        return open_document();
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // clap's own texts; `--help` and `--version` are among its errors and go to stdout.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Success as u8 });
        }
    };
    let exit = run(&args).unwrap_or_else(|error| {
        if args.json {
            let body = serde_json::json!({ "error": error.code(), "message": error.to_string() });
            let _ = writeln!(std::io::stderr(), "{body}");
        } else {
            let _ = writeln!(std::io::stderr(), "error: {error}");
        }
        error.exit()
    });
    ExitCode::from(exit as u8)
}

fn run(args: &Args) -> Result<Exit, CliError> {
    match &args.command {
        Command::Serve(flags) => {
            let sources = sources(args, Some(flags));
            serve::run(Config::load(&sources)?, sources)
        }
        Command::Reload => reload::run(load(args), args.json),
        Command::Token { command } => {
            let config = load(args)?.config;
            match command {
                TokenCommand::Create(wanted) => token::create(&config, wanted, args.json),
                TokenCommand::List => token::list(&config, args.json),
                TokenCommand::Revoke { id_or_name } => token::revoke(&config, id_or_name, args.json),
            }
        }
        Command::Apps { command } => apps::run(&load(args)?.config, command, args.json),
        Command::Sessions { command } => {
            let config = load(args)?.config;
            match command {
                SessionsCommand::List => sessions::list(&config, args.json),
                SessionsCommand::Revoke { id_or_name: Some(which), .. } => {
                    sessions::revoke(&config, which, args.json)
                }
                SessionsCommand::Revoke { id_or_name: None, .. } => sessions::revoke_all(&config, args.json),
            }
        }
        Command::Docs { command } => documents::run(&load(args)?.config, command, args.json),
        Command::Import(wanted) => documents::import(&load(args)?.config, wanted, args.json),
        Command::Backup(wanted) => backup::run(&load(args)?.config, wanted, args.json),
        Command::Restore(wanted) => restore::run(&load(args)?.config, wanted, args.json),
        Command::Secret { command: SecretCommand::Rotate } => secret::rotate(&load(args)?.config, args.json),
        Command::SignIn => sign_in::run(&load(args)?.config, args.json),
        Command::Status => status::run(&load(args)?.config, args.json),
        Command::Setup(wanted) => setup::run(&sources(args, None), wanted, args.json),
        Command::Publish(wanted) => publish::run(&load(args)?.config, wanted, args.json),
        Command::Doctor(wanted) => doctor::run(load(args), wanted, args.json),
        Command::Config { command } => match command {
            ConfigCommand::Check => config_check::run(load(args), args.json),
            ConfigCommand::Get { key } => config_file::get(&sources(args, None), key, args.json),
            ConfigCommand::Set { changes } => config_file::set(&sources(args, None), changes, args.json),
        },
    }
}

fn sources(args: &Args, serve: Option<&args::Serve>) -> Sources {
    let flags = Flags {
        data_dir: args.data_dir.clone(),
        port: serve.and_then(|serve| serve.port),
        log_level: serve.and_then(|serve| serve.log_level.clone()),
        log_format: serve.and_then(|serve| serve.log_format.clone()),
    };
    let dev = serve.is_some_and(|serve| serve.dev);
    Sources::of_process(args.config.clone(), flags, dev)
}

fn load(args: &Args) -> Result<Loaded, ConfigError> {
    Config::load(&sources(args, None))
}

/// What commands wait with for other servers, and for ours.
fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread().enable_all().build().map_err(|error| CliError::failed("internal", error))
}

/// Writes a result; a reader that has gone away is not an error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| CliError::failed("internal", error))?;
    print(&format!("{text}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_to_start_it_anew() {
        let died = CliError::from(crate::appliance::Error::Died("journal".into()));
        assert_eq!((died.exit() as u8, died.code()), (70, "broken"));
        let newer = StoreError::Newer { object: "it".into(), needs: 9, knows: 1 };
        let newer = CliError::from(crate::appliance::Error::Store { path: "it".into(), source: newer });
        assert_eq!(newer.exit(), Exit::Config, "{newer}");
        let other = CliError::from(crate::appliance::Error::Engine(std::io::ErrorKind::OutOfMemory.into()));
        assert_eq!((other.exit() as u8, other.code()), (1, "start"));
        assert_eq!(CliError::failed("config", "no").exit(), Exit::Config);
    }
}
