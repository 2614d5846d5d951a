//! Configuration: where values come from, what is refused, and that no secret is shown.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::{Path, PathBuf};
use std::time::Duration;

use groundmist_sync::appliance::options;
use groundmist_sync::config::{Approve, Config, ConfigError, Flags, Loaded, Problem, Sources, TlsMode};
use groundmist_sync::types::Did;
use tempfile::TempDir;

const SECRET: &str = "hunter2-hunter2-hunter2";

/// A place for configuration files, and sources that see nothing of this machine.
struct Place {
    dir: TempDir,
    sources: Sources,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let default_file = dir.path().join("default.toml");
        let sources =
            Sources { config: None, default_file, env: Vec::new(), flags: Flags::default(), dev: false };
        Self { dir, sources }
    }

    fn file(mut self, text: &str) -> Self {
        let path = self.dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        self.sources.config = Some(path);
        self
    }

    fn env(mut self, variables: &[(&str, &str)]) -> Self {
        self.sources.env.extend(variables.iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(&self.sources)
    }

    fn config(&self) -> Config {
        self.load().unwrap().config
    }

    fn problems(&self) -> Vec<Problem> {
        match self.load() {
            Err(ConfigError::Problems(problems)) => problems,
            other => panic!("expected problems, got {other:?}"),
        }
    }

    /// The only problem, as the owner reads it.
    fn problem(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    }
}

fn origin<'a>(loaded: &'a Loaded, key: &str) -> (&'a str, Option<&'a str>) {
    let row = loaded.settings.iter().find(|row| row.key == key).unwrap();
    (&row.origin, row.value.as_deref())
}

#[test]
fn defaults_alone_are_a_server_on_loopback() {
    let loaded = Place::new().load().unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:3030");
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/groundmist-sync"));
    assert!(config.owner.is_none() && config.secret.is_none() && !config.data_dir_is_temporary);
    assert_eq!(config.memory.budget, 56 << 20);
    // It goes by the machine.
    assert!((32 << 20..=4 << 30).contains(&config.memory.opener), "{}", config.memory.opener);
    assert!(config.limits.documents >= 10_000);
    let days = |days: u64| Duration::from_secs(days * 86_400);
    assert_eq!((config.access.token_life, config.access.session_max), (days(30), days(90)));
    assert_eq!(config.access.approve, Approve::Ask);
    assert_eq!((config.limits.authenticate, config.limits.authenticate_per_address), (1_000, 120));
    assert!(config.domain.is_none());
    assert!(config.access.probe && !config.access.allow_loopback_clients);
    assert!(loaded.settings.iter().all(|row| ["default", "not set"].contains(&row.origin.as_str())));
    let engine = options::engine(config);
    assert!((1..=2).contains(&engine.shards));
    assert_eq!((engine.request_timeout_ms, engine.compact_grace_ms), (10_000, 3_600_000));
    assert_eq!(engine.inbox_bytes, 40 << 20);
    assert_eq!(engine.opener.memory_bytes, config.memory.opener as u64);
    assert!(engine.opener.program.is_none(), "the server's own program");
    assert_eq!(engine.price, groundmist_sync::sync::price::Limits::default());
    assert_eq!(options::store(config).cache_bytes, 8 << 20);
}

#[test]
fn where_apps_come_and_how_often() {
    let place = Place::new()
        .file("domain = \"https://Sync.Example.org/\"\n[limits]\nauthenticate = 7\n")
        .env(&[("GROUNDMIST_SYNC_LIMITS__AUTHENTICATE_PER_ADDRESS", "9")]);
    let config = place.config();
    assert_eq!(config.domain.as_deref(), Some("sync.example.org"));
    assert_eq!((config.limits.authenticate, config.limits.authenticate_per_address), (7, 9));
}

