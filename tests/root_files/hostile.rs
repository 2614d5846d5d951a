//! The hostile user: threads of this process that have given up root, and replace names as fast as they can.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{NAMESPACE, Scene, outside};

/// User and group `nobody`.
pub const USER: u32 = 65_534;
/// Threads that swap; commands need a core as well.
const THREADS: u64 = 2;

/// Runs `work` on a thread without root's rights.
pub fn as_hostile<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            give_up_root();
            work()
        });
        thread.join().unwrap()
    })
}

fn give_up_root() {
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
    assert!(fs::read_dir("/root").is_err(), "this thread still has root's rights");
}

/// Removes all that is in both directories, also what root made there. Nobody swaps meanwhile.
pub fn clear(scene: &Scene) {
    for directory in [&scene.data, &scene.shared] {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let is_dir = entry.file_type().unwrap().is_dir();
            let removed =
                if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.unwrap();
        }
    }
}

/// Fills both directories as they are at the beginning of a round.
pub fn fill(scene: &Scene) {
    let shared = |name: &str| scene.shared.join(name);
    for (from, to) in [
        ("store", scene.data.join("groundmist.redb")),
        ("secret", scene.data.join("secret.key")),
        ("document.automerge", shared("file.automerge")),
        ("backup", shared("saved")),
    ] {
        fs::write(to, fs::read(scene.pristine.join(from)).unwrap()).unwrap();
    }
    for name in ["backups", "export", "prototype"] {
        fs::create_dir(shared(name)).unwrap();
    }
    fs::create_dir(shared("export").join(NAMESPACE)).unwrap();
    outside::make_prototype(&shared("prototype"), "harmless");
}

/// Threads that swap until they are stopped.
pub struct Hostile {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    swaps: AtomicU64,
    /// Read while swapping, written to pause.
    turn: RwLock<()>,
}

impl Hostile {
    pub fn start(scene: &Scene) -> Self {
        let shared = Arc::<Shared>::default();
        let threads = (0..THREADS).map(|seed| {
            let (shared, swaps) = (shared.clone(), Swaps::new(scene, seed));
            thread::spawn(move || {
                give_up_root();
                swaps.run(&shared);
            })
        });
        Self { threads: threads.collect(), shared: shared.clone() }
    }

    /// Nothing is swapped while `work` runs.
    pub fn pause<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = self.shared.turn.write().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// How many swaps there were.
    pub fn stop(self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.shared.swaps.load(Ordering::Relaxed)
    }
}

/// Which name is replaced by a link to what.
struct Swaps {
    pairs: Vec<(PathBuf, PathBuf)>,
    random: u64,
}

impl Swaps {
    fn new(scene: &Scene, seed: u64) -> Self {
        let outside = |name: &str| scene.outside.at(name);
        let (data, shared) = (|name: &str| scene.data.join(name), |name: &str| scene.shared.join(name));
        let mut pairs = Vec::new();
        for store in ["", ".v1-backup", ".v1-backup.unfinished", ".restoring"] {
            let name = data(&format!("groundmist.redb{store}"));
            pairs.extend(["store", "secret", "folder/new"].map(|target| (name.clone(), outside(target))));
        }
        for secret in ["secret.key", "secret.key.new"] {
            pairs.extend(["store", "secret", "folder/new"].map(|target| (data(secret), outside(target))));
        }
        pairs.push((data("admin.sock"), outside("socket")));
        for name in ["backup", "backup.partial"] {
            pairs.extend(["backup", "secret", "folder/new"].map(|target| (shared(name), outside(target))));
        }
        pairs.push((shared("saved"), outside("backup")));
        pairs.push((shared("file.automerge"), outside("document.automerge")));
        for name in ["backups", "export"] {
            pairs.push((shared(name), outside("folder")));
        }
        pairs.push((shared("export").join(NAMESPACE), outside("folder")));
        pairs.push((shared("prototype"), outside("prototype")));
        pairs.push((shared("prototype").join(NAMESPACE), outside("prototype").join(NAMESPACE)));
        Self { pairs, random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn run(mut self, shared: &Shared) {
        while !shared.stop.load(Ordering::Relaxed) {
            {
                let _turn = shared.turn.read().unwrap_or_else(PoisonError::into_inner);
                for _ in 0..8 {
                    self.swap();
                    shared.swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
            // So that a pause is not waited for, and the commands come to their end at times.
            thread::sleep(Duration::from_micros(self.next(400)));
        }
    }

    /// Puts a link in the place of a name for a moment, and back what was there.
    fn swap(&mut self) {
        let place = self.next(self.pairs.len() as u64) as usize;
        let (name, target) = self.pairs[place].clone();
        let mut beside = name.clone().into_os_string();
        beside.push(format!(".link-{}", self.next(1 << 40)));
        let beside = PathBuf::from(beside);
        if symlink(target, &beside).is_err() {
            return;
        }
        if renameat_with(CWD, &beside, CWD, &name, RenameFlags::EXCHANGE).is_ok() {
            self.wait();
            let _ = renameat_with(CWD, &beside, CWD, &name, RenameFlags::EXCHANGE);
        } else if renameat_with(CWD, &beside, CWD, &name, RenameFlags::NOREPLACE).is_ok() {
            self.wait();
            let _ = fs::rename(&name, &beside);
        }
        let _ = fs::remove_file(&beside);
    }

    fn wait(&mut self) {
        match self.next(4) {
            0 => thread::sleep(Duration::from_micros(self.next(3000))),
            1 => thread::yield_now(),
            _ => (0..self.next(2000)).for_each(|_| std::hint::spin_loop()),
        }
    }

    /// Below `limit` (xorshift64).
    fn next(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}
