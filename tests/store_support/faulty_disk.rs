//! A disk that keeps apart what was fsynced and what was only written, and fails on request.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::Rng;

/// Disks write sectors whole, in any order.
const SECTOR: usize = 512;

/// What goes wrong, at the operation (write, change of length or fsync) with the given number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this and all later operations fail.
    PowerCut,
    /// One operation fails. As on Linux, a failed fsync forgets what it should have written, though it still reads.
    Error(io::ErrorKind),
}

#[derive(Debug, Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As the system shows it.
    current: Vec<u8>,
    /// As a power cut would leave it if nothing unsynced reached the disk.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    operations: u64,
    bytes_read: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
    hit: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl FaultyDisk {
    pub fn new(content: Vec<u8>, fault: Option<(u64, Fault)>) -> Self {
        let state = State { current: content.clone(), durable: content, fault, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `Store::open_backend`.
    pub fn factory(&self) -> impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static {
        let disk = self.clone();
        move || Ok(Box::new(disk.clone()))
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// Whether the fault has happened.
    pub fn was_hit(&self) -> bool {
        self.state().hit
    }

    pub fn set_fault(&self, fault: Option<(u64, Fault)>) {
        self.state().fault = fault;
    }

    /// What is on the disk after a power cut: all that was fsynced, and of the rest what `keep` says, sector by sector.
    pub fn after_power_cut(&self, mut keep: impl FnMut() -> bool) -> Vec<u8> {
        let state = self.state();
        let mut content = state.durable.clone();
        for change in &state.unsynced {
            match change {
                Change::Length(length) => {
                    if keep() {
                        content.resize(*length, 0);
                    }
                }
                Change::Write(offset, data) => {
                    let mut start = 0;
                    while start < data.len() {
                        let place = offset + start;
                        let end = data.len().min(start + SECTOR - place % SECTOR);
                        if keep() {
                            write_at(&mut content, place, &data[start..end]);
                        }
                        start = end;
                    }
                }
            }
        }
        content
    }

    /// A cut where each unsynced sector survives with the same chance.
    pub fn random_power_cut(&self, rng: &mut Rng) -> Vec<u8> {
        let chance = 1 + rng.below(9);
        self.after_power_cut(|| rng.below(10) < chance)
    }
}

impl State {
    /// Counts an operation; fails if it is the one that shall.
    fn operation(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, fault)) if at == number => {
                self.hit = true;
                match fault {
                    Fault::PowerCut => {
                        self.is_off = true;
                        Err(io::Error::other("the power is off"))
                    }
                    Fault::Error(kind) => Err(kind.into()),
                }
            }
            _ => self.check_power(),
        }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

fn write_at(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        Ok(state.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.check_power()?;
        state.bytes_read += out.len() as u64;
        let from = state.current.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let result = state.operation();
        // A cut may come after the change as well as before it.
        state.unsynced.push(Change::Length(len as usize));
        result?;
        state.current.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let result = state.operation();
        if !state.is_off {
            if result.is_ok() {
                state.durable = state.current.clone();
            }
            state.unsynced.clear();
        }
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Err(error) = state.operation() {
            let half = &data[..data.len() / 2];
            if !state.is_off {
                write_at(&mut state.current, offset as usize, half);
            }
            state.unsynced.push(Change::Write(offset as usize, half.to_vec()));
            return Err(error);
        }
        write_at(&mut state.current, offset as usize, data);
        state.unsynced.push(Change::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}
