//! `setup`: by flags, and on a terminal as a person answers it; what it starts, and what it waits for.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::account::{ALICE, Account, DOMAIN, HANDLE, PASSWORD, on_terminal, reply};
use crate::common::{Authority, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_groundmist-sync");
/// A certificate authority that nobody is at, so that each answer is there at once.
const NOBODY: &str = "https://127.0.0.1:1/dir";
const GIVEN: &[&str] =
    &["--domain", "Sync.example.org", "--owner", "@alice.internal", "--email", "a@example.org"];
const WRITTEN: &str =
    "domain = \"sync.example.org\"\nowner = \"alice.internal\"\n\n[acme]\ncontact = \"a@example.org\"\n";

/// Alice's account, and a machine without a configuration.
struct Scene {
    account: Account,
    place: TempDir,
    more: Vec<(&'static str, String)>,
}

impl Scene {
    async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("bin")).unwrap();
        Self { account: Account::new().await, place, more: vec![("ACME__DIRECTORY", NOBODY.into())] }
    }

    fn file(&self) -> PathBuf {
        self.place.path().join("etc/config.toml")
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(self.file()).ok()
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let file = self.file();
        let mut command =
            self.account.command("", &[&["setup", "--config", file.to_str().unwrap()], arguments].concat());
        for name in ["LISTEN__HTTPS", "LISTEN__HTTP"] {
            command.env(format!("GROUNDMIST_SYNC_{name}"), "127.0.0.1:0");
        }
        for (name, value) in &self.more {
            command.env(format!("GROUNDMIST_SYNC_{name}"), value);
        }
        command.env("PATH", self.place.path().join("bin"));
        command
    }

    /// Without a terminal: exit code, stdout, stderr.
    fn run(&self, arguments: &[&str], input: Stdio) -> (i32, String, String) {
        let ran = self.command(arguments).stdin(input).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ran.status.code().unwrap(), text(ran.stdout), text(ran.stderr))
    }

    /// On a terminal: waits for each question, answers it; whether it succeeded, and all that was shown.
    fn converse(&self, arguments: &[&str], dialogue: &[(&str, &str)]) -> (bool, String) {
        let command = self.command(arguments);
        let mut child = on_terminal(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut shown = String::new();
        for (question, answer) in dialogue {
            shown += &reply(&mut child, question, answer);
        }
        child.stdout.as_mut().unwrap().read_to_string(&mut shown).unwrap();
        (child.wait().unwrap().success(), shown)
    }

    /// A stand-in for systemctl: it notes what it is told, and starts the server as systemd would. The real one is met in
    /// booted systems by the package's own tests.
    fn stand_in(&self) -> Started {
        let dir = self.place.path();
        let (path, log, pid) = (dir.join("bin/systemctl"), dir.join("told"), dir.join("pid"));
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>'{log}'\ncase $1 in\nshow) echo loaded;;\nis-active) exit 3;;\nenable)\n\
             [ -e '{pid}' ] || {{ '{BINARY}' serve --config '{file}' --data-dir '{data}' </dev/null >/dev/null 2>'{dir}/log' &\n\
             echo $! >'{pid}'; }};;\nesac\n",
            log = log.display(),
            pid = pid.display(),
            file = self.file().display(),
            data = self.account.dir.path().display(),
            dir = dir.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Started { log, pid }
    }
}

/// What was told to systemctl; the server that it started is ended when this goes.
struct Started {
    log: PathBuf,
    pid: PathBuf,
}

