//! One opener process as the server sees it: started, talked to within a deadline, ended.
//!
//! Reading and writing never block for longer than a tick, so that a process that hangs is ended in time and a server that
//! stops does not wait for it. What the process says on its standard error is read along, so that it cannot block there
//! either, and a bounded part of it goes to the log.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::frame::{nonsense, receive, tag, version};

/// The hidden command that makes the program an opener.
pub const COMMAND: &str = "open-document";
/// Where the running program is, also after an upgrade has put another file in its place.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// A started process says its version within this time, on a machine that is busy with something else too.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How often a wait looks whether the server stops.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// Bytes of standard error that are kept.
const SAID_BYTES: usize = 2048;
/// Signals that ask a program to end: hang-up, interrupt, terminate.
const ASKING: [i32; 3] = [1, 2, 15];
/// What the allocator says before it aborts.
const OUT_OF_MEMORY: &str = "memory allocation of";

/// Why a process did not do its job.
#[derive(Debug)]
pub enum Failure {
    /// No process can be started here, or none that is this program.
    NotStarted(String),
    /// The process ended badly, in words.
    Ended(String),
    /// It wanted more memory than it was allowed.
    WantedMore,
    /// The server stops.
    Stopped,
}

/// A running process. Dropped, it is killed.
pub struct Process<'a> {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: ChildStderr,
    said: Vec<u8>,
    deadline: Instant,
    stopping: &'a AtomicBool,
}

/// Which of the process's pipes is waited for.
#[derive(Clone, Copy, PartialEq)]
enum Ready {
    ToRead,
    ToWrite,
}

