//! Commands that root runs on a data directory whose owner is hostile: while they run, that user replaces every name in it,
//! and in directories that root is given, by links to root's own files. Whatever the commands answer, nothing outside
//! changes, changes its owner, or is read out to where that user can read it.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod outside;
#[path = "../package/set_schema.rs"]
#[allow(dead_code)] // its `main`
mod set_schema;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::run;
use hostile::{Hostile, as_hostile};
use outside::Outside;

/// How long root's commands and the hostile user race.
const RACE: Duration = Duration::from_secs(28);
/// Namespace of all documents.
const NAMESPACE: &str = "xyz.example";

/// Where the race takes place. `data` and `shared` belong to the hostile user, all above them to root.
pub struct Scene {
    data: PathBuf,
    shared: PathBuf,
    /// What the hostile user starts every round with, readable by everybody.
    pristine: PathBuf,
    outside: Outside,
    /// Removed last.
    _base: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        open_to_all(base.path());
        for name in ["data", "shared", "pristine"] {
            fs::create_dir(at(name)).unwrap();
            open_to_all(&at(name));
        }
        for name in ["data", "shared"] {
            std::os::unix::fs::chown(at(name), Some(hostile::USER), Some(hostile::USER)).unwrap();
        }
        fs::set_permissions(at("data"), fs::Permissions::from_mode(0o700)).unwrap();
        let scene = Self {
            outside: Outside::new(&at("outside")),
            data: at("data"),
            shared: at("shared"),
            pristine: at("pristine"),
            _base: base,
        };
        scene.outside.make_store(&scene.pristine, "harmless");
        for entry in fs::read_dir(&scene.pristine).unwrap() {
            open_to_all(&entry.unwrap().path());
        }
        scene
    }

    fn shared(&self, name: &str) -> String {
        self.shared.join(name).to_str().unwrap().to_owned()
    }

    /// The commands of one round; the store is of schema 1 before the first, so that it is migrated.
    fn commands(&self, round: usize) -> Vec<Vec<String>> {
        let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut commands = vec![
            strings(&["backup", &self.shared("backup"), "--force"]),
            strings(&["backup", "--to", &self.shared("backups"), "--keep", "2"]),
            strings(&["docs", "export", "--all", &self.shared("export")]),
            strings(&["docs", "import", NAMESPACE, &self.shared("file.automerge")]),
            strings(&["docs", "list"]),
            strings(&["import", &self.shared("prototype")]),
            strings(&["restore", &self.shared("saved"), "--force"]),
            strings(&["secret", "rotate"]),
            strings(&["status"]),
        ];
        // Each of them is the one that meets the old schema.
        let first = round % commands.len();
        commands.rotate_left(first);
        commands
    }
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn no_race_turns_root_against_files_outside() {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED: needs root, to run commands against another user");
    }
    let scene = Scene::new();
    let hostile = Hostile::start(&scene);
    let began = Instant::now();
    let mut succeeded: BTreeMap<String, u32> = BTreeMap::new();
    let mut round = 0;
    while began.elapsed() < RACE {
        hostile.pause(|| {
            hostile::clear(&scene);
            as_hostile(|| hostile::fill(&scene));
        });
        for command in scene.commands(round) {
            let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
            let output = run(&scene.data, &arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.signal().is_none() && !said.contains("panicked"), "{command:?}: {said}");
            *succeeded.entry(name_of(&command)).or_default() += u32::from(output.status.success());
            scene.outside.assert_untouched(&format!("round {round}, {command:?}: {said}"));
        }
        hostile.pause(|| scene.outside.assert_nothing_read_out(&[&scene.data, &scene.shared]));
        round += 1;
    }
    let swaps = hostile.stop();
    println!("{round} rounds, {swaps} swaps; succeeded: {succeeded:?}");
    assert!(swaps > 1000, "the hostile user did too little: {swaps}");
    // Left alone, all of them do their work: they were refused because of the swaps only.
    hostile::clear(&scene);
    as_hostile(|| hostile::fill(&scene));
    for command in scene.commands(0) {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = run(&scene.data, &arguments);
        let expected = if arguments == ["status"] { 69 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{command:?}: {output:?}");
    }
}

/// The command without the paths it is given.
fn name_of(command: &[String]) -> String {
    let words = command.iter().map(String::as_str).filter(|word| !word.starts_with('/'));
    words.collect::<Vec<_>>().join(" ")
}