#[test]
fn who_gets_in_is_set_in_words() {
    let file = "[access]\napprove = \"first-use\"\nallow_loopback_clients = true\nprobe = false\n";
    let access = Place::new().file(file).config().access;
    assert_eq!(
        (access.approve, access.allow_loopback_clients, access.probe),
        (Approve::FirstUse, true, false)
    );
    let problem = Place::new().file("[access]\napprove = \"always\"\n").problem();
    assert!(problem.contains("access.approve") && problem.contains("ask, first-use"), "{problem}");
    let problem = Place::new().env(&[("GROUNDMIST_SYNC_ACCESS__PROBE", "maybe")]).problem();
    assert!(
        problem.contains("GROUNDMIST_SYNC_ACCESS__PROBE") && problem.contains("true or false"),
        "{problem}"
    );
}

#[test]
fn the_prototypes_four_variables_are_enough() {
    let place = Place::new().env(&[
        ("ATPROTO_DID", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        ("GROUNDMIST_SYNC_SECRET_KEY", SECRET),
        ("PORT", "4040"),
        ("DATA_DIR", "/srv/data"),
    ]);
    let config = place.config();
    assert_eq!(config.owner.unwrap().did().map(Did::as_str), Some("did:plc:ewvi7nxzyoun6zhxrhs64oiz"));
    assert_eq!(config.secret.unwrap().as_bytes(), SECRET.as_bytes());
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:4040");
    assert_eq!(config.data_dir, PathBuf::from("/srv/data"));
}

/// As the image is, whose proxy is in another container.
#[test]
fn plain_connections_may_come_from_private_networks_that_are_named() {
    let from = ("GROUNDMIST_SYNC_LISTEN__PLAIN_FROM", "172.16.0.0/12, fd00::/8");
    let listen = Place::new().env(&[from]).config().listen;
    assert_eq!((listen.address.to_string(), listen.plain_from.len()), ("[::]:3030".into(), 2));
    let prototype = [from, ("PORT", "3031"), ("DATA_DIR", "/data")];
    assert_eq!(Place::new().env(&prototype).config().listen.address.to_string(), "[::]:3031");
    let named = [from, ("GROUNDMIST_SYNC_LISTEN__ADDRESS", "172.18.0.2:3030")];
    assert_eq!(Place::new().env(&named).config().listen.address.to_string(), "172.18.0.2:3030");
    let config = Place::new().env(&[from, ("GROUNDMIST_SYNC_DOMAIN", "sync.example.org")]).config();
    assert_eq!(config.tls, TlsMode::Acme, "with a domain it encrypts all the same");

    for internet in ["0.0.0.0/0", "::/0", "203.0.113.7"] {
        let problem = Place::new()
            .file(&format!("[listen]\nplain_from = [\"10.0.0.0/8\", \"{internet}\"]\n"))
            .problem();
        assert!(problem.contains(internet) && problem.contains("not a private network"), "{problem}");
    }
    let problem = Place::new().file("[listen]\naddress = \"0.0.0.0:3030\"\n").problem();
    assert!(problem.contains("listen.plain_from"), "{problem}");
}

#[test]
fn a_later_source_wins() {
    let file = "data_dir = \"/file\"\n[listen]\naddress = \"[::1]:1000\"\n[limits]\nrequests = 5\nmessage_bytes = \"1 MiB\"\n[log]\nlevel = \"warn\"\n";
    let mut place = Place::new().file(file).env(&[
        ("GROUNDMIST_SYNC_LIMITS__REQUESTS", "6"),
        ("PORT", "2000"),
        ("DATA_DIR", ""),
        ("HOME", "/x"),
    ]);
    place.sources.flags.log_level = Some("debug".into());
    let loaded = place.load().unwrap();
    assert_eq!(loaded.config.limits.requests, 6);
    assert_eq!(loaded.config.limits.message_bytes, 1 << 20);
    assert_eq!(loaded.config.listen.address.to_string(), "[::1]:2000", "the port alone is replaced");
    assert_eq!(loaded.config.data_dir, PathBuf::from("/file"), "an empty variable is unset");
    assert_eq!(origin(&loaded, "limits.requests"), ("variable GROUNDMIST_SYNC_LIMITS__REQUESTS", Some("6")));
    assert_eq!(origin(&loaded, "listen.address"), ("variable PORT", Some("[::1]:2000")));
    assert_eq!(origin(&loaded, "log.level"), ("flag --log-level", Some("debug")));
    let (from, value) = origin(&loaded, "limits.message_bytes");
    assert!(from.starts_with("line 6 of /") && value == Some("1 MiB"), "{from}");
    place.sources.flags.port = Some(0);
    assert_eq!(place.config().listen.address.port(), 0);
}

#[test]
fn files_may_be_missing_only_by_default() {
    let mut place = Place::new();
    assert!(place.load().is_ok());
    std::fs::write(&place.sources.default_file, "[sync]\nannounce = true\n").unwrap();
    assert!(place.config().sync.announce);
    place.sources.dev = true;
    assert!(!place.config().sync.announce, "--dev needs no file and reads none");
    place.sources.config = Some(place.dir.path().join("nowhere.toml"));
    let error = place.load().unwrap_err().to_string();
    assert!(error.contains("nowhere.toml") && error.contains("--config"), "{error}");
}

#[test]
fn dev_has_a_fresh_directory_unless_one_is_given() {
    let mut place = Place::new();
    place.sources.dev = true;
    let (one, two) = (place.config(), place.config());
    assert!(one.data_dir_is_temporary && one.data_dir != two.data_dir && !one.data_dir.exists());
    place.sources.flags.data_dir = Some("here".into());
    let given = place.config();
    assert!(!given.data_dir_is_temporary && given.data_dir.is_absolute() && given.data_dir.ends_with("here"));
}

#[test]
fn all_problems_are_listed_at_once_with_line_value_range_and_fix() {
    let place = Place::new()
        .file("onwer = \"did:plc:abc\"\n\n[limits]\nmessage_bytes = \"3 GiB\"\nrequests = 0\n[log]\nformat = \"xml\"\n[sync]\nrequest_timeout = \"soon\"\n")
        .env(&[("GROUNDMIST_SYNC_LIMITS__CONECTIONS", "5"), ("PORT", "80a")]);
    let shown = place.load().unwrap_err().to_string();
    for part in [
        "7 things to put right",
        "onwer (line 1 of ",
        "did you mean owner?",
        "\"3 GiB\" must be from 64 KiB to 1 GiB; the default is 32 MiB",
        "limits.requests (line 5 of ",
        "0 must be from 1 to 1000000; the default is 1000",
        "\"xml\" is not one of auto, text, json, journald",
        "\"soon\" is not a whole number and a unit",
        "did you mean GROUNDMIST_SYNC_LIMITS__CONNECTIONS?",
        "(variable PORT): \"80a\" is not a port",
    ] {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
}

#[test]
fn sizes_that_contradict_each_other_are_told_under_the_one_that_was_written() {
    let problem = |file: &str, env: &[(&str, &str)]| Place::new().file(file).env(env).problem();
    let message = ("GROUNDMIST_SYNC_LIMITS__MESSAGE_BYTES", "128 MiB");
    let inbox = ("GROUNDMIST_SYNC_LIMITS__INBOX_BYTES", "1 MiB");
    let shown = problem("", &[message]);
    let part = "limits.message_bytes (variable GROUNDMIST_SYNC_LIMITS__MESSAGE_BYTES): is too much for limits.inbox_bytes, which is 40 MiB by default";
    assert!(shown.contains(part), "{shown}");
    let shown = problem("", &[inbox]);
    let part = "limits.inbox_bytes (variable GROUNDMIST_SYNC_LIMITS__INBOX_BYTES): 1 MiB is too little for limits.message_bytes, which is 32 MiB (the default)";
    assert!(shown.contains(part), "{shown}");
    let shown = problem("[limits]\nmessage_bytes = \"2 MiB\"\n", &[inbox]);
    let part = "limits.inbox_bytes (variable GROUNDMIST_SYNC_LIMITS__INBOX_BYTES): 1 MiB is too little for limits.message_bytes, which is 2 MiB (line 2 of ";
    assert!(shown.contains(part), "{shown}");
    let both = [
        ("GROUNDMIST_SYNC_LIMITS__RECEIVE_BYTES", "32 MiB"),
        ("GROUNDMIST_SYNC_LIMITS__INBOX_BYTES", "1 GiB"),
        message,
    ];
    let shown = problem("", &both);
    let part = "limits.receive_bytes (variable GROUNDMIST_SYNC_LIMITS__RECEIVE_BYTES): 32 MiB is too little for limits.message_bytes, which is 128 MiB (variable GROUNDMIST_SYNC_LIMITS__MESSAGE_BYTES)";
    assert!(shown.contains(part), "{shown}");
    // Its default follows.
    let limits = Place::new().file("[limits]\nmessage_bytes = \"36 MiB\"\n").config().limits;
    assert_eq!(limits.receive_bytes, 52 << 20);
}

/// All files below a directory.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn every_limit_that_a_text_names_is_a_setting() {
    let settings = Place::new().load().unwrap().settings;
    let limits: Vec<&str> = settings.iter().filter_map(|row| row.key.strip_prefix("limits.")).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<_> = ["README.md", "SECURITY.md", "ARCHITECTURE.md"].map(|name| root.join(name)).into();
    ["src", "docs", "debian", "packaging"].iter().for_each(|dir| files(&root.join(dir), &mut all));
    let mut named = std::collections::BTreeSet::new();
    for path in all {
        // Pictures have no text.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (prefix, upper) in [("limits.", false), ("LIMITS__", true)] {
            for (at, _) in text.match_indices(prefix) {
                // A field of a variable is none, unless it is called as the section is.
                if text[..at].ends_with('.') {
                    continue;
                }
                let rest = &text[at + prefix.len()..];
                let end = rest.find(|c: char| !c.is_ascii_alphabetic() && c != '_').unwrap_or(rest.len());
                let name = if upper { rest[..end].to_ascii_lowercase() } else { rest[..end].to_owned() };
                // A method, a file, "limits.…", and the misspelt ones of the tests of misspelling.
                let is_other = ["", "clone", "rs", "mesage_bytes"].contains(&name.as_str());
                assert!(is_other || limits.contains(&name.as_str()), "{}: {prefix}{name}", path.display());
                named.insert(name);
            }
        }
    }
    for name in ["message_bytes", "documents", "requests", "inflated_bytes", "connections_per_session"] {
        assert!(named.contains(name), "no text names {name}");
    }
}

