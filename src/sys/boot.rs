//! Whether the machine has been started again.

use serde::{Deserialize, Serialize};

use crate::types::{Millis, now};

/// The variable in which the systemd unit hands the boot's id over, because it hides [`BOOT_ID_FILE`].
const BOOT_ID: &str = "GROUNDMIST_BOOT_ID";
/// Where Linux tells the boot's id (proc_sys_kernel(5)).
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";
/// Two readings of one boot differ by no more than this in when it began: seconds are rounded, and clocks are corrected a
/// little.
const SAME_BOOT_MS: Millis = 10_000;

/// One boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// A random id, where the system tells it.
    pub id: Option<String>,
    /// When it began, by the machine's clock as it is set now.
    pub began: Millis,
}

impl Boot {
    /// The one under way.
    pub fn now() -> Self {
        let given = std::env::var(BOOT_ID).ok();
        let id = given.or_else(|| std::fs::read_to_string(BOOT_ID_FILE).ok());
        let id = id.map(|id| id.trim().replace('-', "")).filter(|id| !id.is_empty());
        let up_seconds = Millis::try_from(rustix::system::sysinfo().uptime).unwrap_or(0);
        Self { id, began: now().saturating_sub(up_seconds.saturating_mul(1000)) }
    }

    /// True for two readings of the same boot. Without ids the clock decides: then it may have been set meanwhile, and one boot
    /// be taken for two.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.id, &other.id) {
            (Some(one), Some(other)) => one == other,
            _ => self.began.abs_diff(other.began) <= SAME_BOOT_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_known_by_its_id_or_else_by_when_it_began() {
        let boot = |id: &str, began| Boot { id: (!id.is_empty()).then(|| id.to_owned()), began };
        for (one, other, same) in [
            (boot("a", 0), boot("a", 1_000_000), true),
            (boot("a", 0), boot("b", 0), false),
            (boot("", 100_000), boot("", 90_000), true),
            (boot("", 100_000), boot("", 89_999), false),
            (boot("a", 100_000), boot("", 101_000), true),
        ] {
            assert_eq!((one.is_same(&other), other.is_same(&one)), (same, same), "{one:?} {other:?}");
        }
        assert!(Boot::now().is_same(&Boot::now()));
        assert!(Boot { id: None, ..Boot::now() }.is_same(&Boot::now()));
    }
}