impl Started {
    /// Commands that change something, since the last time.
    fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let _ = fs::remove_file(&self.log);
        let reads = |line: &&str| !line.starts_with("show ") && !line.starts_with("is-active ");
        text.lines().filter(reads).map(str::to_owned).collect()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let Ok(pid) = fs::read_to_string(&self.pid) else { return };
        let pid = pid.trim();
        let _ = Command::new("kill").arg(pid).status();
        wait_for("the server to end", || (!Path::new("/proc").join(pid).join("exe").exists()).then_some(()));
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_are_enough() {
    let scene = Scene::new().await;
    let all = [GIVEN, &["--json"]].concat();
    // Standard input that says nothing, and does not end: a prompt would hang.
    let (code, out, err) = scene.run(&all, Stdio::piped());
    assert_eq!(code, 0, "{err}");
    let said = json(&out);
    assert_eq!(
        (&said["ok"], &said["changed"], &said["started"]),
        (&true.into(), &true.into(), &false.into())
    );
    assert_eq!((&said["did"], &said["address"]), (&ALICE.into(), &format!("https://{DOMAIN}").into()));
    assert_eq!(said["published"], Value::Null);
    let found = said["warnings"][0]["found"].as_str().unwrap();
    assert!(found.contains("certificate authority") && err.contains(found), "{said}");
    assert_eq!(scene.text().as_deref(), Some(WRITTEN));

    // Again: what is there counts, and one thing is changed.
    let (code, out, err) = scene.run(&["--yes", "--json"], Stdio::null());
    assert_eq!((code, &json(&out)["changed"]), (0, &false.into()), "{err}");
    let (code, ..) = scene.run(&["--email", "-", "--yes", "--no-start"], Stdio::null());
    assert_eq!(code, 0);
    assert!(!scene.text().unwrap().contains("contact"));
    scene.run(&["--publish", "--yes"], Stdio::null());
    assert_eq!(scene.account.record(), None, "there was no password");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_wrong_is_named_and_nothing_is_written() {
    let owner = &["--owner", HANDLE][..];
    let domain = &["--domain", DOMAIN][..];
    type Case<'a> = (Option<&'a str>, Vec<&'a str>, i32, &'a [&'a str]);
    let cases: Vec<Case<'_>> = vec![
        (None, vec![], 2, &["--domain NAME and --owner HANDLE"]),
        (None, vec!["--yes", "--domain", DOMAIN], 2, &["give --owner HANDLE"]),
        (None, [&["--domain", "https://x.example/about"], owner].concat(), 2, &["--domain: ", "host name"]),
        (None, [domain, &["--owner", "alice"]].concat(), 2, &["--owner: ", "handle"]),
        (None, [domain, owner, &["--email", "nobody"]].concat(), 2, &["--email: ", "e-mail"]),
        (None, vec!["--staging", "--no-staging"], 2, &["--staging"]),
        (Some("ownr = 'x'\n"), GIVEN.to_vec(), 78, &["did you mean owner?", "nothing was changed"]),
        (Some("x\n"), GIVEN.to_vec(), 78, &["line 1 of"]),
    ];
    for (file, arguments, code, parts) in cases {
        let scene = Scene::new().await;
        if let Some(text) = file {
            scene.write(text);
        }
        let (found, out, err) = scene.run(&arguments, Stdio::null());
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{arguments:?}: {err}");
        assert_eq!(scene.text().as_deref(), file, "{arguments:?}");
    }
}

/// Who may not write there is told so before any question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_is_needed_from_the_start() {
    let scene = Scene::new().await;
    scene.write("");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let program = scene.place.path().join("program");
    fs::copy(BINARY, &program).unwrap();
    let etc = scene.file().parent().unwrap().to_owned();
    for (path, bits) in [(scene.place.path(), 0o755), (&program, 0o755), (&etc, 0o555)] {
        mode(path, bits);
    }
    let mut command = Command::new(&program);
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    }
    let ran = command.args(["setup", "--config"]).arg(scene.file()).stdin(Stdio::null()).output().unwrap();
    mode(&etc, 0o755);
    let err = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.code() == Some(1) && err.contains("as root (sudo)"), "{err}");
}

