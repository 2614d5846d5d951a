use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

/// The user that owns the hostile directory.
const USER: u32 = 65_534;

/// A file and a directory of root's, and a directory of somebody else's beside them.
struct Scene {
    base: TempDir,
    hostile: Directory,
}

impl Scene {
    /// `None`, and a line that says so, if this is not root.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root, to be careful as root");
            return None;
        }
        let base = tempfile::tempdir().unwrap();
        for name in ["hostile", "folder"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        fs::write(base.path().join("canary"), "root's").unwrap();
        chown(base.path().join("hostile"), Some(USER), Some(USER)).unwrap();
        let hostile = Directory::open(&base.path().join("hostile")).unwrap();
        assert!(hostile.is_guarded());
        Some(Self { base, hostile })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// A file of the directory's owner.
    fn own(&self, name: &str) -> PathBuf {
        let path = self.hostile.path_of(name);
        fs::write(&path, "own").unwrap();
        chown(&path, Some(USER), Some(USER)).unwrap();
        path
    }

    fn assert_canary(&self) {
        let is = fs::metadata(self.at("canary")).unwrap();
        assert_eq!((is.uid(), is.mode() & 0o777, is.nlink()), (0, 0o644, 1));
        assert_eq!(fs::read(self.at("canary")).unwrap(), b"root's");
        assert_eq!(fs::read_dir(self.at("folder")).unwrap().count(), 0);
    }
}

fn error<T>(result: io::Result<T>) -> String {
    result.err().map(|error| error.to_string()).expect("it must be refused")
}

#[test]
fn only_regular_files_are_opened_and_nothing_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("plain"), "x").unwrap();
    symlink(at("plain"), at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mkfifoat(directory.at(), "fifo", FILE_MODE).unwrap();
    directory.open_own("plain").unwrap();
    directory.open_own_to_write("plain").unwrap();
    directory.open_given("plain").unwrap();
    for name in ["link", "dangling"] {
        assert!(error(directory.open_own(name)).contains("symbolic link"), "{name}");
    }
    for name in ["directory", "socket", "fifo"] {
        assert!(error(directory.open_own(name)).contains("not a regular file"), "{name}");
    }
    for name in [
        "link",
        "dangling",
        "directory",
        "socket",
        "fifo",
        ".",
        "..",
        "",
        "directory/../plain",
        "/etc/passwd",
    ] {
        error(directory.open_own(name));
        error(directory.open_own_to_write(name));
        error(directory.open_given(name));
        error(directory.create(name));
        error(directory.open_or_create_for_us(name));
    }
    assert_eq!(directory.open_own("nothing").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!at("nowhere").exists(), "a dangling link was followed");
}