impl<'a> Process<'a> {
    /// Starts one: `program`, or else the running program.
    /// # Errors
    /// No process can be started, or it is another version.
    pub fn start(program: Option<&Path>, stopping: &'a AtomicBool) -> Result<Self, Failure> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => own_program()?,
        };
        let not_started = |error: io::Error| {
            Failure::NotStarted(format!("{} could not be started: {error}", program.display()))
        };
        // Files and sockets of the server are close-on-exec, so the process has these three and no other. A group of its own
        // keeps a terminal's Ctrl-C from it, which would look like a bad end.
        let mut child = Command::new(&program)
            .arg0("groundmist-sync")
            .arg(COMMAND)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            end(&mut child);
            return Err(not_started(io::Error::other("it has no pipes")));
        };
        let deadline = Instant::now() + HANDSHAKE;
        let mut process = Self { child, input, output, errors, said: Vec::new(), deadline, stopping };
        let started = process.never_block().and_then(|()| process.shake_hands());
        match started {
            Ok(()) => Ok(process),
            Err(_) if stopping.load(Ordering::Relaxed) => Err(Failure::Stopped),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let (status, _) = process.end_by_itself();
                Err(not_started(io::Error::other(format!("before it was ready, {}", in_words(status)))))
            }
            Err(error) => Err(not_started(error)),
        }
    }

    fn never_block(&self) -> io::Result<()> {
        for pipe in [self.input.as_fd(), self.output.as_fd(), self.errors.as_fd()] {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        match receive(self, 256)? {
            (tag::HELLO, theirs) if theirs == version().as_bytes() => Ok(()),
            (tag::HELLO, theirs) => Err(io::Error::other(format!(
                "it is another version, {}",
                String::from_utf8_lossy(&theirs).escape_debug()
            ))),
            _ => Err(nonsense("it is another program")),
        }
    }

    /// From now on reading and writing end at this time.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Ends the process because of an error in talking to it; what the error means.
    pub fn failed(mut self, error: &io::Error) -> Failure {
        if self.stopping.load(Ordering::Relaxed) {
            return Failure::Stopped;
        }
        if error.kind() == io::ErrorKind::UnexpectedEof || error.kind() == io::ErrorKind::BrokenPipe {
            // It ends by itself, and how says why. The pipe may close a little before that.
            let (status, wanted_more) = self.end_by_itself();
            if wanted_more {
                return Failure::WantedMore;
            }
            let was_asked = status.and_then(|status| status.signal()).is_some_and(|by| ASKING.contains(&by));
            return if was_asked && self.stops_soon() {
                Failure::Stopped
            } else {
                Failure::Ended(in_words(status))
            };
        }
        Failure::Ended(match error.kind() {
            io::ErrorKind::TimedOut => "it did not come to an end in time".to_owned(),
            io::ErrorKind::InvalidData | io::ErrorKind::FileTooLarge => {
                format!("its answer makes no sense: {error}")
            }
            _ => format!("talking to it failed: {error}"),
        })
    }

    /// Waits for the end of a process that has closed its pipes: how it ended, if it did, and whether it was for want of memory.
    fn end_by_itself(&mut self) -> (Option<ExitStatus>, bool) {
        let patience = Instant::now() + Duration::from_secs(2);
        let status = loop {
            self.listen();
            match self.child.try_wait() {
                Ok(None) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(5)),
                Ok(status) => break status,
                Err(_) => break None,
            }
        };
        self.listen();
        let wanted_more = String::from_utf8_lossy(&self.said).contains(OUT_OF_MEMORY);
        (status, wanted_more)
    }

    /// True if the server is told to stop in the next moments. A signal that is sent to all processes of the program, or of its
    /// terminal, may reach this one first.
    fn stops_soon(&self) -> bool {
        let patience = Instant::now() + Duration::from_secs(2);
        while !self.stopping.load(Ordering::Relaxed) {
            if Instant::now() >= patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Reads what has come on standard error.
    fn listen(&mut self) {
        let mut some = [0; 1024];
        while let Ok(bytes @ 1..) = self.errors.read(&mut some) {
            let room = SAID_BYTES.saturating_sub(self.said.len());
            self.said.extend_from_slice(&some[..bytes.min(room)]);
        }
    }

    /// Waits until a pipe is ready.
    fn wait(&mut self, what: Ready) -> io::Result<()> {
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return Err(io::Error::other("the server is stopping"));
            }
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let pipe = match what {
                Ready::ToRead => PollFd::new(&self.output, PollFlags::IN),
                Ready::ToWrite => PollFd::new(&self.input, PollFlags::OUT),
            };
            let mut pipes = [pipe, PollFd::new(&self.errors, PollFlags::IN)];
            match poll(&mut pipes, Some(&TICK)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_ready = !pipes[0].revents().is_empty();
            let has_said = pipes[1].revents().contains(PollFlags::IN);
            if has_said {
                self.listen();
            } else if !is_ready && !pipes[1].revents().is_empty() {
                // Standard error is closed while the rest goes on: no reason to spin.
                std::thread::sleep(Duration::from_millis(5));
            }
            if is_ready {
                return Ok(());
            }
        }
    }
}

fn own_program() -> Result<PathBuf, Failure> {
    let own = Path::new(OWN_PROGRAM);
    // The link cannot be read where /proc is not mounted.
    match std::fs::read_link(own) {
        Ok(_) => Ok(own.to_owned()),
        Err(error) => Err(Failure::NotStarted(format!("reading {OWN_PROGRAM} failed: {error}"))),
    }
}

fn in_words(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "it closed its pipes and went on".into() };
    match (status.signal(), status.code()) {
        (Some(9), _) => "it was killed, most likely because the machine ran out of memory".into(),
        (Some(24), _) => "it took more processor time than it was allowed".into(),
        (Some(signal), _) => format!("it was ended by signal {signal}"),
        (None, Some(code)) => format!("it ended by itself, with code {code}"),
        (None, None) => "it ended".into(),
    }
}

fn end(child: &mut Child) {
    // It may have ended already; either way it is waited for, and leaves no zombie.
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        end(&mut self.child);
        self.listen();
        if !self.said.is_empty() {
            let said = String::from_utf8_lossy(&self.said);
            tracing::debug!(process = self.child.id(), said = %said.escape_debug(), "an opener process said something");
        }
    }
}

impl Read for Process<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.output.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(Ready::ToRead)?,
                done => return done,
            }
        }
    }
}

impl Write for Process<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        loop {
            match self.input.write(from) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(Ready::ToWrite)?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("id", &self.child.id()).finish()
    }
}