const NAME: &str = "such as sync.example.com: ";
const WHO: &str = "or your DID: ";
const MAIL: &str = "Enter for none: ";
const GO_ON: &str = "Go on all the same? [y/N] ";
const RECORD: &str = "Write this? [y/N] ";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_and_each_answer_is_checked() {
    let scene = Scene::new().await;
    let password = format!("{PASSWORD}\n");
    let (done, shown) = scene.converse(
        &[],
        &[
            (NAME, "\n"),
            (NAME, "sync.example.org:8443\n"),
            (NAME, "nowhere.example.org\n"),
            (GO_ON, "n\n"),
            (NAME, "https://Sync.example.org/\n"),
            (WHO, "nobody.internal\n"),
            (GO_ON, "\n"),
            (WHO, "https://bsky.app/profile/alice.internal\n"),
            (MAIL, "a@example\n"),
            (MAIL, "a@example.org\n"),
            (GO_ON, "y\n"), // the certificate authority is down
            (RECORD, "y\n"),
            ("not your own password): ", &password),
        ],
    );
    assert!(done, "{shown}");
    assert_eq!(scene.text().as_deref(), Some(WRITTEN));
    assert_eq!(scene.account.record().unwrap()["host"], DOMAIN);
    for part in [
        "has to be known",
        "is not a host name",
        "DNS has no name nowhere.example.org",
        "make an A record",
        "sync.example.org is at 1.1.1.1",
        &format!("alice.internal leads to {ALICE}"),
        "is not an e-mail address",
        "Published, and read back",
        "groundmist-sync serve",
        "https://sync.example.org",
        "groundmist-sync apps approve 1",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert!(!shown.contains(PASSWORD));

    // Enter keeps everything; the record is as it should be.
    let (done, shown) = scene.converse(
        &[],
        &[
            ("[sync.example.org]: ", "\n"),
            ("[alice.internal]: ", "\n"),
            ("[a@example.org]: ", "\n"),
            (GO_ON, "y\n"),
        ],
    );
    assert!(done && shown.contains("Nothing to change in") && shown.contains("nothing to do"), "{shown}");
    assert_eq!(scene.text().as_deref(), Some(WRITTEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_and_the_end_of_input_leave_nothing_half_written() {
    let answers = [(NAME, "sync.example.org\n"), (WHO, "alice.internal\n"), (MAIL, "\n"), (GO_ON, "y\n")];
    for (asked, key) in [(1, "\x03"), (2, "\x03"), (2, "\x04"), (3, "\x03"), (4, "\x03"), (4, "n\n")] {
        let scene = Scene::new().await;
        let mut dialogue = answers[..asked].to_vec();
        dialogue[asked - 1].1 = key;
        let (done, shown) = scene.converse(&[], &dialogue);
        assert!(!done && !scene.file().exists(), "{asked}: {shown}");
    }
    // Where the password is asked for, the configuration is whole.
    let scene = Scene::new().await;
    let last = [(RECORD, "y\n"), ("not your own password): ", "\x03")];
    let (done, shown) = scene.converse(&[], &[&answers[..], &last].concat());
    assert!(!done && !shown.contains("apps approve"), "{shown}");
    assert_eq!(scene.text().as_deref(), Some("domain = \"sync.example.org\"\nowner = \"alice.internal\"\n"));
    assert_eq!(scene.account.record(), None);
}

/// With a certificate of her own nobody need be waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_started_and_waited_for() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    scene.write(&format!(
        "# mine\ntls = \"files\"\n[certificate]\nchain_file = \"{}\"\nkey_file = \"{}\"\n",
        authority.chain_file().display(),
        authority.key_file().display()
    ));
    let systemctl = scene.stand_in();
    let units = "groundmist-sync-https.socket groundmist-sync-http.socket groundmist-sync.service";
    let all = [GIVEN, &["--yes", "--json"]].concat();
    let (code, out, err) = scene.run(&all, Stdio::null());
    assert_eq!(code, 0, "{err}{out}");
    let said = json(&out);
    assert!(said["started"] == true && said["certificate"]["valid_until"].is_u64(), "{said}");
    assert!(
        err.contains("valid until") && err.contains("Your server is at https://sync.example.org"),
        "{err}"
    );
    let enable = format!("enable --now {units}");
    assert_eq!(systemctl.told(), ["stop groundmist-sync.service", &enable]);
    assert!(scene.text().unwrap().starts_with("# mine\n"));

    // Nothing has changed: it goes on running.
    let (code, ..) = scene.run(&["--yes"], Stdio::null());
    assert_eq!((code, systemctl.told()), (0, vec![enable.clone()]));
    let (code, out, _) = scene.run(&["--yes", "--no-start"], Stdio::null());
    assert!(
        code == 0 && systemctl.told().is_empty() && out.contains(&format!("systemctl {enable}")),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_does_not_come_is_a_failure_with_the_reason() {
    let scene = Scene::new().await;
    let _systemctl = scene.stand_in();
    let (code, out, err) = scene.run(&[GIVEN, &["--yes", "--json"]].concat(), Stdio::null());
    let said = json(&out);
    assert_eq!((code, &said["ok"], &said["started"]), (1, &false.into(), &true.into()), "{err}");
    let error = said["errors"][0].as_str().unwrap();
    for part in
        ["has no certificate yet: ", "certificate authority", "by itself at 20", "groundmist-sync doctor"]
    {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    assert_eq!(scene.text().as_deref(), Some(WRITTEN), "it can be mended, and setup run again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_systemd_complains_of_is_passed_on() {
    let scene = Scene::new().await;
    let path = scene.place.path().join("bin/systemctl");
    let script = "#!/bin/sh\ncase $1 in show) echo loaded;; *) echo 'Unit is masked.' >&2; exit 1;; esac\n";
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, out, _) = scene.run(&[GIVEN, &["--yes", "--json"]].concat(), Stdio::null());
    let said = json(&out);
    assert_eq!((code, &said["started"]), (1, &false.into()), "{said}");
    assert!(said["errors"][0].as_str().unwrap().contains("Unit is masked."), "{said}");
}
