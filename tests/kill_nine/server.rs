//! The real server, started and killed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const START: Duration = Duration::from_secs(30);

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
    /// A sync token for it.
    pub token: String,
}

impl Server {
    /// Start on `data_dir` and wait until it says where it listens.
    pub fn start(data_dir: &Path, log: &Path) -> Result<Self, String> {
        let log =
            File::options().create(true).append(true).open(log).map_err(|error| format!("log: {error}"))?;
        let program = std::env::var_os("GROUNDMIST_SYNC")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_groundmist-sync").into());
        let child = Command::new(program)
            .args(["serve", "--dev", "--port", "0", "--data-dir"])
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("start the server: {error}"))?;
        let mut server = Self { child, port: 0, token: String::new() };
        let stdout = server.child.stdout.take().ok_or("the server has no output")?;
        let (found, address_line) = mpsc::channel();
        // Its output is read to the end, or it would block on a full pipe.
        std::thread::spawn(move || {
            for found_here in
                BufReader::new(stdout).lines().map_while(Result::ok).filter_map(|line| address(&line))
            {
                let _ = found.send(found_here);
            }
        });
        (server.port, server.token) = address_line.recv_timeout(START).map_err(|why| match why {
            mpsc::RecvTimeoutError::Timeout => format!("the server did not listen within {START:?}"),
            mpsc::RecvTimeoutError::Disconnected => "the server ended before it listened".to_owned(),
        })?;
        Ok(server)
    }

    /// `kill -9`, and wait until it is gone.
    pub fn kill(mut self) -> Result<(), String> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|error| format!("kill the server: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Port and token of `ws://127.0.0.1:PORT/?token=TOKEN` in a line.
fn address(line: &str) -> Option<(u16, String)> {
    let (_, rest) = line.split_once("ws://127.0.0.1:")?;
    let (port, rest) = rest.split_once('/')?;
    let (_, token) = rest.split_once("token=")?;
    let token = token.split_whitespace().next()?;
    Some((port.parse().ok()?, token.to_owned()))
}
