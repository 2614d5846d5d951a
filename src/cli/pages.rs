//! The manual page and the shells' completions: made from the command line's definition, kept in `packaging/`.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::args::{AFTER_HELP, Args};

/// Set, the files are made anew instead of compared.
const WRITE: &str = "WRITE_PAGES";
const HOW: &str = "make it anew: WRITE_PAGES=1 cargo test --lib cli::pages";
const NAME: &str = "groundmist-sync";

const DESCRIPTION: [&str; 3] = [
    "Keeps the Automerge documents of one person's apps in step on all her devices, and lets nobody else in. It gets its own certificate, keeps everything in one directory, and needs no other server.",
    "Two settings are needed: domain, the name that leads to this machine, and owner, her ATProto (Bluesky) handle or DID. They stand in the configuration file, in the environment or, some, among the options; later ones win in that order.",
    "Commands that need the running server talk to it through the socket admin.sock in the data directory, and are for root and for the user that the server runs as.",
];
const FILES: [(&str, &str); 3] = [
    (
        "/etc/groundmist-sync/config.toml",
        "The configuration. groundmist-sync config check lists all settings.",
    ),
    ("/var/lib/groundmist-sync", "The data directory, unless data_dir says otherwise."),
    (
        "/var/lib/groundmist-sync/groundmist.redb",
        "Documents, approvals, sessions and the certificate. Copy it while the server is stopped only.",
    ),
];
const ENVIRONMENT: [(&str, &str); 2] = [
    (
        "GROUNDMIST_SYNC_SECTION__KEY",
        "Any setting, such as GROUNDMIST_SYNC_DOMAIN or GROUNDMIST_SYNC_LOG__LEVEL.",
    ),
    (
        "ATPROTO_DID, GROUNDMIST_SYNC_SECRET_KEY, PORT, DATA_DIR",
        "The prototype's names for owner, secret, listen.port and data_dir.",
    ),
];

/// Without the build in the version: the pages are the same for each.
fn command() -> Command {
    Args::command().version(env!("CARGO_PKG_VERSION"))
}

fn manual() -> String {
    let root = command();
    let mut page = Roff::new();
    page.control("SH", ["NAME"]).text([roman(format!("{NAME} - one person's Automerge sync server"))]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold(NAME), roman(" ["), italic("OPTIONS"), roman("] "), italic("COMMAND")]);
    page.control("SH", ["DESCRIPTION"]);
    for (number, paragraph) in DESCRIPTION.into_iter().enumerate() {
        if number > 0 {
            page.control("PP", []);
        }
        page.text([roman(paragraph)]);
    }
    page.control("SH", ["OPTIONS"]).text([roman("They may stand after the command as well.")]);
    // `roff` would lose the empty date: the page is the same whenever it is made.
    let title =
        concat!(".TH GROUNDMIST\\-SYNC 1 \"\" \"groundmist\\-sync ", env!("CARGO_PKG_VERSION"), "\"\n");
    let mut text = title.to_owned() + &page.render() + &options(root.clone());
    text += ".SH COMMANDS\n";
    commands(&root, NAME, &mut text);

    let mut page = Roff::new();
    let mut list = |title: &'static str, entries: &[(&str, &str)]| {
        page.control("SH", [title]);
        for (what, means) in entries {
            page.control("TP", []).text([bold(*what)]).text([roman(*means)]);
        }
    };
    list("FILES", &FILES);
    list("ENVIRONMENT", &ENVIRONMENT);
    let codes: Vec<_> =
        AFTER_HELP.lines().skip(1).filter_map(|line| line.trim_start().split_once("  ")).collect();
    let codes: Vec<_> = codes.iter().map(|(code, means)| (*code, means.trim_start())).collect();
    list("EXIT STATUS", &codes);
    page.control("SH", ["SEE ALSO"]).text([
        bold("systemctl"),
        roman("(1), "),
        bold("journalctl"),
        roman("(1)"),
    ]);
    text + &page.to_roff()
}

/// Each command that does something, in the order of `--help`.
fn commands(parent: &Command, path: &str, page: &mut String) {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            commands(command, &path, page);
            continue;
        }
        let mut named = command.clone().disable_help_flag(true).bin_name(&path);
        let usage = named.render_usage().to_string();
        let usage = usage.trim().trim_start_matches("Usage:").trim().replace(" [OPTIONS]", "");
        let mut section = Roff::new();
        section.control("SS", [usage.replace('\n', " ").replace('-', "\\-").as_str()]);
        for line in command
            .get_long_about()
            .or(command.get_about())
            .map(ToString::to_string)
            .iter()
            .flat_map(|text| text.lines())
        {
            match line {
                "" => section.control("PP", []),
                line => section.text([roman(line)]),
            };
        }
        *page += &section.to_roff();
        *page += &options(named);
    }
}

/// As `clap_mangen` shows them, without a title.
fn options(command: Command) -> String {
    let mut section = Vec::new();
    let command = command.disable_help_flag(true).disable_version_flag(true);
    Man::new(command).render_options_section(&mut section).unwrap();
    let section = String::from_utf8(section).unwrap();
    section.find(".TP").map_or(String::new(), |first| section[first..].to_owned())
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    // `help` would have every command once more.
    clap_complete::generate(shell, &mut command().disable_help_subcommand(true), NAME, &mut script);
    String::from_utf8(script).unwrap()
}

#[test]
fn pages_and_completions_are_those_of_the_command_line() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for (file, text) in [
        ("man/groundmist-sync.1", manual()),
        ("completions/groundmist-sync.bash", completions(Shell::Bash)),
        ("completions/_groundmist-sync", completions(Shell::Zsh)),
        ("completions/groundmist-sync.fish", completions(Shell::Fish)),
    ] {
        let path = packaging.join(file);
        if std::env::var_os(WRITE).is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        // Not assert_eq!: it would print both.
        assert!(there == text, "{} is not what the command line says now; {HOW}", path.display());
    }
}
