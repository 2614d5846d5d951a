//! What the server and the process that opens a document say to each other: frames of a tag, a length and bytes.
//!
//! ```text
//! process: HELLO(version)
//! server:  JOB(..) CHUNK* | SNAPSHOT | INDEX? KNOWN* | SNAPSHOT? ROW*, then END
//! process: FAILED(text) | ABSENT | CHANGE* END | INFO(..) INDEX DOCUMENT? END | PART* END(is last)
//! ```
//!
//! After an extraction that has more to come the server may send another JOB for the same document. The server checks
//! everything that the process says; the process trusts the server.

use std::io::{self, Read, Write};

use crate::sync::leb::{Bad, Reader, put_unsigned};
use crate::types::ChangeHash;

/// Kinds of frames.
pub mod tag {
    pub const HELLO: u8 = 1;
    pub const JOB: u8 = 2;
    pub const CHUNK: u8 = 3;
    pub const SNAPSHOT: u8 = 4;
    pub const INDEX: u8 = 5;
    pub const KNOWN: u8 = 6;
    pub const ROW: u8 = 7;
    pub const END: u8 = 8;
    pub const FAILED: u8 = 9;
    pub const ABSENT: u8 = 10;
    pub const CHANGE: u8 = 11;
    pub const INFO: u8 = 12;
    pub const DOCUMENT: u8 = 13;
    pub const PART: u8 = 14;
    /// The process could not limit itself, so it opens nothing.
    pub const UNLIMITED: u8 = 15;
}

/// Bytes that are reserved for a frame before they have come.
const STEP: usize = 64 << 10;

/// The version that both sides must have. A build of another commit may count as the same; then a frame does not parse.
pub fn version() -> String {
    format!("groundmist-sync {} ({})", env!("CARGO_PKG_VERSION"), env!("GROUNDMIST_BUILD"))
}

/// Sends a frame whose content is `parts`, one behind the other.
/// # Errors
/// The other side does not read.
pub fn send(to: &mut impl Write, tag: u8, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).map_err(|_| io::Error::other("a frame of more than 4 GiB"))?;
    to.write_all(&[tag])?;
    to.write_all(&length.to_le_bytes())?;
    parts.iter().try_for_each(|part| to.write_all(part))
}

/// Receives a frame of at most `most` bytes.
/// # Errors
/// The other side has ended, or the frame is larger.
pub fn receive(from: &mut impl Read, most: usize) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    from.read_exact(&mut header)?;
    let [tag, length @ ..] = header;
    let length = u32::from_le_bytes(length) as usize;
    if length > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a frame larger than it may be"));
    }
    let mut content = Vec::new();
    while content.len() < length {
        // In steps: the length alone must not make us reserve memory.
        let (start, step) = (content.len(), STEP.max(content.len()).min(length - content.len()));
        content.reserve_exact(step);
        content.resize(start + step, 0);
        from.read_exact(&mut content[start..])?;
    }
    Ok((tag, content))
}

/// The error for what makes no sense.
pub fn nonsense(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What is to be done, and with how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The server's process.
    pub parent: u64,
    /// Bytes of memory that the process may take.
    pub memory_bytes: u64,
    /// Seconds of processor time that it may take on top of what earlier orders allowed.
    pub cpu_seconds: u64,
    /// The work.
    pub work: Work,
}

/// The work of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// As [`crate::sync::job::Job::Intake`].
    Intake {
        /// The store may have some of it.
        existing: bool,
    },
    /// As [`crate::sync::job::Job::Extract`].
    Extract {
        /// Heads of the snapshot that is meant.
        snapshot: Vec<ChangeHash>,
        /// What the peer has.
        have: Vec<ChangeHash>,
        /// Changes to leave out at the start.
        skip: u64,
    },
    /// As [`crate::sync::job::Job::Compact`], of a snapshot with so many changes and the rows that follow.
    Compact {
        /// Changes in the snapshot.
        snapshot_changes: u64,
    },
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    put_unsigned(out, hashes.len() as u64);
    hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
}

fn hashes(reader: &mut Reader<'_>) -> Result<Vec<ChangeHash>, Bad> {
    let count = reader.unsigned()?;
    let bytes = reader.bytes(count.checked_mul(32).ok_or(Bad("hashes"))?)?;
    Ok(bytes.as_chunks::<32>().0.iter().map(|hash| ChangeHash(*hash)).collect())
}

impl Order {
    /// As a frame's content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [self.parent, self.memory_bytes, self.cpu_seconds] {
            put_unsigned(&mut out, number);
        }
        match &self.work {
            Work::Intake { existing } => out.extend([0, u8::from(*existing)]),
            Work::Extract { snapshot, have, skip } => {
                out.push(1);
                put_hashes(&mut out, snapshot);
                put_hashes(&mut out, have);
                put_unsigned(&mut out, *skip);
            }
            Work::Compact { snapshot_changes } => {
                out.push(2);
                put_unsigned(&mut out, *snapshot_changes);
            }
        }
        out
    }

    /// Reads a frame's content.
    /// # Errors
    /// The content is not an order.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let reader = &mut Reader::new(bytes);
        let (parent, memory_bytes, cpu_seconds) =
            (reader.unsigned()?, reader.unsigned()?, reader.unsigned()?);
        let work = match reader.byte()? {
            0 => Work::Intake { existing: reader.byte()? != 0 },
            1 => Work::Extract { snapshot: hashes(reader)?, have: hashes(reader)?, skip: reader.unsigned()? },
            2 => Work::Compact { snapshot_changes: reader.unsigned()? },
            _ => return Err(Bad("unknown order")),
        };
        Ok(Self { parent, memory_bytes, cpu_seconds, work })
    }
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its heads, sorted.
    pub heads: Vec<ChangeHash>,
    /// Its changes.
    pub changes: u64,
}

impl Info {
    /// As a frame's content.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_unsigned(&mut out, self.changes);
        put_hashes(&mut out, &self.heads);
        out
    }

    /// Reads a frame's content.
    /// # Errors
    /// The content is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let reader = &mut Reader::new(bytes);
        let info = Self { changes: reader.unsigned()?, heads: hashes(reader)? };
        if reader.is_empty() { Ok(info) } else { Err(Bad("more than heads")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_as_they_were_sent() {
        let hash = |n| ChangeHash([n; 32]);
        let extract = Work::Extract { snapshot: vec![hash(1)], have: vec![hash(2), hash(3)], skip: 1 << 40 };
        for work in [Work::Intake { existing: true }, extract, Work::Compact { snapshot_changes: 7 }] {
            let order = Order { parent: 1, memory_bytes: 2 << 30, cpu_seconds: 60, work };
            assert_eq!(Order::decode(&order.encode()), Ok(order.clone()));
            for length in 0..order.encode().len() {
                assert!(Order::decode(&order.encode()[..length]).is_err());
            }
        }
        let info = Info { heads: vec![hash(9)], changes: 300 };
        assert_eq!(Info::decode(&info.encode()), Ok(info.clone()));
        assert!(Info::decode(&[info.encode(), vec![0]].concat()).is_err());
    }

    #[test]
    fn a_length_alone_reserves_nothing_and_too_much_is_refused() {
        let mut sent = Vec::new();
        send(&mut sent, tag::CHUNK, &[b"ab", &[7; 200_000]]).unwrap();
        assert_eq!(receive(&mut &sent[..], 200_002).unwrap().1.len(), 200_002);
        assert_eq!(receive(&mut &sent[..], 200_001).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let claims = [&[tag::CHUNK], &u32::MAX.to_le_bytes()[..], b"little"].concat();
        let error = receive(&mut &claims[..], usize::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
