//! Which changes rest on which.

use std::collections::HashSet;

use super::Graph;
use crate::types::ChangeHash;

impl Graph {
    /// Which rows of the tail `seeds` have as ancestors or are, by place in the tail; and the hashes in the snapshot
    /// that they rest on.
    pub fn ancestors(&self, seeds: &[ChangeHash]) -> (Vec<bool>, Vec<ChangeHash>) {
        let mut has = vec![false; self.entries.len()];
        let mut below: Vec<ChangeHash> = Vec::new();
        for seed in seeds {
            match self.row(seed) {
                Some(row) => has[(row - self.base) as usize] = true,
                None => below.push(*seed),
            }
        }
        for at in (0..has.len()).rev().filter(|at| !self.entries.is_empty() && *at < self.entries.len()) {
            if !has[at] {
                continue;
            }
            for dep in self.entries[at].deps.rows() {
                if let Some(place) = dep.checked_sub(self.base) {
                    has[place as usize] = true;
                }
            }
            if let Some(deps) = self.into_snapshot.get(&(self.base + at as u64)) {
                below.extend(deps);
            }
        }
        (has, below)
    }

    /// Take from `has` every row with a dependency that is not in `has`: whoever lacks a change lacks what rests on it.
    pub fn without_dependents(&self, has: &mut [bool]) {
        for at in 0..has.len().min(self.entries.len()) {
            let lacks = |dep: &u64| dep.checked_sub(self.base).is_some_and(|place| !has[place as usize]);
            if has[at] && self.entries[at].deps.rows().iter().any(lacks) {
                has[at] = false;
            }
        }
    }

    /// True when `below` (hashes in the snapshot that someone has) implies the whole snapshot.
    pub fn covers_snapshot(&self, below: &[ChangeHash]) -> bool {
        if below.len() < self.snapshot_heads.len() {
            return false;
        }
        let below: HashSet<&ChangeHash> = below.iter().collect();
        self.snapshot_heads.iter().all(|head| below.contains(head))
    }
}
