//! Counts what the parties hold of a common total, and finds who gives way when the total is reached.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Approval, Party};

/// Amounts (bytes, connections) by approval and device. Every approval has the same share of the total, and within it
/// every device, so the one that is furthest over its share is the one that holds the most.
///
/// Invariants: an entry exists only while its amount is above zero; an approval's amount is the sum of its devices'.
#[derive(Debug, Default)]
pub struct Shares {
    total: usize,
    approvals: HashMap<Approval, Branch>,
}

#[derive(Debug, Default)]
struct Branch {
    total: usize,
    devices: HashMap<Arc<str>, usize>,
}

impl Shares {
    /// The amount that all parties hold together.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The amount that all devices of an approval hold together.
    pub fn of_approval(&self, approval: &Approval) -> usize {
        self.approvals.get(approval).map_or(0, |branch| branch.total)
    }

    /// The amount that one device holds.
    pub fn of_device(&self, party: &Party) -> usize {
        let branch = self.approvals.get(&party.approval);
        branch.and_then(|branch| branch.devices.get(&party.session)).copied().unwrap_or(0)
    }

    /// Adds to what a device holds.
    pub fn add(&mut self, party: &Party, amount: usize) {
        if amount == 0 {
            return;
        }
        // The key is copied only for a party that holds nothing yet.
        if !self.approvals.contains_key(&party.approval) {
            self.approvals.insert(party.approval.clone(), Branch::default());
        }
        if let Some(branch) = self.approvals.get_mut(&party.approval) {
            *branch.devices.entry(party.session.clone()).or_default() += amount;
            branch.total += amount;
            self.total += amount;
        }
    }

    /// Takes from what a device holds, at most all of it.
    pub fn remove(&mut self, party: &Party, amount: usize) {
        let Some(branch) = self.approvals.get_mut(&party.approval) else { return };
        let Some(device) = branch.devices.get_mut(&party.session) else { return };
        let amount = amount.min(*device);
        *device -= amount;
        branch.total -= amount;
        self.total -= amount;
        if *device == 0 {
            branch.devices.remove(&party.session);
        }
        if branch.devices.is_empty() {
            self.approvals.remove(&party.approval);
        }
    }

    /// The device that is furthest over its share among those that `may_give`, which gets approval and session: in the
    /// approval that holds the most of those with such a device, the one of them that holds the most.
    pub fn furthest(&self, may_give: impl Fn(&Approval, &Arc<str>) -> bool) -> Option<Party> {
        let mut by_size: Vec<_> = self.approvals.iter().collect();
        by_size.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.total.cmp(&of_a.total).then_with(|| a.cmp(b)));
        by_size.into_iter().find_map(|(approval, branch)| {
            let devices = branch.devices.iter().filter(|(session, _)| may_give(approval, session));
            let (session, _) = devices.max_by_key(|(session, held)| (**held, *session))?;
            Some(Party { approval: approval.clone(), session: session.clone() })
        })
    }

    /// The device that has to give way so that `claimant` can hold `amount` more: in the approval that holds the most, the
    /// device that holds the most. `None` when the claimant itself would then be the one furthest over its share.
    pub fn gives_way(&self, claimant: &Party, amount: usize) -> Option<Party> {
        let own = self.of_approval(&claimant.approval) + amount;
        let furthest = self.furthest(|approval, _| *approval != claimant.approval)?;
        (self.of_approval(&furthest.approval) > own).then_some(furthest)
    }

    /// As [`Shares::gives_way`], among the devices of the claimant's own approval.
    pub fn gives_way_within(&self, claimant: &Party, amount: usize) -> Option<Party> {
        let own = self.of_device(claimant) + amount;
        let others =
            |approval: &Approval, session: &_| *approval == claimant.approval && *session != claimant.session;
        let furthest = self.furthest(others)?;
        (self.of_device(&furthest) > own).then_some(furthest)
    }

    /// The devices that hold the most, at most `most` of them, and how much each holds; the largest first.
    pub fn largest(&self, most: usize) -> Vec<(Party, usize)> {
        let devices = self.approvals.iter().flat_map(|(approval, branch)| {
            let party = |session: &Arc<str>| Party { approval: approval.clone(), session: session.clone() };
            branch.devices.iter().map(move |(session, held)| (party(session), *held))
        });
        let mut devices: Vec<_> = devices.collect();
        devices.sort_unstable_by(|(a, a_held), (b, b_held)| b_held.cmp(a_held).then_with(|| a.cmp(b)));
        devices.truncate(most);
        devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(app: &str, session: &str) -> Party {
        Party::new("xyz.example".parse().unwrap(), app, session)
    }

    #[test]
    fn sums_follow_and_nothing_is_kept_of_who_holds_nothing() {
        let mut shares = Shares::default();
        let (phone, laptop) = (party("app", "phone"), party("app", "laptop"));
        shares.add(&phone, 3);
        shares.add(&laptop, 4);
        shares.add(&party("other", "phone"), 0);
        assert_eq!((shares.total(), shares.of_approval(&phone.approval)), (7, 7));
        assert_eq!((shares.of_device(&phone), shares.of_device(&laptop)), (3, 4));
        shares.remove(&phone, 5);
        assert_eq!(shares.total(), 4, "no more is taken than is held");
        shares.remove(&laptop, 4);
        shares.remove(&laptop, 1);
        assert!(shares.approvals.is_empty());
    }

    #[test]
    fn the_largest_device_of_the_largest_approval_gives_way() {
        let mut shares = Shares::default();
        // Many devices with a little each are one large approval.
        (0..500).for_each(|n| shares.add(&party("many", &n.to_string()), 2));
        shares.add(&party("many", "most"), 3);
        shares.add(&party("one", "device"), 900);
        assert_eq!(shares.gives_way(&party("victim", "a"), 1), Some(party("many", "most")));
        assert_eq!(shares.gives_way(&party("one", "device"), 1), Some(party("many", "most")));
        assert_eq!(shares.gives_way(&party("one", "device"), 103), None, "they would be equal");
        assert_eq!(shares.gives_way(&party("many", "victim"), 1), None);
        assert_eq!(shares.gives_way_within(&party("many", "victim"), 1), Some(party("many", "most")));
        assert_eq!(shares.gives_way_within(&party("many", "victim"), 3), None);
        assert_eq!(shares.gives_way_within(&party("one", "device"), 1), None);
    }
}
