//! The commands as a person runs them: the real binary, against the real server where one is needed.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{Server, Start, wait_for};
use serde_json::Value;

mod common;

const BINARY: &str = env!("CARGO_BIN_EXE_groundmist-sync");
const SECRET: &str = "hunter2-hunter2-hunter2";

/// Runs a command with nothing in its environment but `env`.
fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The answer in JSON of a command that must succeed.
fn answer(server: &Server, arguments: &[&str]) -> Value {
    let output = server.command(&[arguments, &["--json"]].concat());
    assert_eq!(code(&output), 0, "{arguments:?}: {}", err(&output));
    json(&out(&output))
}

/// Bytes over the admin socket, as curl would send them; the whole answer.
fn admin(server: &Server, request: &str) -> String {
    let mut stream = UnixStream::connect(server.data_dir.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn post(body: &str) -> String {
    format!(
        "POST /api/tokens HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_token_is_made_listed_and_revoked() {
    let server = Server::start();
    let made = server.command(&["token", "create", "--name", "laptop", "--namespace", "xyz.example"]);
    assert_eq!(code(&made), 0, "{}", err(&made));
    let token = out(&made);
    assert_eq!((token.lines().count(), token.trim().split('.').count()), (1, 3), "stdout is the token alone");
    let hint = err(&made);
    assert!(hint.contains("laptop for xyz.example until 20") && hint.contains("read and write"), "{hint}");
    assert!(!hint.contains(token.trim()));

    let listed = out(&server.command(&["token", "list"]));
    let line = listed.lines().find(|line| line.contains("laptop")).unwrap();
    assert!(listed.starts_with("ID ") && line.contains("xyz.example") && line.contains("never"), "{listed}");
    let id = line.split_whitespace().next().unwrap();
    assert!(hint.contains(id) && !listed.contains(token.trim()));

    let revoked = server.command(&["token", "revoke", "laptop"]);
    assert_eq!(code(&revoked), 0, "{}", err(&revoked));
    assert!(out(&revoked).contains(id));
    assert!(!out(&server.command(&["token", "list"])).contains(id));
    let again = server.command(&["token", "revoke", id]);
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("no session has the id or name"), "{}", err(&again));
}

#[test]
fn json_says_the_same_for_programs() {
    let server = Server::start();
    let create = ["token", "create", "--name", "my lap/top é%", "--namespace", "XYZ.example"];
    let made = answer(&server, &[&create[..], &["--read-only", "--expires", "2h"]].concat());
    let session = &made["session"];
    assert_eq!((&session["namespace"], &session["read_only"]), (&"xyz.example".into(), &true.into()));
    assert_eq!(session["expires"].as_u64().unwrap() - session["created"].as_u64().unwrap(), 7_200_000);
    assert_eq!(made["token"].as_str().unwrap().split('.').count(), 3);
    let listed = answer(&server, &["token", "list"]);
    assert!(listed["tokens"].as_array().unwrap().contains(session), "{listed}");
    let revoked = answer(&server, &["token", "revoke", "my lap/top é%"]);
    assert_eq!(revoked["revoked"], session["id"]);
    let again = server.command(&["token", "revoke", "my lap/top é%", "--json"]);
    assert_eq!((code(&again), out(&again)), (1, String::new()));
    assert_eq!(json(&err(&again))["error"], "not_found");
}

#[test]
fn wrong_wishes_are_refused_in_words() {
    let server = Server::start();
    let create = |name: &str, namespace: &str, more: &[&str]| {
        let output =
            server.command(&[&["token", "create", "--name", name, "--namespace", namespace], more].concat());
        (code(&output), out(&output), err(&output))
    };
    for (name, namespace, more, exit, part) in [
        ("a", "../etc", &[][..], 1, "lexicon authority domain"),
        ("a", "single", &[], 1, "xyz.example"),
        ("", "xyz.example", &[], 1, "1 to 64 bytes"),
        ("a", "xyz.example", &["--expires", "4000d"], 1, "3650 days"),
        ("a", "xyz.example", &["--expires", "10ms"], 1, "between 1 second"),
        ("a", "xyz.example", &["--expires", "soon"], 2, "30d"),
    ] {
        let (code, out, err) = create(name, namespace, more);
        assert_eq!((code, out.as_str()), (exit, ""), "{name:?} {namespace:?} {more:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(part), "{err}");
    }
    create("twice", "xyz.one", &[]);
    create("twice", "xyz.two", &[]);
    let both = server.command(&["token", "revoke", "twice"]);
    assert!(code(&both) == 1 && err(&both).contains("xyz.one") && err(&both).contains("xyz.two"), "{both:?}");
}

#[test]
fn status_speaks_of_the_running_server() {
    let server = Server::start();
    let words = server.command(&["status"]);
    assert_eq!(code(&words), 0, "{}", err(&words));
    for part in [env!("CARGO_PKG_VERSION"), &server.address.to_string(), "of the 56.0 MiB", "All is well."] {
        assert!(out(&words).contains(part), "{part} is not in {}", out(&words));
    }
    let status = answer(&server, &["status"]);
    assert_eq!(status["pid"], server.pid());
    let listen = serde_json::json!([{ "spoken": "plain", "address": server.address.to_string() }]);
    assert_eq!((&status["listen"], &status["certificate"]["mode"]), (&listen, &"off".into()));
    assert_eq!((&status["alive"], &status["engine"]["journal_error"]), (&true.into(), &Value::Null));
    assert_eq!((&status["engine"]["connections"], &status["storage"]["documents"]), (&0.into(), &0.into()));
    let rss = status["rss_bytes"].as_u64().unwrap();
    assert!(rss > 1 << 20 && status["storage"]["file_bytes"].as_u64().unwrap() > 0, "{status}");
    assert!(!status["storage_id"].as_str().unwrap().is_empty());
}

#[test]
fn without_a_server_the_socket_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let socket = dir.path().join("admin.sock");
    // A socket that nobody answers on, as a killed server leaves it, says the same.
    for stale in [false, true] {
        if stale {
            drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        }
        for command in [&["status"][..], &["token", "list"], &["token", "revoke", "x"]] {
            let output = run(&[command, &["--data-dir", data]].concat(), &[]);
            assert_eq!(code(&output), 69, "{command:?}");
            assert!(
                err(&output).contains(socket.to_str().unwrap()) && err(&output).contains("serve"),
                "{output:?}"
            );
        }
    }
    let output = run(&["--json", "--data-dir", data, "status"], &[]);
    assert_eq!((code(&output), &json(&err(&output))["error"]), (69, &"not_running".into()));
}

#[test]
fn the_command_line_explains_itself() {
    let version = run(&["--version"], &[]);
    let text = out(&version);
    let start = concat!("groundmist-sync ", env!("CARGO_PKG_VERSION"), " (");
    let build: Vec<_> = text.strip_prefix(start).unwrap().strip_suffix(")\n").unwrap().split(", ").collect();
    let [commit, processor, libc] = build[..] else { panic!("{text}") };
    let hash = commit.strip_suffix("-dirty").unwrap_or(commit);
    assert!(hash == "unknown" || hash.len() == 12 && u64::from_str_radix(hash, 16).is_ok(), "{text}");
    assert_eq!((code(&version), processor), (0, std::env::consts::ARCH));
    assert!(libc.ends_with("glibc") || libc.ends_with("musl"), "{text}");
    let help = run(&["--help"], &[]);
    for part in [
        "serve",
        "setup",
        "token",
        "apps",
        "sessions",
        "status",
        "config",
        "69  the command needs the running server",
        "78  ",
    ] {
        assert!(out(&help).contains(part), "{part} is not in {}", out(&help));
    }
    for wrong in [
        &[][..],
        &["srve"],
        &["token"],
        &["token", "create"],
        &["apps", "approve"],
        &["serve", "--port", "70000"],
    ] {
        let output = run(wrong, &[]);
        assert_eq!((code(&output), out(&output)), (2, String::new()), "{wrong:?}");
        assert!(!err(&output).is_empty());
    }
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("config.toml");
    std::fs::write(&file, format!("secert = \"{SECRET}\"\n[limits]\nrequests = 0\n")).unwrap();
    let file = file.to_str().unwrap();
    for command in [&["serve"][..], &["serve", "--dev"], &["status"], &["config", "check"]] {
        let output = run(
            &[command, &["--config", file]].concat(),
            &[("DATA_DIR", data.to_str().unwrap()), ("PORT", "x")],
        );
        assert_eq!((code(&output), out(&output)), (78, String::new()), "{command:?}: {}", err(&output));
        for part in ["3 things", "did you mean secret", "line 3 of", "variable PORT"] {
            let said = err(&output).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(part), "{part} is not in {}", err(&output));
        }
        assert!(!err(&output).contains("hunter"));
        let long = err(&output).lines().find(|line| line.len() > 80).map(str::to_owned);
        assert!(command[0] != "config" || long.is_none(), "{long:?}");
    }
    assert!(!data.exists(), "nothing was made before everything was checked");
    let output = run(&["serve", "--config", "/nonexistent.toml"], &[]);
    assert!(code(&output) == 78 && err(&output).contains("/nonexistent.toml"), "{output:?}");
    let output = run(&["config", "check", "--json", "--config", file], &[]);
    let report = json(&out(&output));
    assert_eq!(
        (code(&output), &report["ok"], report["problems"].as_array().unwrap().len()),
        (78, &false.into(), 2)
    );
}

#[test]
fn config_check_shows_values_and_sources_but_no_secret() {
    let env = [("GROUNDMIST_SYNC_SECRET_KEY", SECRET), ("PORT", "4040")];
    let output = run(&["config", "check", "--data-dir", "/srv/x"], &env);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    // What goes on below a line is a part of it.
    let whole = text.replace(&format!("\n{}", " ".repeat(20)), " ");
    let line = |key: &str| {
        let line = whole.lines().find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("{key} is not in {text}"))
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("data_dir"), "/srv/x flag --data-dir");
    assert_eq!(line("listen.address"), "127.0.0.1:4040 variable PORT");
    assert_eq!(line("memory.budget"), "56 MiB default");
    assert!(line("memory.opener").ends_with("iB default"), "{}", line("memory.opener"));
    assert_eq!(line("owner"), "- not set");
    assert_eq!(line("secret"), "(not shown) variable GROUNDMIST_SYNC_SECRET_KEY");
    let report = run(&["config", "check", "--json"], &env);
    let settings = json(&out(&report));
    assert!(settings["ok"] == true && settings["settings"].as_array().unwrap().len() > 20, "{settings}");
    assert!(!text.contains("hunter") && !out(&report).contains("hunter"));
}

