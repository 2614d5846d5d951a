//! How many files and sockets this process may have open.

/// The soft limit on open files; `None` when the system does not say or sets none.
pub fn open_files_limit() -> Option<usize> {
    parse(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             96342                96342                processes \n\
                     Max open files            1024                 524288               files     \n";
        assert_eq!(parse(table), Some(1024));
        assert_eq!(parse("Max open files            unlimited            unlimited            files"), None);
        assert_eq!(parse(""), None);
    }
}
