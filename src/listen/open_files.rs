//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit, as any process may, and gives the limit in force;
/// `None`: there is none. Soft limits are low for the sake of programs that use select(2).
pub fn raise_open_files() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => tracing::debug!(from = current, to = maximum, "the limit on open files was raised"),
            Err(error) => tracing::debug!(%error, limit = current, "the limit on open files stays as it is"),
        }
    }
    getrlimit(Resource::Nofile).current.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_limit() {
        let hard = getrlimit(Resource::Nofile).maximum.map(|hard| usize::try_from(hard).unwrap());
        assert_eq!(raise_open_files(), hard);
        assert_eq!(raise_open_files(), hard, "once is enough");
    }
}