#[test]
fn the_configuration_file_is_read_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etc/config.toml");
    let file = path.to_str().unwrap();
    let config = |arguments: &[&str], env: &[(&str, &str)]| {
        run(&[&["config"], arguments, &["--config", file]].concat(), env)
    };
    let get = |key: &str| {
        let output = config(&["get", key], &[]);
        (code(&output), out(&output))
    };
    assert_eq!(get("domain"), (0, String::new()), "there is no file");
    let set = config(&["set", "domain=Sync.example.com", "acme.contact=a@example.com"], &[]);
    assert_eq!(code(&set), 0, "{}", err(&set));
    let written = "domain = \"Sync.example.com\"\n\n[acme]\ncontact = \"a@example.com\"\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    assert_eq!(get("acme.contact"), (0, "a@example.com\n".into()));
    assert_eq!((get("owner"), get("acme")), ((0, String::new()), (0, String::new())));
    let again = config(&["set", "domain=Sync.example.com", "--json"], &[]);
    assert_eq!((code(&again), &json(&out(&again))["changed"]), (0, &false.into()));

    // All of it is refused, in the words of `config check`; a variable does not hide what is wrong.
    for (changes, part) in [
        (&["owner=did:plc:ewvi7nxzyoun6zhxrhs64oiz", "domian=x"][..], "did you mean domain?"),
        (&["domain=https://x"], "line 1 of"),
        (&["tls=files"], "certificate.chain_file"),
        (&["log.level=loud", "limits.requests=0"], "2 things to put right"),
    ] {
        let output = config(&[&["set"], changes].concat(), &[("GROUNDMIST_SYNC_LOG__LEVEL", "info")]);
        assert_eq!((code(&output), out(&output)), (78, String::new()), "{changes:?}");
        let said = err(&output);
        assert!(said.contains(part) && said.contains("nothing was changed"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written, "{changes:?}");
    }
    let hidden = config(&["set", "log.level=debug"], &[("GROUNDMIST_SYNC_LOG__LEVEL", "info")]);
    assert!(code(&hidden) == 0 && err(&hidden).contains("GROUNDMIST_SYNC_LOG__LEVEL"), "{}", err(&hidden));
    let secret = config(&["set", &format!("secret={SECRET}")], &[]);
    assert!(code(&secret) == 78 && err(&secret).contains("secret_file"), "{}", err(&secret));
    assert!(!err(&secret).contains(SECRET));
    for wrong in [&["set"][..], &["set", "domain"], &["set", "=x"], &["get"]] {
        assert_eq!(code(&config(wrong, &[])), 2, "{wrong:?}");
    }

    std::fs::write(&path, format!("secret = \"{SECRET}\"\ndomain = {SECRET}\n")).unwrap();
    for command in [&["get", "domain"][..], &["set", "domain=a.example"]] {
        let output = config(command, &[]);
        assert_eq!((code(&output), out(&output)), (78, String::new()), "{command:?}");
        assert!(err(&output).contains("line 2 of") && !err(&output).contains("hunter"), "{}", err(&output));
    }
}