#[test]
fn root_opens_no_file_that_may_come_from_elsewhere() {
    let Some(scene) = Scene::new() else { return };
    let hostile = &scene.hostile;
    scene.own("own");
    hostile.open_own_to_write("own").unwrap();
    fs::hard_link(scene.own("twice"), hostile.path_of("second")).unwrap();
    assert!(error(hostile.open_own("twice")).contains("2 names"));
    hostile.open_given("twice").expect("the owner may read that file by either name");
    fs::hard_link(scene.at("canary"), hostile.path_of("canary")).unwrap();
    assert!(error(hostile.open_own("canary")).contains("2 names"));
    assert!(error(hostile.open_own_to_write("canary")).contains("2 names"));
    assert!(error(hostile.open_given("canary")).contains("2 names"));
    assert!(error(open_source(&hostile.path_of("canary"))).contains("2 names"));
    assert!(error(hostile.open_or_create_for_us("canary")).contains("somebody else's"));
    assert!(error(hostile.open_or_create_for_us("own")).contains("somebody else's"));
    hostile.remove("canary").unwrap();
    // A second name whose first is gone.
    fs::write(hostile.path_of("root"), "root's").unwrap();
    assert!(error(hostile.open_own("root")).contains("belongs to user 0"));
    scene.assert_canary();
    // Where only root can put files, hard links are root's own decision.
    fs::set_permissions(scene.base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let trusted = Directory::open(scene.base.path()).unwrap();
    fs::hard_link(scene.at("canary"), scene.at("second")).unwrap();
    trusted.open_own("second").unwrap();
}

#[test]
fn what_is_created_is_the_owners_and_never_through_a_link() {
    let Some(scene) = Scene::new() else { return };
    let hostile = &scene.hostile;
    for (name, target) in [("canary", "canary"), ("dangling", "folder/new"), ("folder", "folder")] {
        symlink(scene.at(target), hostile.path_of(name)).unwrap();
        assert_eq!(hostile.create(name).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{name}");
        error(hostile.open_or_create_for_us(name));
        error(hostile.directory(name));
        error(hostile.make_directory(name));
        error(hostile.socket(name));
        let file = hostile.create_anew(name).unwrap();
        let is = file.metadata().unwrap();
        assert_eq!((is.uid(), is.gid(), is.mode() & 0o7777), (USER, USER, 0o600), "{name}");
    }
    scene.assert_canary();
    let for_us = hostile.create_anew_for_us("export").unwrap();
    assert_eq!(for_us.metadata().unwrap().uid(), 0);
    // A link gets the second name itself, and is what is renamed.
    symlink(scene.at("canary"), hostile.path_of("link")).unwrap();
    hostile.link("link", "second").unwrap();
    hostile.rename("second", "third").unwrap();
    assert_eq!(hostile.rename_new("third", "link").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(hostile.remove("third").unwrap() && hostile.remove("link").unwrap());
    assert!(!hostile.remove("link").unwrap() && !hostile.contains("link").unwrap());
    scene.assert_canary();
}

#[test]
fn a_directory_that_is_replaced_meanwhile_is_still_the_one_that_was_opened() {
    let Some(scene) = Scene::new() else { return };
    scene.own("file");
    fs::rename(scene.at("hostile"), scene.at("moved")).unwrap();
    symlink(scene.at("folder"), scene.at("hostile")).unwrap();
    scene.hostile.create("new").unwrap();
    scene.hostile.open_own("file").unwrap();
    scene.hostile.make_directory("below").unwrap().create("new").unwrap();
    scene.hostile.sync().unwrap();
    let mut names: Vec<_> = scene.hostile.entries().unwrap().map(|entry| entry.unwrap().0).collect();
    names.sort();
    assert_eq!(names, ["below", "file", "new"]);
    assert!(scene.at("moved/below/new").exists());
    scene.assert_canary();
}

#[test]
fn a_link_in_the_path_is_followed_only_where_root_alone_can_change_it() {
    let Some(scene) = Scene::new() else { return };
    symlink(scene.at("folder"), scene.at("hostile/link")).unwrap();
    symlink("hostile", scene.at("to-hostile")).unwrap();
    fs::create_dir(scene.at("hostile/below")).unwrap();
    let refused = |path: &str| {
        let path = scene.at(path);
        assert!(error(Directory::open(&path)).contains("symbolic link"), "{}", path.display());
        assert!(error(Directory::make(&path.join("new"), 0o700)).contains("symbolic link"));
        assert!(error(Directory::of_file(&path.join("new"))).contains("symbolic link"));
        assert!(error(Directory::of_linked_file(&path)).contains("symbolic link"));
        assert!(error(open_source(&path)).contains("symbolic link"));
    };
    refused("hostile/link");
    refused("hostile/below/../link");
    assert!(Directory::open(&scene.at("to-hostile")).unwrap().contains("link").unwrap());
    scene.assert_canary();
    // What `..` leads to is the directory that the walk came through.
    let back = Directory::open(&scene.at("hostile/below/..")).unwrap();
    assert!(back.contains("link").unwrap());
    let made = Directory::make(&scene.at("hostile/one/two"), 0o750).unwrap();
    assert_eq!(made.mode().unwrap(), 0o750);
    fs::write(scene.at("hostile/file"), "").unwrap();
    for path in ["hostile/file", "hostile/file/below"] {
        let kind = Directory::open(&scene.at(path)).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::NotADirectory, "{path}");
    }
    assert_eq!(Directory::open(&scene.at("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
    // A shell's `<(…)`.
    let (read, write) = io::pipe().unwrap();
    drop(write);
    use std::os::fd::AsRawFd as _;
    open_source(Path::new(&format!("/dev/fd/{}", read.as_raw_fd()))).unwrap();
}

#[test]
fn a_socket_is_connected_to_by_the_file_that_was_checked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let directory = Directory::open(dir.path()).unwrap();
    let (first, second) =
        (UnixListener::bind(at("first")).unwrap(), UnixListener::bind(at("second")).unwrap());
    let socket = directory.socket("first").unwrap();
    fs::remove_file(at("first")).unwrap();
    symlink(at("second"), at("first")).unwrap();
    assert!(error(directory.socket("first")).contains("not a socket"));
    std::os::unix::net::UnixStream::connect(socket.path()).unwrap();
    first.accept().unwrap();
    second.set_nonblocking(true).unwrap();
    assert!(second.accept().is_err());
    fs::write(at("plain"), "").unwrap();
    error(directory.socket("plain"));
    let Some(scene) = Scene::new() else { return };
    let _root = UnixListener::bind(scene.at("socket")).unwrap();
    fs::hard_link(scene.at("socket"), scene.hostile.path_of("socket")).unwrap();
    assert!(error(scene.hostile.socket("socket")).contains("somebody else's"));
}

#[test]
fn work_as_the_owner_cannot_touch_roots_files() {
    let Some(scene) = Scene::new() else { return };
    let canary = scene.at("canary");
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(scene.base.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let path = scene.own("own");
    let hostile = &scene.hostile;
    hostile.as_owner(|| {
        let threads = std::thread::spawn(move || fs::read(canary).unwrap_err().kind());
        assert_eq!(threads.join().unwrap(), io::ErrorKind::PermissionDenied);
        assert_eq!(rustix::process::getgroups().unwrap(), []);
        hostile.open_own_to_write("own").unwrap();
        let is = hostile.create("new").unwrap().metadata().unwrap();
        assert_eq!((is.uid(), is.gid()), (USER, USER));
        fs::metadata(path).expect_err("the directory above is root's");
    });
    fs::read(scene.at("canary")).expect("this thread is root still");
}
