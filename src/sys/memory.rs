//! How much memory the process and the machine have, and giving what is free of it back to the system.

/// Resident memory of this process in bytes, from `/proc/self/status` (proc(5)); `None` if the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Gives memory back to the system that was freed and that glibc keeps for later. It takes some milliseconds, during which
/// other threads wait if they allocate.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn give_back() {
    // malloc.h of the GNU C Library.
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // SAFETY: the declaration is that of malloc.h. The function takes a number, and locks each arena that it works on;
    // memory that is in use stays where it is (malloc_trim(3)).
    unsafe { malloc_trim(0) };
}

/// musl gives back what it can by itself.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

/// Memory that this process and its children may take, in bytes: the machine's, or that of the control group if that is
/// less. 1 GiB where the system does not say.
pub fn machine_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group_limit(&groups, &|path| std::fs::read_to_string(path).ok());
    let least = limit.map_or(machine, |limit| limit.min(machine));
    if least == 0 { 1 << 30 } else { least }
}

/// The lowest limit of a control group and those that it is in (cgroups(7)), by the text of `/proc/self/cgroup`.
fn group_limit(groups: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be the host's, of which only the last part is to be seen: then the root is our group.
        let mut at = path.trim_end_matches('/');
        loop {
            // "max", and what version 1 has in its place, are above any machine.
            let limit = read(&format!("{root}{at}/{file}")).and_then(|text| text.trim().parse::<u64>().ok());
            least = [least, limit].into_iter().flatten().min();
            let Some((above, _)) = at.rsplit_once('/') else { break };
            at = above;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        group_limit(groups, &|path| {
            files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let two = [
            ("/sys/fs/cgroup/system.slice/memory.max", "805306368\n"),
            ("/sys/fs/cgroup/system.slice/sync.service/memory.max", "max\n"),
        ];
        assert_eq!(limit("0::/system.slice/sync.service\n", &two), Some(768 << 20));
        let one = [("/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes", "536870912\n")];
        assert_eq!(limit("9:name=systemd:/\n4:memory:/docker/a\n0::/\n", &one), Some(512 << 20));
        let container = [("/sys/fs/cgroup/memory.max", "1024\n")];
        assert_eq!(limit("0::/\n", &container), Some(1024));
        assert_eq!(limit("0::/../outside\n", &container), Some(1024));
        assert_eq!(limit("", &[]), None);
        assert_eq!(limit("nonsense\n4:cpu:/\n", &container), None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine_bytes() >= 64 << 20);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_was_freed_goes_back() {
        // Small pieces, which the allocator keeps, and every hundredth of them in use, so that no end of the heap is free.
        let mut pieces: Vec<Vec<u8>> = (0..400_000).map(|n| vec![n as u8; 200]).collect();
        let full = resident_bytes().unwrap();
        let mut n = 0;
        pieces.retain(|_| {
            n += 1;
            n % 100 == 0
        });
        give_back();
        let after = resident_bytes().unwrap();
        assert!(after + (40 << 20) < full, "{full} bytes before, {after} after");
        drop(pieces);
    }
}
