//! How much memory the process and the machine have, and giving what is free of it back to the system.

use super::groups::memory_limit;

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
    let least = memory_limit().map_or(machine, |limit| limit.min(machine));
    if least == 0 { 1 << 30 } else { least }
}

#[cfg(test)]
mod tests {
    use super::*;

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
