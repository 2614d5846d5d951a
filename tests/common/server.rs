//! The real binary in a process of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use tempfile::TempDir;

use super::{PATIENCE, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_groundmist-sync");

/// How to start a server.
#[derive(Default)]
pub struct Start {
    data_dir: Option<PathBuf>,
    config: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Start {
    /// Keep the store in a directory that the test owns.
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// A setting by its environment variable, such as `LIMITS__CONNECTIONS`.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.variable(&format!("GROUNDMIST_SYNC_{name}"), value)
    }

    /// Any environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A configuration file.
    pub fn config(mut self, path: &Path) -> Self {
        self.config = Some(path.to_owned());
        self
    }

    /// Starts it and waits for its URL.
    pub fn run(self) -> Server {
        let own = tempfile::tempdir().unwrap();
        let data_dir = self.data_dir.unwrap_or_else(|| own.path().join("data"));
        let log = own.path().join("log");
        let mut child = Command::new(BINARY)
            .args(["serve", "--dev", "--port", "0", "--data-dir"])
            .arg(&data_dir)
            .args(self.config.iter().flat_map(|path| [Path::new("--config"), path]))
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let parts = url.trim().strip_prefix("ws://").and_then(|rest| rest.split_once("/?token="));
        let Some((address, token)) = parts else {
            let _ = child.kill();
            panic!("no URL but {url:?}; log:\n{}", std::fs::read_to_string(&log).unwrap());
        };
        let (address, token) = (address.parse().unwrap(), token.to_owned());
        Server { child, address, token, data_dir, log, _own: own }
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Token for the namespace `dev.local`.
    pub token: String,
    pub data_dir: PathBuf,
    log: PathBuf,
    _own: TempDir,
}

impl Server {
    /// With a temporary store and default limits.
    pub fn start() -> Self {
        Start::default().run()
    }

    /// URL with the token.
    pub fn url(&self) -> String {
        format!("ws://{}/?token={}", self.address, self.token)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// The most it ever was, in bytes.
    pub fn peak_rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Runs one command against this server's data directory.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .args(arguments)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .env_clear()
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A GET on the admin socket, as curl would send it: head and body.
    pub fn admin_get(&self, path: &str) -> (String, String) {
        let mut stream = UnixStream::connect(self.data_dir.join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// A fresh token for a namespace.
    pub fn new_token(&self, name: &str, namespace: &str, more: &[&str]) -> String {
        let arguments = [&["token", "create", "--name", name, "--namespace", namespace], more].concat();
        let output = self.command(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn revoke(&self, name: &str) {
        let output = self.command(&["token", "revoke", name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the server to end", || self.child.try_wait().unwrap())
    }

    /// SIGTERM, and the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// One HTTP request; the whole answer as text.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        self.http_with_body(method, path, headers, "")
    }

    /// The same with a body.
    pub fn http_with_body(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() && self.is_running() {
            let status = self.command(&["status", "--json"]);
            eprintln!("--- status of the server ---\n{}", String::from_utf8_lossy(&status.stdout));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- log of the server ---\n{}",
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

/// Text that does not compress.
pub fn random_text(bytes: usize) -> String {
    let mut random = vec![0; bytes / 2];
    getrandom::fill(&mut random).unwrap();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
