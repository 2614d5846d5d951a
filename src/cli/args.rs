//! The command line's shape and its help.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0   done
  1   it failed, or status or doctor found something that does not work, or what setup started has no certificate
  2   the command line is not understood, or lacks what cannot be asked for without a terminal
  69  the command needs the running server and there is none
  70  serve: a part of the server failed and it cannot go on; start it again, as systemd does
  78  the configuration has to be put right";

/// Version, and in brackets commit, processor and C library (`build.rs`).
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("GROUNDMIST_BUILD"), ")");

/// One person's Automerge sync server.
#[derive(Debug, Parser)]
#[command(name = "groundmist-sync", version = VERSION, after_help = AFTER_HELP, max_term_width = 100)]
pub(super) struct Args {
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Configuration file [default: /etc/groundmist-sync/config.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Directory of the store, the secret and the admin socket [default: /var/lib/groundmist-sync]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the server until it is told to stop
    Serve(Serve),
    /// Make, list and revoke the sync tokens of devices (needs the running server)
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Decide which apps get in, and see which have asked (needs the running server)
    Apps {
        #[command(subcommand)]
        command: AppsCommand,
    },
    /// See who is connected as what, and end it (needs the running server)
    Sessions {
        #[command(subcommand)]
        command: SessionsCommand,
    },
    /// Look at the documents, take them out and in as .automerge files, delete and restore them
    ///
    /// Asks the running server, or opens the data directory itself while the server is stopped.
    Docs {
        #[command(subcommand)]
        command: DocsCommand,
    },
    /// Take over the data directory of the prototype, or any that automerge-repo's NodeFSStorageAdapter wrote
    ///
    /// Merges every document into what is here and says what became of each. It changes nothing in DIR and can be run
    /// again, while the server runs and while it is stopped.
    Import(Import),
    /// Say how the running server is
    Status,
    /// Print a link that signs a browser in on the owner's page (needs the running server)
    ///
    /// For when you cannot sign in with your account, because its server is down or cannot reach this one. Open the link within
    /// 10 minutes and press the button on its page; it works once. Whoever presses the button first is signed in as the owner,
    /// so show the link to nobody.
    SignIn,
    /// Write everything into one file, while the server runs or when it is stopped
    ///
    /// Documents, sessions, what you decided about apps, keys and certificates: whoever has the file can act as this
    /// server, so keep it private. It appears whole or not at all, and never over another one.
    Backup(Backup),
    /// Put a backup in place of what is there (stop the server first)
    ///
    /// The whole backup is checked before anything is replaced; what was there is kept under another name.
    Restore(Restore),
    /// Change the secret that signs sync tokens
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
    /// Have the running server read its configuration again
    ///
    /// Says what has changed and what needs a restart. If anything is wrong with the configuration, nothing changes.
    Reload,
    /// Set the server up: three answers, each checked, and it runs with a certificate
    ///
    /// Asks for the name, the owner and an e-mail address, writes the configuration, offers to publish where the server
    /// is, starts it and waits for its certificate. Run it again to change things: Enter keeps what is there. Without a
    /// terminal it takes flags, and goes by the configuration for what they do not give. Needs root.
    Setup(Setup),
    /// Tell apps where this server is, by a record in your own repository
    ///
    /// Shows what is there and what will be, asks, and writes the record xyz.groundmist.sync to your PDS. For that it
    /// needs an app password, which you make in your account's settings: it asks for it, or without a terminal reads it
    /// from standard input.
    Publish(Publish),
    /// Look at everything that has to be right, and say how to mend what is not
    Doctor(Doctor),
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Try it out: no configuration needed, fresh data that is removed at the end unless --data-dir is
    /// given, and a URL with a token on stdout
    #[arg(long)]
    pub(super) dev: bool,
    /// Port to listen on, 0 for any free one [default: 3030]
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<u16>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// auto, text, json or journald [default: auto]
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    /// The file, or - for standard output [default: one with date and time in its name, here]
    #[arg(value_name = "FILE|-", conflicts_with = "to")]
    pub(super) file: Option<PathBuf>,
    /// Overwrite FILE
    #[arg(long, requires = "file")]
    pub(super) force: bool,
    /// Directory for a file with date and time in its name
    #[arg(long, value_name = "DIR")]
    pub(super) to: Option<PathBuf>,
    /// Then remove the oldest such files in DIR, so that NUMBER are left
    #[arg(long, value_name = "NUMBER", requires = "to")]
    pub(super) keep: Option<NonZeroUsize>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The backup, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(super) file: PathBuf,
    /// Also if there are documents; they are kept under another name
    #[arg(long)]
    pub(super) force: bool,
    /// Only check whether the backup is whole
    #[arg(long)]
    pub(super) check: bool,
    /// Then make a new signing secret, as `secret rotate` does: somebody else may have the backup too
    #[arg(long, conflicts_with = "check")]
    pub(super) rotate_secret: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a sync token and print it; it cannot be shown again
    Create(CreateToken),
    /// List sync tokens, those that expired lately included
    List,
    /// Revoke a sync token and close its connections
    Revoke {
        /// The id, or the name if only one has it
        #[arg(value_name = "ID|NAME")]
        id_or_name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateToken {
    /// What you call the device
    #[arg(long)]
    pub(super) name: String,
    /// The app's lexicon authority domain, such as xyz.example: the token sees its documents only
    #[arg(long, value_name = "DOMAIN")]
    pub(super) namespace: String,
    /// It may only read
    #[arg(long)]
    pub(super) read_only: bool,
    /// How long it is good for, such as 12h or 30d [default: access.token_life, 30d]
    #[arg(long, value_name = "TIME")]
    pub(super) expires: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum AppsCommand {
    /// List the apps you decided about
    List,
    /// List the apps that asked and wait for your decision
    Pending,
    /// Let an app in
    ///
    /// By client_id without a namespace: where the app waits, or if it waits nowhere, where something is decided about it.
    Approve {
        #[command(flatten)]
        app: WhichApp,
        /// It may only read
        #[arg(long)]
        read_only: bool,
    },
    /// Refuse an app from now on, and end its sessions
    ///
    /// By client_id without a namespace: everywhere the app waits, or if it waits nowhere, everywhere it is approved.
    Deny {
        #[command(flatten)]
        app: WhichApp,
    },
    /// Take an approval back and end the app's sessions; if it asks again it waits for you again
    ///
    /// By client_id without a namespace: everywhere the app is approved.
    Revoke {
        #[command(flatten)]
        app: WhichApp,
    },
    /// Forget which document an app's devices start from
    ///
    /// Its devices are then told another document that one of them offered and that is stored, or else the next one that a
    /// device offers. The forgotten document stays; `docs delete` deletes it.
    ForgetRoot {
        /// The app's client_id
        #[arg(value_name = "CLIENT_ID")]
        client_id: String,
        /// Namespace, if the app's devices start from a document in several
        #[arg(long, value_name = "DOMAIN")]
        namespace: Option<String>,
    },
    /// Show what was decided, who entered and who was refused
    Log,
}

#[derive(Debug, clap::Args)]
pub(super) struct WhichApp {
    /// Its number in `apps pending`, or its client_id
    #[arg(value_name = "NUMBER|CLIENT_ID")]
    pub(super) app: String,
    /// Namespace that the command is about
    #[arg(long, value_name = "DOMAIN")]
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List all sessions, of apps and of tokens, those that expired lately included
    List,
    /// End a session and close its connections
    Revoke {
        /// The id, or the name if only one has it
        #[arg(value_name = "ID|NAME", required_unless_present = "all", conflicts_with = "all")]
        id_or_name: Option<String>,
        /// End every session and token; every device has to authenticate again
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Make a new secret, and end every session and token, while the server runs or is stopped
    ///
    /// For when somebody may have read the secret: whoever has it, or a backup, can act as any device. Apps that you approved
    /// stay approved, and their devices authenticate again by themselves. Tokens made by command have to be made anew. A secret
    /// that the configuration gives is changed there instead.
    Rotate,
}

#[derive(Debug, Subcommand)]
pub(super) enum DocsCommand {
    /// List all documents
    List {
        /// Of this namespace only
        #[arg(long, value_name = "DOMAIN")]
        namespace: Option<String>,
        /// Those that are deleted and can be restored
        #[arg(long)]
        deleted: bool,
    },
    /// Show a document's heads, sizes and times
    Show {
        /// Where it is, such as xyz.example
        #[arg(value_name = "NAMESPACE")]
        namespace: String,
        /// Its id
        #[arg(value_name = "DOCUMENT")]
        document: String,
    },
    /// Delete a document; for 30 days it can be restored
    ///
    /// It goes from the server, and devices that still have it do not bring it back. Their own copies stay.
    Delete {
        #[command(flatten)]
        which: WhichDocument,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Bring a deleted document back, as it was
    Restore {
        #[command(flatten)]
        which: WhichDocument,
    },
    /// Delete a deleted document for good, before its 30 days are over
    ///
    /// Its bytes go, and its id is never taken again.
    Purge {
        #[command(flatten)]
        which: WhichDocument,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Forget what went wrong with a document, and allow the server to open it again
    ///
    /// A document stays closed after opening it has failed twice in a row, mostly for want of memory. It keeps syncing.
    /// `status` names closed documents, documents that could not be opened, and documents of which a device sent too much
    /// at once. For the last kind this command only ends the warning: raise the limit that `status` names and restart the
    /// server.
    Retry {
        #[command(flatten)]
        which: WhichDocument,
    },
    /// Write a document to a file, or all of them to a directory
    Export(DocsExport),
    /// Take documents in from .automerge files, or from a directory that `docs export --all` wrote
    ///
    /// A document that is here already is merged with what the file has.
    Import(DocsImport),
}

#[derive(Debug, clap::Args)]
pub(super) struct WhichDocument {
    /// Where it is, such as xyz.example
    #[arg(value_name = "NAMESPACE")]
    pub(super) namespace: String,
    /// Its id
    #[arg(value_name = "DOCUMENT")]
    pub(super) document: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct DocsExport {
    /// Where it is, such as xyz.example; with --all the one namespace that is wanted
    #[arg(value_name = "NAMESPACE", required_unless_present = "all")]
    pub(super) namespace: Option<String>,
    /// Its id
    #[arg(value_name = "DOCUMENT", required_unless_present = "all", conflicts_with = "all")]
    pub(super) document: Option<String>,
    /// Where to, or - for standard output [default: DOCUMENT.automerge]
    #[arg(value_name = "FILE", conflicts_with = "all")]
    pub(super) file: Option<PathBuf>,
    /// All documents, as DIR/NAMESPACE/DOCUMENT.automerge; files that are there are replaced
    #[arg(long, value_name = "DIR")]
    pub(super) all: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DocsImport {
    /// Where the files' documents go, such as xyz.example; without files a directory with one for each namespace
    #[arg(value_name = "NAMESPACE|DIR")]
    pub(super) target: String,
    /// What automerge saved; its name is the document's id, else the document gets a new one
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The id of the one file's document
    #[arg(long = "as", value_name = "DOCUMENT")]
    pub(super) document: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The prototype's DATA_DIR: a directory for each lexicon authority domain
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// DIR is the documents of this one namespace
    #[arg(long, value_name = "DOMAIN")]
    pub(super) namespace: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Setup {
    /// Name by which apps reach this server, such as sync.example.com
    #[arg(long, value_name = "NAME")]
    pub(super) domain: Option<String>,
    /// Your handle or DID
    #[arg(long, value_name = "HANDLE|DID")]
    pub(super) owner: Option<String>,
    /// E-mail address that the certificate authority may write to; - for none
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    pub(super) email: Option<String>,
    /// Have certificates from Let's Encrypt's test authority: nobody trusts them, and its limits are wide
    #[arg(long, conflicts_with = "no_staging")]
    pub(super) staging: bool,
    /// Have real certificates again
    #[arg(long)]
    pub(super) no_staging: bool,
    /// Write the record that tells apps where this server is, without asking whether; wants an app password
    #[arg(long, conflicts_with = "no_publish")]
    pub(super) publish: bool,
    /// Do not offer to
    #[arg(long)]
    pub(super) no_publish: bool,
    /// Do not start the server
    #[arg(long)]
    pub(super) no_start: bool,
    /// Ask nothing, and go on in spite of warnings
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    /// Name by which apps find this server, such as sync.example.com [default: domain]
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    /// Remove the record instead
    #[arg(long, conflicts_with = "host")]
    pub(super) remove: bool,
    /// Do not ask before writing
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Name by which apps are to find this server, such as sync.example.com [default: domain]
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check everything and show each setting with where it comes from
    Check,
    /// Print what the configuration file sets a key to: nothing if it does not, a line for each value of a list
    Get {
        /// Such as domain, or acme.contact
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Change settings in the configuration file, and keep its comments
    ///
    /// Makes the file if there is none. If anything were wrong with the configuration then, nothing is changed. The
    /// running server takes it up by `reload`, or by a restart.
    Set {
        /// Such as domain=sync.example.com, of a list with commas between the values; KEY= removes the setting
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = change)]
        changes: Vec<(String, String)>,
    },
}

fn change(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.trim().into())),
        _ => Err("write KEY=VALUE, such as domain=sync.example.com".into()),
    }
}
