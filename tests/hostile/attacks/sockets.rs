//! Sockets: too many, half finished, under another's name, come and gone.

use std::time::Duration;

use bytes::Bytes;

use crate::client::{frame, frame_head};
use crate::common::peer::new_document;
use crate::common::websocket::BINARY;
use crate::foes::{Script, Slot, Step, Then, Writer};
use crate::forge::{self, Sync};
use crate::row::{Attack, May, Scene};
use crate::victims::DEVICE;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "fragments", may: May::Read, sockets: [2, 100], script: fragments },
    Attack { name: "half-messages", may: May::Read, sockets: [2, 100], script: half_messages },
    Attack { name: "sockets", may: May::Read, sockets: [1000, 1001], script: sockets },
    Attack { name: "name-of-another", may: May::Read, sockets: [1, 100], script: name_of_another },
    Attack { name: "half-requests", may: May::Read, sockets: [400, 0], script: half_requests },
    Attack { name: "silent-connections", may: May::Read, sockets: [400, 0], script: silent_connections },
    Attack { name: "come-and-go", may: May::Read, sockets: [1, 100], script: come_and_go },
];

/// A fragmented message of 17 kB that never comes to its end, kept alive by empty fragments.
fn fragments(_: &Scene<'_>, _: Slot) -> Script {
    let begin = Step::Write(frame(0x02, &[0; 17_000]).into());
    let more = Step::Write(frame(0x00, b"").into());
    let steps = vec![begin, Step::Again, more, Step::Pause(Duration::from_millis(500))];
    Script { steps, then: Then::Again, ..Script::default() }
}

/// A message of 30 MB of which a byte comes now and then.
fn half_messages(_: &Scene<'_>, _: Slot) -> Script {
    let begin = [frame_head(BINARY, 30 << 20), vec![0; 17_000]].concat();
    let more = Step::Write(Bytes::from_static(&[0]));
    let steps = vec![Step::Write(begin.into()), Step::Again, more, Step::Pause(Duration::from_millis(500))];
    Script { steps, then: Then::Again, ..Script::default() }
}

/// As many as the server takes.
fn sockets(_: &Scene<'_>, _: Slot) -> Script {
    Script { steps: vec![Step::Pause(Duration::from_secs(2))], ..Script::default() }
}

/// Joins under the name of a device that is connected.
fn name_of_another(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    writer.step(Step::Pause(Duration::from_millis(50)));
    Script { steps: writer.steps(), then: Then::Leave, peer: Some(DEVICE.into()), ..Script::default() }
}

/// Connects, sends half a request and is followed by the next.
fn half_requests(_: &Scene<'_>, _: Slot) -> Script {
    let begin = Step::Write(Bytes::from_static(b"GET /sync HTTP/1.1\r\nHost: x\r\nX-Slow: "));
    let steps = vec![begin, Step::Pause(Duration::from_millis(300))];
    Script { steps, then: Then::Leave, bare: true, ..Script::default() }
}

fn silent_connections(_: &Scene<'_>, _: Slot) -> Script {
    let steps = vec![Step::Pause(Duration::from_millis(300))];
    Script { steps, then: Then::Leave, bare: true, ..Script::default() }
}

/// Opens two thousand documents and leaves, which concerns all of them.
fn come_and_go(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let claim: Bytes = Sync { heads: &[forge::hash_of(1)], ..Sync::default() }.encode().into();
    (0..2000).for_each(|_| writer.sync(new_document(), &claim));
    Script { steps: writer.steps(), then: Then::Leave, ..Script::default() }
}