/// A server without `--dev`; killed when dropped.
struct Plain(Child);

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_prototypes_environment_is_enough_for_server_and_commands() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let env = [
        ("ATPROTO_DID", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
        ("GROUNDMIST_SYNC_SECRET_KEY", SECRET),
        ("PORT", "0"),
        ("DATA_DIR", data.to_str().unwrap()),
    ];
    let log = dir.path().join("log");
    let child = Command::new(BINARY)
        .arg("serve")
        .env_clear()
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut server = Plain(child);
    let status = wait_for("the server", || {
        let output = run(&["status", "--json"], &env);
        (code(&output) == 0).then(|| json(&out(&output)))
    });
    let listen: std::net::SocketAddr = status["listen"][0]["address"].as_str().unwrap().parse().unwrap();
    assert!(listen.ip().is_loopback() && listen.port() != 0);
    let made = run(&["token", "create", "--name", "a", "--namespace", "xyz.example", "--json"], &env);
    let made = json(&out(&made));
    assert_eq!(made["session"]["did"], "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "tokens speak for the owner");
    assert!(!data.join("secret.key").exists(), "a given secret is not written down");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("admin.sock"))), (0o700, 0o600));

    let second = run(&["serve"], &env);
    assert_eq!(code(&second), 1, "one server per data directory");
    assert!(err(&second).contains("error: "), "{}", err(&second));

    let killed = Command::new("kill").args(["-s", "TERM", &server.0.id().to_string()]).status().unwrap();
    assert!(killed.success() && server.0.wait().unwrap().success());
    assert_eq!(code(&run(&["status"], &env)), 69);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("made a sync token"), "{log}");
    assert!(!log.contains("hunter") && !log.contains(&made["token"].as_str().unwrap()[..20]), "{log}");
}