#[test]
fn every_kind_of_wrong_value_is_refused() {
    for (text, part) in [
        ("owner = \"alice\"", "handle such as"),
        ("owner = [\"a\"]", "single value"),
        ("[limits]\nrequests = 1.5", "1.5 is not a whole number"),
        ("[limits]\nrequests = -1", "-1 is not a whole number"),
        ("[limits]\nrequests = true", "true is not a whole number"),
        ("[limits]\nmessage_bytes = \"1.5 MiB\"", "is not a size"),
        ("[limits]\nmessage_bytes = 1", "must be from 64 KiB"),
        ("[limits]\nping_interval = 30", "30 is not a whole number and a unit"),
        ("[limits]\nping_interval = \"0s\"", "must be from 100ms"),
        ("[access]\ntoken_life = \"4000d\"", "must be from 1s to 3650d"),
        ("[access]\nsession_max = \"4000d\"", "must be from 1s to 3650d"),
        ("[sync]\nannounce = \"maybe\"", "write true or false"),
        (
            "[limits]\ninbox_bytes = \"1 MiB\"",
            "1 MiB is too little for limits.message_bytes, which is 32 MiB (the default)",
        ),
        ("[limits]\nreceive_bytes = \"32 MiB\"", "32 MiB is too little for limits.message_bytes"),
        ("[limits]\nreceive_rate = 0", "must be from 1"),
        ("[limits]\nsend_rate = 0", "must be from 1"),
        ("[limits]\nconnections_per_session = 0", "must be from 1"),
        ("limits = 5", "no such setting"),
        ("[limits]\nauthenticate = 0", "must be from 1"),
        ("[limits]\nauthenticate_per_address = 0", "must be from 1"),
        ("domain = \"https://sync.example/about\"", "not a host name"),
        ("domain = \"sync.example:8443\"", "not a host name"),
        ("domain = \"https://\"", "not a host name"),
        ("domain = \"192.168.1.5\"", "not a host name"),
        ("domain = \"localhost\"", "not a host name"),
        ("[identity]\nplc_directory = \"plc.example\"", "not an https: URL"),
        ("[identity]\nplc_directory = \"http://localhost:2582\"", "only with --dev"),
        ("[identity]\nplc_directory = \"https://plc.example/path\"", "without a path"),
        ("[identity]\nhosts = 5", "must be a list"),
        ("[identity]\nhosts = [\"pds.home.example=192.168.1.5\", 5]", "must be a list"),
        ("[identity]\nhosts = [\"pds.home.example\"]", "\"pds.home.example\" is not NAME=ADDRESS"),
        ("[identity]\nhosts = [\"10.0.0.1=192.168.1.5\"]", "does not begin with a DNS name"),
        ("[identity]\nca_file = \"/nonexistent/ca.pem\"", "no certificates"),
        ("[identity]\nca_file = \"/dev/null\"", "no certificates"),
        ("[identity]\nname_servers = \"dns.example\"", "not an address"),
        ("[listen]\naddress = \"localhost:1\"", "not an address and a port"),
        ("[listen]\nport = 65536", "not a port"),
        ("tls = \"files\"\n[certificate]\nchain_file = \"a\"\nkey_file = \"b\"", "\"files\" needs domain"),
        (
            "domain = \"sync.example.org\"\n[listen]\ntrusted_proxies = [\"10.0.0.1\"]",
            "is for a server behind a proxy that does the encryption, and tls is \"acme\" here",
        ),
    ] {
        let problem = Place::new().file(text).problem();
        assert!(problem.contains(part), "{text}: {problem}");
    }
    let deep = format!("data_dir = \"/{}\"", "d".repeat(100));
    assert!(Place::new().file(&deep).problem().contains("too long a path for the admin socket"));
}

