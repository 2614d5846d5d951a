//! What the server's process goes through meanwhile: memory, signs of life, the size of its store.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A server that has taken so much is ended: a test must not take the machine's memory.
const MOST_RSS_BYTES: u64 = 1500 << 20;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often the server is asked whether it lives.
const ASK: Duration = Duration::from_millis(200);
/// How long one answer may take. A gap is longer than this when an answer is.
const ANSWER: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub peak_rss: u64,
    /// Ended for its memory.
    pub ended: bool,
    /// Longest time between two good answers to `GET /healthz`.
    pub longest_gap: Duration,
}

/// Looks on until told to stop.
pub struct Watch {
    stop: Arc<AtomicBool>,
    memory: JoinHandle<(u64, bool)>,
    life: JoinHandle<Duration>,
}

impl Watch {
    pub fn start(pid: u32, data_dir: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (to_memory, to_life) = (stop.clone(), stop.clone());
        let socket = data_dir.join("admin.sock");
        Self {
            stop,
            memory: std::thread::spawn(move || watch_memory(pid, &to_memory)),
            life: std::thread::spawn(move || watch_life(&socket, &to_life)),
        }
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let (peak_rss, ended) = self.memory.join().unwrap();
        Seen { peak_rss, ended, longest_gap: self.life.join().unwrap() }
    }
}

/// Resident memory now in bytes; 0 when the process is gone.
pub fn rss(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Forgets the most that resident memory ever was.
pub fn reset_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

fn high_water_mark(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn watch_memory(pid: u32, stop: &AtomicBool) -> (u64, bool) {
    let mut peak = 0;
    while !stop.load(Ordering::Relaxed) {
        peak = peak.max(rss(pid));
        if peak > MOST_RSS_BYTES {
            let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
            return (peak, true);
        }
        std::thread::sleep(LOOK);
    }
    (peak.max(high_water_mark(pid)), false)
}

fn watch_life(socket: &PathBuf, stop: &AtomicBool) -> Duration {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(ASK);
        if is_well(socket) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
    }
    longest.max(last.elapsed())
}

fn is_well(socket: &PathBuf) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Bytes of the files in a directory.
pub fn size_of(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap().filter_map(|entry| entry.ok()?.metadata().ok());
    files.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}
