//! Whether other users of this machine are kept out of what is private.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::{Context, Finding};
use crate::access::secret::SECRET_FILE;
use crate::appliance::STORE_FILE;
use crate::directory::Directory;

const CHECK: &str = "permissions";
/// Bits of a mode that let others in (chmod(2)).
const OTHERS: u32 = 0o077;

pub(super) fn check(context: &Context<'_>) -> Finding {
    look(&context.config.data_dir, context.config.certificate.as_ref().map(|files| files.key_file.as_path()))
}

fn look(data_dir: &Path, key_file: Option<&Path>) -> Finding {
    let directory = match Directory::open(data_dir) {
        Ok(directory) => directory,
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            let found = format!("{} is not a directory", data_dir.display());
            return Finding::failure(CHECK, found, "set data_dir to a directory, or move that file away");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Finding::ok(CHECK, format!("{} will be made at the first start", data_dir.display()));
        }
        Err(error) => return unseen(data_dir, &error),
    };
    let empty = directory.entries().is_ok_and(|mut entries| entries.next().is_none());
    match directory.mode() {
        Ok(mode) if mode & OTHERS != 0 && !empty => {
            let found = format!("other users of this machine can look into {}", data_dir.display());
            return Finding::warning(CHECK, found, format!("chmod 700 {}", data_dir.display()));
        }
        Ok(_) => {}
        Err(error) => return unseen(data_dir, &error),
    }
    let mut files: Vec<(PathBuf, File)> = Vec::new();
    for name in [STORE_FILE, SECRET_FILE] {
        let Ok(is) = directory.stat(name) else { continue };
        // Of a link, the advice below would be about what it leads to.
        if FileType::from_raw_mode(is.st_mode) != FileType::RegularFile {
            let found = format!("{} is not a regular file", directory.path_of(name).display());
            return Finding::failure(CHECK, found, "look what it is, and put the file itself there");
        }
        files.push((directory.path_of(name), File { mode: is.st_mode, user: is.st_uid }));
    }
    let key = key_file.and_then(|path| Some((path.to_owned(), fs::metadata(path).ok()?)));
    files.extend(key.map(|(path, is)| (path, File { mode: is.mode(), user: is.uid() })));
    // A group may read a certificate's key: that is how several servers share one.
    let mask = |path: &Path| if Some(path) == key_file { 0o007 } else { OTHERS };
    let open: Vec<PathBuf> = files
        .iter()
        .filter(|(path, file)| file.mode & mask(path) != 0)
        .map(|(path, _)| path.clone())
        .collect();
    if !open.is_empty() {
        return open_to_others(&open, "go-rwx");
    }
    // The server runs as the directory's owner; files that a command made as root would shut it out.
    let (user, group) = directory.owner();
    let foreign = files.iter().find(|(path, file)| path.starts_with(data_dir) && file.user != user);
    if let Some((path, file)) = foreign {
        let found = format!(
            "{} belongs to user {}, and its directory to user {user}: the server cannot open it",
            path.display(),
            file.user
        );
        let fix = format!("chown -h {user}:{group} {}", path.display());
        return Finding::failure(CHECK, found, fix);
    }
    Finding::ok(CHECK, "other users of this machine are kept out")
}

/// A file that has to be private.
struct File {
    mode: u32,
    user: u32,
}

fn unseen(data_dir: &Path, error: &std::io::Error) -> Finding {
    let found = format!("{} cannot be looked at: {error}", data_dir.display());
    Finding::warning(CHECK, found, "run doctor as root: sudo groundmist-sync doctor")
}

fn open_to_others(paths: &[PathBuf], mode: &str) -> Finding {
    let names = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
    let found = format!("other users of this machine can get at {names}");
    Finding::failure(CHECK, found, format!("chmod {mode} {names}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cli::doctor::Outcome;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_open_is_named_with_the_command_that_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let key = dir.path().join("key.pem");
        let check = || look(&data, Some(&key));
        assert!(check().outcome == Outcome::Ok && check().found.contains("first start"));
        fs::write(&data, "a file").unwrap();
        assert_eq!(check().outcome, Outcome::Failure);
        fs::remove_file(&data).unwrap();
        fs::create_dir(&data).unwrap();
        mode(&data, 0o755);
        assert_eq!(check().outcome, Outcome::Ok, "the server closes an empty one itself");
        fs::write(data.join("anything"), "").unwrap();
        assert_eq!(check().fix.unwrap(), format!("chmod 700 {}", data.display()));
        mode(&data, 0o700);
        assert_eq!(check().outcome, Outcome::Ok);
        let (store, secret) = (data.join(STORE_FILE), data.join(SECRET_FILE));
        for path in [&store, &secret, &key] {
            fs::write(path, "private").unwrap();
            mode(path, 0o604);
            let finding = check();
            assert_eq!(finding.fix, Some(format!("chmod go-rwx {}", path.display())), "{finding:?}");
            mode(path, 0o600);
        }
        mode(&key, 0o640);
        assert_eq!(check().outcome, Outcome::Ok);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&store, Some(12345), None).unwrap();
            let finding = check();
            assert!(finding.outcome == Outcome::Failure && finding.fix.unwrap().starts_with("chown -h 0:"));
        }
    }
}