#[test]
fn identity_has_defaults_and_lists() {
    let usual = options::identity(&Place::new().config());
    assert_eq!(usual, groundmist_sync::atproto::IdentityOptions::default());
    assert_eq!(usual.plc_directory.as_str(), "https://plc.directory/");

    let own = rcgen::generate_simple_self_signed(["pds.home.example".to_owned()]).unwrap();
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), own.cert.pem()).unwrap();
    let mut place = Place::new()
        .file("[identity]\nhosts = [\n  \"pds.home.example=192.168.1.5:8443\",\n  \"b.example=::1\",\n]\n")
        .env(&[
            ("GROUNDMIST_SYNC_IDENTITY__NAME_SERVERS", "9.9.9.9, [::1]:5353"),
            ("GROUNDMIST_SYNC_IDENTITY__CA_FILE", ca_file.path().to_str().unwrap()),
        ]);
    let loaded = place.load().unwrap();
    let options = options::identity(&loaded.config).http;
    assert_eq!(options.hosts.get("pds.home.example"), Some("192.168.1.5:8443".parse().unwrap()));
    assert_eq!(options.name_servers, ["9.9.9.9:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    assert_eq!(options.ca_file.as_deref(), Some(ca_file.path()));
    assert!(!options.allow_loopback);
    let (from, shown) = origin(&loaded, "identity.hosts");
    assert_eq!(shown, Some("pds.home.example=192.168.1.5:8443, b.example=::1"));
    assert!(from.starts_with("line 2 of "), "{from}");
    assert_eq!(origin(&loaded, "identity.name_servers").1, Some("9.9.9.9, [::1]:5353"));

    place.sources.dev = true;
    place
        .sources
        .env
        .push(("GROUNDMIST_SYNC_IDENTITY__PLC_DIRECTORY".into(), "http://localhost:2582".into()));
    let options = options::identity(&place.config());
    assert!(options.http.allow_loopback && options.plc_directory.as_str() == "http://localhost:2582/");
}

#[test]
fn an_authority_is_asked_again_no_sooner_than_it_bears() {
    let usual = Place::new().config().acme;
    assert_eq!((usual.retry, usual.check_reach), (Duration::from_secs(300), true));
    let acme = |more: &str| Place::new().file(&format!("[acme]\n{more}"));
    for text in ["retry = \"4m\"", "retry = \"1s\"\nstaging = true"] {
        let problem = acme(text).problem();
        assert!(problem.contains("acme.retry") && problem.contains("Let's Encrypt shuts out"), "{problem}");
    }
    for text in ["retry = \"500ms\"", "retry = \"2h\""] {
        assert!(acme(text).problem().contains("acme.retry"), "{text}");
    }
    let own = acme("retry = \"1s\"\ncheck_reach = false\ndirectory = \"https://ca.home.example/directory\"");
    let own = own.config().acme;
    assert_eq!((own.retry, own.check_reach), (Duration::from_secs(1), false));
    assert_eq!(acme("retry = \"1h\"").config().acme.retry, Duration::from_secs(3600));
}

#[test]
fn a_socket_that_others_can_reach_is_refused() {
    for address in ["0.0.0.0:3030", "192.168.1.2:3030", "[::]:3030"] {
        let problem = Place::new().file(&format!("[listen]\naddress = \"{address}\"")).problem();
        assert!(problem.contains("not encrypted") && problem.contains("127.0.0.1:3030"), "{problem}");
    }
    assert!(Place::new().file("[listen]\naddress = \"127.9.9.9:1\"").load().is_ok());
}

#[test]
fn conflicts_name_both_sides() {
    let place = Place::new()
        .env(&[("ATPROTO_DID", "did:web:a.example"), ("GROUNDMIST_SYNC_OWNER", "did:web:b.example")]);
    let problem = place.problem();
    assert!(problem.contains("ATPROTO_DID and GROUNDMIST_SYNC_OWNER"), "{problem}");
    let same = [("ATPROTO_DID", "did:web:a.example"), ("GROUNDMIST_SYNC_OWNER", "did:web:a.example")];
    assert!(Place::new().env(&same).load().is_ok());

    let place = Place::new();
    let path = place.dir.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    let place = place.env(&[
        ("GROUNDMIST_SYNC_SECRET_FILE", path.to_str().unwrap()),
        ("GROUNDMIST_SYNC_SECRET_KEY", SECRET),
    ]);
    assert!(place.problem().contains("both set"));
}

#[test]
fn a_secret_file_is_read_without_its_line_end() {
    let place = Place::new();
    let path = place.dir.path().join("secret");
    let place = place.env(&[("GROUNDMIST_SYNC_SECRET_FILE", path.to_str().unwrap())]);
    assert!(place.problem().contains("cannot be read"));
    for (text, fits) in [
        (format!("{SECRET}\r\n"), true),
        ("short\n\n\n\n\n\n\n\n\n\n\n\n\n\n".into(), false),
        ("x".repeat(5000), false),
    ] {
        std::fs::write(&path, &text).unwrap();
        match place.load() {
            Ok(loaded) => {
                assert!(fits);
                assert_eq!(loaded.config.secret.unwrap().as_bytes(), SECRET.as_bytes());
            }
            Err(error) => assert!(!fits && !error.to_string().contains("xxxx"), "{error}"),
        }
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let good = Place::new().file(&format!("secret = \"{SECRET}\"")).load().unwrap();
    assert_eq!(origin(&good, "secret").1, Some("(not shown)"));
    let mut shown = format!("{good:?}");
    for bad in [
        "secret = \"hunter2\"".to_owned(),
        "secret = [\"hunter2\"]".into(),
        "sekret = \"hunter2\"".into(),
        "secret = \"hunter2".into(),
        "secret = hunter2".into(),
        "secret = \"hunter2\"\nsecret = \"hunter2\"".into(),
    ] {
        let error = Place::new().file(&bad).load().unwrap_err();
        shown += &format!("{error} {error:?}\n");
    }
    let short = Place::new().env(&[("GROUNDMIST_SYNC_SECRET_KEY", "hunter2")]).problem();
    assert!(
        short.contains("7 bytes") && short.contains("at least 16") && short.contains("openssl"),
        "{short}"
    );
    shown += &short;
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let error = Place::new().file("owner = 'did:plc:abc'\n[limits\n").load().unwrap_err().to_string();
    assert!(error.contains("line 2 of ") && error.contains("config.toml"), "{error}");
}
