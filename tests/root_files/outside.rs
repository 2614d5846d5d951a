//! Root's files, which nothing may touch, and what they hold, which may appear nowhere else.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};

use super::NAMESPACE;
use super::common::run;
use super::set_schema::set_schema;

/// In every file outside.
const CANARY: &str = "canary-4e1f0c77-of-root";

/// A directory of root's with a store, a signing secret, a document, a backup, an empty folder and a socket.
pub struct Outside {
    directory: PathBuf,
    before: Vec<State>,
    socket: UnixListener,
}

/// A file as it is: name, owner, group, mode, links, content.
#[derive(Debug, PartialEq, Eq)]
struct State(PathBuf, [u64; 4], Vec<u8>);

impl Outside {
    pub fn new(directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let socket = UnixListener::bind(directory.join("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut outside = Self { directory: directory.into(), before: Vec::new(), socket };
        outside.make_store(directory, CANARY);
        for folder in ["folder", "prototype"] {
            fs::create_dir(outside.at(folder)).unwrap();
        }
        make_prototype(&outside.at("prototype"), CANARY);
        outside.before = states(directory);
        let with_canary = outside.before.iter().filter(|State(_, _, content)| holds(content, CANARY)).count();
        assert_eq!(with_canary, 5, "the canary must be found where it is");
        outside
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A store of schema 1 with one document, its secret, a backup of it, and the document, all with `text` in them.
    pub fn make_store(&self, to: &Path, text: &str) {
        let home = tempfile::tempdir().unwrap();
        let file = to.join("document.automerge");
        fs::write(&file, document(text)).unwrap();
        run_well(home.path(), &["docs", "import", NAMESPACE, file.to_str().unwrap()]);
        let secret = home.path().join("secret.key");
        fs::write(&secret, format!("{text}, and as long as a secret has to be")).unwrap();
        run_well(home.path(), &["backup", to.join("backup").to_str().unwrap()]);
        set_schema(&home.path().join("groundmist.redb"), 1);
        fs::copy(home.path().join("groundmist.redb"), to.join("store")).unwrap();
        fs::copy(secret, to.join("secret")).unwrap();
    }

    pub fn assert_untouched(&self, after: &str) {
        let now = states(&self.directory);
        for (now, before) in now.iter().zip(&self.before) {
            assert!(now == before, "{} is not as it was after {after}", now.0.display());
        }
        assert_eq!(now.len(), self.before.len(), "something was made outside by {after}");
        assert!(self.socket.accept().is_err(), "a socket of root's was connected to by {after}");
    }

    /// The canary is in none of the plain files below these directories.
    pub fn assert_nothing_read_out(&self, directories: &[&Path]) {
        for State(path, _, content) in directories.iter().flat_map(|directory| states(directory)) {
            assert!(!holds(&content, CANARY), "{} holds what root alone may read", path.display());
        }
    }
}

fn document(text: &str) -> Vec<u8> {
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "text", text).unwrap();
    doc.save()
}

/// One document as the prototype stores it.
pub fn make_prototype(directory: &Path, text: &str) {
    let id = super::common::peer::new_document().to_string();
    let folder = directory.join(NAMESPACE).join(&id[..2]).join(&id[2..]).join("snapshot");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("0123456789abcdef"), document(text)).unwrap();
}

fn run_well(data_dir: &Path, arguments: &[&str]) {
    let output = run(data_dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn holds(content: &[u8], text: &str) -> bool {
    content.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Everything below a directory, sorted; links are not followed.
fn states(directory: &Path) -> Vec<State> {
    let mut states = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is = fs::symlink_metadata(&path).unwrap();
        let content = if is.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        states.push(State(
            path.clone(),
            [is.uid().into(), is.gid().into(), is.mode().into(), is.nlink()],
            content,
        ));
        if is.is_dir() {
            states.extend(self::states(&path));
        }
    }
    states.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    states
}
