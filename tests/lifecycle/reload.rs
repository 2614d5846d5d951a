//! Reading the configuration again: what changes at once, what needs a restart, and that a bad one changes nothing.

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use crate::common::{Server, Start, WebSocket, wait_for};

struct Place {
    _dir: tempfile::TempDir,
    file: PathBuf,
    server: Server,
}

impl Place {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let server = Start::default().config(&file).run();
        Self { _dir: dir, file, server }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    fn reload(&self) -> Output {
        self.server.command(&["reload"])
    }

    fn reload_json(&self) -> Value {
        let output = self.server.command(&["reload", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// How often the server has told at level debug that it refused a token.
    fn refusals_told(&self) -> usize {
        self.server.log().matches("a client was refused").count()
    }

    fn be_refused(&self) {
        assert_eq!(WebSocket::connect(self.server.address, "no-token").err().unwrap().status, 401);
    }

    /// Days that a new token is good for.
    fn token_days(&self, name: &str) -> u64 {
        let create = ["token", "create", "--name", name, "--namespace", "xyz.example", "--json"];
        let made: Value = serde_json::from_slice(&self.server.command(&create).stdout).unwrap();
        let life =
            made["session"]["expires"].as_u64().unwrap() - made["session"]["created"].as_u64().unwrap();
        life / 86_400_000
    }
}

fn settings(reloaded: &Value, which: &str) -> Vec<String> {
    let list = reloaded[which].as_array().unwrap();
    list.iter().map(|change| change["setting"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn level_and_access_change_at_once_and_the_rest_is_named() {
    let place = Place::new("");
    place.be_refused();
    assert_eq!((place.refusals_told(), place.token_days("before")), (0, 30));

    place.write("[log]\nlevel = \"debug\"\n[access]\ntoken_life = \"2d\"\napprove = \"first-use\"\n[memory]\nbudget = \"32 MiB\"\n");
    let output = place.reload();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for part in [
        "Changed: log.level: debug, was info\n",
        "Changed: access.token_life: 2d, was 30d\n",
        "Changed: access.approve: first-use, was ask\n",
        "Needs a restart to count",
        "  memory.budget: 32 MiB, was 56 MiB\n",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    place.be_refused();
    wait_for("the line of level debug", || (place.refusals_told() == 1).then_some(()));
    assert_eq!(place.token_days("after"), 2);

    let again = place.reload_json();
    assert_eq!(
        (settings(&again, "changed").len(), settings(&again, "needs_restart").len()),
        (0, 1),
        "{again}"
    );
}

#[test]
fn the_signal_does_the_same() {
    let place = Place::new("");
    place.write("[log]\nlevel = \"debug\"\n");
    place.server.signal("HUP");
    let line = "the configuration was read again: changed: log.level: debug, was info";
    wait_for("the reload", || place.server.log().contains(line).then_some(()));
    place.be_refused();
    wait_for("the line of level debug", || (place.refusals_told() == 1).then_some(()));
    place.write("");
    assert_eq!(settings(&place.reload_json(), "changed"), ["log.level"]);
    place.be_refused();
    assert_eq!(place.refusals_told(), 1, "back at info");
}

#[test]
fn a_bad_configuration_changes_nothing_and_says_why() {
    let mut place = Place::new("");
    for (text, why) in [
        ("[access]\ntoken_life = \"2d\"\n[log]\nlevel = \"loud\"\n", "line 4"),
        ("[access]\ntoken_life = \"2d\"\nsecret = \n", "is not TOML"),
        ("[access]\ntoken_life = \"2d\"\ntoken_live = \"2d\"\n", "did you mean access.token_life?"),
    ] {
        place.write(text);
        let output = place.reload();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("nothing was changed") && said.contains(why), "{why:?} is not in {said}");
        assert_eq!(place.token_days(why), 30);
    }
    // By signal it is told in the log, and the server lives.
    place.server.signal("HUP");
    wait_for("the line", || {
        (place.server.log().matches("cannot be used; nothing was changed").count() == 4).then_some(())
    });
    std::fs::remove_file(&place.file).unwrap();
    assert_eq!(place.reload().status.code(), Some(78), "the file is gone");
    assert!(place.server.is_running());

    let file = place.file.to_str().unwrap();
    let output = place.server.command(&["reload", "--config", file, "--json"]);
    let said: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &said["error"]), (Some(78), &"config".into()));
    assert_eq!(place.server.terminate().code(), Some(0));
    assert_eq!(place.reload().status.code(), Some(69), "nobody is there");
}
