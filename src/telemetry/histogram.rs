//! How long things took, counted in buckets: two atomic additions for each, no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; what took longer is in one more.
pub const BOUNDS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// Filled by many threads.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    /// How many fell into each bucket alone, in the order of [`BOUNDS_US`].
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// Of all, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// One more thing took so long.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// As it is now.
    pub fn read(&self) -> Buckets {
        Buckets {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl std::iter::Sum for Buckets {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            counts: std::array::from_fn(|at| sum.counts[at] + one.counts[at]),
            sum_us: sum.sum_us + one.sum_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_bucket_below() {
        let histogram = Histogram::default();
        for us in [0, 250, 251, 500, 10_000_000, 10_000_001, 3_600_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        let Buckets { counts, sum_us } = histogram.read();
        assert_eq!((counts[0], counts[1], counts[13], counts[14]), (2, 2, 1, 2));
        assert_eq!(counts.iter().sum::<u64>(), 7);
        assert_eq!(sum_us, 250 + 251 + 500 + 10_000_000 + 10_000_001 + 3_600_000_000);
        assert!(BOUNDS_US.is_sorted());
    }
}
