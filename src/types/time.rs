//! The machine's clocks, and dates of the Gregorian calendar in UTC.

use std::ops::{Add, AddAssign};
use std::sync::LazyLock;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Millis;

/// A day in milliseconds.
pub const DAY_MS: Millis = 86_400_000;

/// Milliseconds since the Unix epoch, by the machine's clock; 0 before it.
pub fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// A point in time by the wall clock and, within this process, by the clock that nobody sets. Only the wall clock's
/// reading is stored, so a moment that was read from the store has no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Millis", into = "Millis")]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub wall: Millis,
    /// Milliseconds of this process by the monotonic clock.
    pub steady: Option<Millis>,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        let Now { wall, steady: Steady(steady) } = Now::read();
        Self { wall, steady: Some(steady) }
    }

    /// Milliseconds from this moment to a later one. The monotonic clock decides where both moments have its reading,
    /// so setting the wall clock changes nothing then. Otherwise a moment that the wall clock has not reached yet
    /// counts as the later one.
    pub fn until(self, later: Self) -> Millis {
        match (self.steady, later.steady) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => later.wall.saturating_sub(self.wall),
        }
    }
}

impl From<Millis> for Moment {
    fn from(wall: Millis) -> Self {
        Self { wall, steady: None }
    }
}

impl From<Moment> for Millis {
    fn from(moment: Moment) -> Self {
        moment.wall
    }
}

/// A reading of the clock that nobody sets, in milliseconds. Waits are computed from it: whoever sets the machine's clock neither
/// ends nor prolongs one. It means nothing to another process, so it is not stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Steady(Millis);

impl Steady {
    /// The reading now.
    pub fn now() -> Self {
        static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self(Millis::try_from(FIRST.elapsed().as_millis()).unwrap_or(Millis::MAX))
    }

    /// Milliseconds from an earlier reading to this one; 0 if that is the later one.
    pub fn since(self, earlier: Self) -> Millis {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Millis> for Steady {
    type Output = Self;

    fn add(self, ms: Millis) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// This moment by both clocks: the wall clock's reading is what is stored and told, the other is for waits. Other than a
/// [`Moment`], which may come from the store, it has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall: Millis,
    /// The clock that nobody sets.
    pub steady: Steady,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { wall: now(), steady: Steady::now() }
    }

    /// Both clocks with the same reading, for virtual time.
    pub const fn at(ms: Millis) -> Self {
        Self { wall: ms, steady: Steady(ms) }
    }
}

/// Time passes on both clocks.
impl AddAssign<Millis> for Now {
    fn add_assign(&mut self, ms: Millis) {
        self.wall = self.wall.saturating_add(ms);
        self.steady = self.steady + ms;
    }
}

/// Year, month, day, hour, minute, second.
pub type Civil = (u64, u64, u64, u64, u64, u64);

/// A time as the calendar has it (Hinnant's `civil_from_days`).
pub fn civil(at: Millis) -> Civil {
    let (days, seconds) = (at / DAY_MS, at / 1000 % 86_400);
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1, seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `2026-01-31T08:05:09Z` (RFC 3339).
pub fn rfc3339(at: Millis) -> String {
    let (year, month, day, hour, minute, second) = civil(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `3 Feb 2027`.
pub fn day(at: Millis) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, ..) = civil(at);
    let month = usize::try_from(month).ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    format!("{day} {} {year}", month.unwrap_or(&"?"))
}

/// `3 Feb 2027, 08:05 UTC`.
pub fn minute(at: Millis) -> String {
    let (.., hour, minute, _) = civil(at);
    format!("{}, {hour:02}:{minute:02} UTC", day(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_clock_moves_no_moment_of_this_process() {
        let moment = |wall, steady| Moment { wall, steady };
        let before = moment(1_000, Some(10));
        assert_eq!(before.until(moment(9_000_000, Some(11))), 1, "set forward");
        assert_eq!(before.until(moment(0, Some(60))), 50, "set back");
        let stored: Moment = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        assert_eq!(stored, moment(1_000, None));
        assert_eq!(stored.until(moment(1_500, Some(1))), 500);
        assert_eq!(stored.until(moment(500, Some(1))), 0, "from the future");
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(4_102_444_800_000), "2100-01-01T00:00:00Z");
    }
}
