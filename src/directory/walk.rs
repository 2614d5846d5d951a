//! Follows a path to a directory, one component at a time.
//!
//! As root, a symbolic link is followed only in a directory that root alone can change, reached through such directories
//! only (or through one like `/tmp`, where nobody else can replace what is root's): systemd's `/var/lib/groundmist-sync -> private/groundmist-sync` is one. From the first directory on that somebody
//! else can change, each component has to be a directory itself. `..` goes back to the descriptor that the walk came
//! through, never to what the kernel takes for the parent by then.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Most links that are followed, as in the kernel.
const MAX_LINKS: u32 = 40;

const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory at `path`; makes what is missing of it with the mode `make`.
pub(super) fn open(path: &Path, make: Option<Mode>) -> io::Result<OwnedFd> {
    if rustix::process::geteuid().is_root() {
        let mut walk = Walk::start(make)?;
        walk.follow(&std::path::absolute(path)?)?;
        return Ok(walk.steps.pop().unwrap_or(walk.root).descriptor);
    }
    match rustix::fs::openat(CWD, path, FLAGS, Mode::empty()) {
        Err(Errno::NOENT) if make.is_some() => {
            use std::os::unix::fs::DirBuilderExt as _;
            let mode = make.unwrap_or(Mode::RWXU).bits();
            std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
            Ok(rustix::fs::openat(CWD, path, FLAGS, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

/// Whether nobody but root can change what is in a directory. An access list cannot give more than the group's bits say.
pub(super) fn only_root_changes(directory: &Stat) -> bool {
    directory.st_uid == 0 && directory.st_mode & 0o022 == 0
}

/// Where a path to a file ends.
pub(super) struct End {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
    /// The name is a link of procfs, which leads to an open file (`/dev/stdin`, `/dev/fd/63`) and has no path to follow.
    pub(super) open_file: bool,
}

/// Follows a path to a file, which need not exist, as root. A link in its last place is followed as all others are.
pub(super) fn file(path: &Path) -> io::Result<End> {
    let mut walk = Walk::start(None)?;
    let mut path = std::path::absolute(path)?;
    let (name, open_file) = loop {
        let name = path.file_name().ok_or(Errno::ISDIR)?.to_owned();
        if let Some(parent) = path.parent() {
            walk.follow(parent)?;
        }
        let Some(target) = walk.link(&name)? else { break (name, false) };
        if rustix::fs::fstatfs(&walk.at().descriptor)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
            break (name, true);
        }
        path = target;
    };
    let directory = walk.steps.pop().unwrap_or(walk.root).descriptor;
    Ok(End { directory, name, open_file })
}

/// A directory on the way.
struct Step {
    descriptor: OwnedFd,
    /// Nobody but root can replace it, or what is root's in it.
    steady: bool,
    /// Nobody but root can change what is in it either.
    trusted: bool,
}

impl Step {
    /// `above`: nobody but root can replace what is root's in the directory above.
    fn new(descriptor: OwnedFd, above: bool) -> io::Result<Self> {
        let is = rustix::fs::fstat(&descriptor)?;
        let trusted = above && only_root_changes(&is);
        // In a sticky directory of root's, others cannot rename or remove what is root's.
        let sticky = is.st_uid == 0 && Mode::from_raw_mode(is.st_mode).contains(Mode::SVTX);
        Ok(Self { descriptor, steady: trusted || above && sticky, trusted })
    }
}

struct Walk {
    root: Step,
    /// Below the root.
    steps: Vec<Step>,
    pending: VecDeque<OsString>,
    links: u32,
    make: Option<Mode>,
}

impl Walk {
    fn start(make: Option<Mode>) -> io::Result<Self> {
        let root = Step::new(rustix::fs::openat(CWD, "/", FLAGS, Mode::empty())?, true)?;
        Ok(Self { root, steps: Vec::new(), pending: VecDeque::new(), links: 0, make })
    }

    fn follow(&mut self, path: &Path) -> io::Result<()> {
        self.push(path);
        while let Some(name) = self.pending.pop_front() {
            if name == "/" {
                self.steps.clear();
            } else if name == ".." {
                self.steps.pop();
            } else {
                self.step(&name)?;
            }
        }
        Ok(())
    }

    fn at(&self) -> &Step {
        self.steps.last().unwrap_or(&self.root)
    }

    /// Puts a path in front of what is still to be followed.
    fn push(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::CurDir | Component::Prefix(_) => {}
                component => self.pending.push_front(component.as_os_str().to_owned()),
            }
        }
    }

    fn step(&mut self, name: &OsStr) -> io::Result<()> {
        let at = self.at();
        let open = || rustix::fs::openat(&at.descriptor, name, FLAGS | OFlags::NOFOLLOW, Mode::empty());
        let opened = match (open(), self.make) {
            (Err(Errno::NOENT), Some(mode)) => match rustix::fs::mkdirat(&at.descriptor, name, mode) {
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(error) => Err(error),
            },
            (opened, _) => opened,
        };
        match opened {
            Ok(descriptor) => {
                let step = Step::new(descriptor, at.steady)?;
                self.steps.push(step);
                Ok(())
            }
            // Something else than a directory.
            Err(Errno::NOTDIR | Errno::LOOP) => match self.link(name)? {
                Some(target) => {
                    self.push(&target);
                    Ok(())
                }
                None => Err(Errno::NOTDIR.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Where the link at `name` leads, if it is one and is to be followed.
    fn link(&mut self, name: &OsStr) -> io::Result<Option<PathBuf>> {
        let at = self.at();
        let target = match rustix::fs::readlinkat(&at.descriptor, name, Vec::new()) {
            Ok(target) => target,
            Err(Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !at.trusted {
            return Err(io::Error::other(format!(
                "{} is a symbolic link where others than root can change it, and root does not follow it: give the path that it leads to",
                name.display()
            )));
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        Ok(Some(PathBuf::from(OsStr::from_bytes(target.to_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// As if `root` were the root of the file system: what tests can make lies in /tmp, where no link is trusted.
    fn walk(root: &Path, path: &str) -> io::Result<PathBuf> {
        let descriptor = rustix::fs::openat(CWD, root, FLAGS, Mode::empty())?;
        let root = Step::new(descriptor, true)?;
        let mut walk = Walk { root, steps: Vec::new(), pending: VecDeque::new(), links: 0, make: None };
        walk.follow(Path::new(path))?;
        use std::os::fd::AsRawFd as _;
        fs::read_link(format!("/proc/self/fd/{}", walk.at().descriptor.as_raw_fd()))
    }

    #[test]
    fn links_of_root_are_followed_as_the_kernel_does() {
        if !rustix::process::geteuid().is_root() {
            return println!("SKIPPED: needs root, whose links they are");
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        // As systemd has it for a unit with DynamicUser=yes.
        fs::create_dir_all(root.join("lib/private/sync/below")).unwrap();
        symlink("private/sync", root.join("lib/sync")).unwrap();
        symlink("/lib/sync", root.join("data")).unwrap();
        symlink("../../lib/./sync/..", root.join("lib/private/around")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        chown(root.join("lib/private/sync"), Some(65_534), None).unwrap();
        for (path, end) in [
            ("lib/sync", "lib/private/sync"),
            ("data/below", "lib/private/sync/below"),
            ("/data/../sync", "lib/private/sync"),
            ("lib/private/around", "lib/private"),
            ("../../data/below/..", "lib/private/sync"),
            ("/", ""),
        ] {
            assert_eq!(
                walk(&root, path).unwrap_or_default(),
                root.join(end).components().as_path(),
                "{path}"
            );
        }
        assert_eq!(walk(&root, "loop").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        // Everybody can make names in a directory like /tmp, but not replace root's.
        fs::create_dir_all(root.join("tmp/root")).unwrap();
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("/lib", root.join("tmp/link")).unwrap();
        symlink("/lib", root.join("tmp/root/link")).unwrap();
        assert!(walk(&root, "tmp/link").is_err());
        assert_eq!(walk(&root, "tmp/root/link").unwrap(), root.join("lib"));
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(walk(&root, "tmp/root/link").is_err());
        // From here on it is the user's.
        symlink("/lib", root.join("lib/private/sync/below/link")).unwrap();
        symlink("below", root.join("lib/private/sync/link")).unwrap();
        for path in ["data/link", "data/below/link"] {
            assert!(walk(&root, path).unwrap_err().to_string().contains("symbolic link"), "{path}");
        }
    }
}
