//! Giving up root for work that needs the directory's owner's rights only.
//!
//! The checks of [`Directory`] hold without this. It is a second wall: what has given up root cannot touch a file of root's,
//! whatever name it is led to. Linux keeps users and groups for each thread, and rustix's calls change the calling thread
//! only. Threads inherit them from the thread that starts them.

use std::panic::resume_unwind;
use std::thread;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::Directory;

impl Directory {
    /// Runs `work` with the rights of the directory's owner, on a thread of its own, and so all threads that it starts. The
    /// calling thread stays what it is: it still has to write to where only root can.
    pub fn as_owner<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if !self.is_guarded() || self.owner.0 == 0 {
            return work();
        }
        let joined = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.give_up_root();
                work()
            });
            thread.join()
        });
        joined.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The calling thread, and those that it starts from here on, have the rights of the directory's owner only. Called
    /// before there are other threads it is the whole process.
    ///
    /// Where root may not do this (the unit of the daily backup has neither the capability nor the system call), the thread
    /// goes on as it is.
    pub fn give_up_root(&self) {
        if !self.is_guarded() || self.owner.0 == 0 {
            return;
        }
        // The owner must not trace the thread that now has the same user: it shares its memory with root's threads. The
        // kernel sees to it as well when the user changes.
        if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
            return;
        }
        let (user, group) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        // The user last: without root's the others cannot be changed any more.
        let given_up = set_thread_groups(&[])
            .and_then(|()| set_thread_res_gid(group, group, group))
            .and_then(|()| set_thread_res_uid(user, user, user));
        if let Err(error) = given_up {
            tracing::debug!(%error, "root's rights could not be given up; every file is checked all the same");
        }
    }
}
