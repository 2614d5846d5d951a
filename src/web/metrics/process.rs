//! What the system says of this process, from Linux's `/proc` (proc(5)).

use std::fs;

/// Resident memory in bytes; `None` where the system does not say.
pub fn rss_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Files and sockets that are open; the one to look with does not count.
pub fn open_files() -> Option<u64> {
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_files() {
        assert!(rss_bytes().unwrap() > 100_000);
        let before = open_files().unwrap();
        assert!(before >= 3, "{before}");
    }
}
