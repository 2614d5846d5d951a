//! What approved apps do that they should not.

mod bombs;
mod claims;
mod floods;
mod graphs;
mod sockets;

use std::time::Duration;

use crate::foes::{Script, Slot, Step};
use crate::row::{Attack, May, Scene};

/// Nothing at all: what the victims notice of each other.
const CALM: &[Attack] = &[Attack { name: "calm", may: May::Read, sockets: [1, 100], script: nothing }];

fn nothing(_: &Scene<'_>, _: Slot) -> Script {
    Script { steps: vec![Step::Pause(Duration::from_secs(3))], ..Script::default() }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    [CALM, bombs::ATTACKS, claims::ATTACKS, graphs::ATTACKS, floods::ATTACKS, sockets::ATTACKS]
        .into_iter()
        .flatten()
}