#[test]
fn a_generated_secret_is_private_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut server = Start::default().data_dir(&data).run();
    let secret = std::fs::read(data.join("secret.key")).unwrap();
    assert_eq!(std::fs::metadata(data.join("secret.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(server.terminate().success());
    let server = Start::default().data_dir(&data).run();
    assert_eq!(std::fs::read(data.join("secret.key")).unwrap(), secret);
    let listed = answer(&server, &["token", "list"]);
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2, "one of each start: {listed}");
}

#[test]
fn the_admin_socket_speaks_http_and_refuses_nonsense() {
    let server = Server::start();
    let get = |method: &str, path: &str| {
        admin(&server, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    };
    assert!(get("GET", "/healthz").starts_with("HTTP/1.1 200"));
    let status = get("GET", "/api/status");
    assert!(status.starts_with("HTTP/1.1 200") && status.contains("application/json"), "{status}");
    let big = post(&format!("{{\"name\":\"{}\"}}", "x".repeat(70_000)));
    for (answer, line, error) in [
        (get("GET", "/"), "404", "not_found"),
        (get("GET", "/api/token"), "404", "not_found"),
        (get("PUT", "/api/tokens"), "405", "method_not_allowed"),
        (get("GET", "/api/tokens/x"), "405", "method_not_allowed"),
        (get("DELETE", "/api/tokens/%zz"), "400", "bad_path"),
        (get("DELETE", "/api/tokens/"), "404", "not_found"),
        (get("DELETE", "/api/sessions/"), "404", "not_found"),
        (get("GET", "/api/sessions/x"), "405", "method_not_allowed"),
        (get("POST", "/api/apps"), "405", "method_not_allowed"),
        (get("GET", "/api/apps/approve"), "405", "method_not_allowed"),
        (get("POST", "/api/apps/approve"), "400", "bad_body"),
        (get("POST", "/api/apps/forget"), "404", "not_found"),
        (get("DELETE", "/api/tokens/..%2f..%2fetc"), "404", "not_found"),
        (admin(&server, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), "400", "bad_host"),
        (admin(&server, &post("")), "400", "bad_body"),
        (admin(&server, &post("{\"name\":\"a\"}")), "400", "bad_body"),
        (
            admin(&server, &post("{\"name\":\"a\",\"namespace\":\"a.b\",\"readonly\":true}")),
            "400",
            "bad_body",
        ),
        (admin(&server, &post("{\"name\":\"a\",\"namespace\":\"a/b\"}")), "400", "bad_namespace"),
        (admin(&server, &big), "413", "body_too_large"),
    ] {
        assert!(answer.starts_with(&format!("HTTP/1.1 {line}")), "{answer}");
        let body = json(answer.split("\r\n\r\n").nth(1).unwrap());
        assert_eq!(body["error"], error, "{answer}");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
    let made = admin(&server, &post("{\"name\":\"curl\",\"namespace\":\"xyz.example\",\"expires_in\":60}"));
    assert!(made.starts_with("HTTP/1.1 201") && made.contains("no-store"), "{made}");
}
