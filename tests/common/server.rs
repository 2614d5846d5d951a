//! The real binary in a process of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tempfile::TempDir;

use super::authority::DOMAIN;
use super::{Line, PATIENCE, Refused, WebSocket, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_groundmist-sync");

/// How to start a server.
#[derive(Default)]
pub struct Start {
    binary: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    config: Option<PathBuf>,
    environment: Vec<(String, String)>,
    usual_allocator: bool,
    trusted: Option<ClientConfig>,
    sockets: Option<(TcpListener, TcpListener)>,
}

/// Passes stdin and stderr on as systemd passes sockets on (sd_listen_fds(3)), the second one twice.
const LAUNCHER: &str = r#"exec 3<&0 4<&2 5<&2 0</dev/null 2>>"$0"
LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=https:http:odd exec "$@""#;

/// Starts a program that the test may just have written: while another thread starts a process of its own, that one has the file open
/// for writing for a moment.
fn spawn(command: &mut Command) -> Child {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            child => return child.unwrap(),
        }
    }
}

impl Start {
    /// Runs this program instead of today's, for the server and for its commands.
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

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

    /// Leaves memory to the allocator as an installed server does, for a test of what it keeps.
    pub fn usual_allocator(mut self) -> Self {
        self.usual_allocator = true;
        self
    }

    /// A configuration file.
    pub fn config(mut self, path: &Path) -> Self {
        self.config = Some(path.to_owned());
        self
    }

    /// It is to be encrypted, and this is what its clients go by.
    pub fn trust(mut self, client: ClientConfig) -> Self {
        self.trusted = Some(client);
        self
    }

    /// Passes sockets on to it, for HTTPS and for HTTP, and the latter under a name that it does not know too.
    pub fn pass_on(mut self, https: &TcpListener, http: &TcpListener) -> Self {
        self.sockets = Some((https.try_clone().unwrap(), http.try_clone().unwrap()));
        self
    }

    /// The process, and what it prints: an address for clients, and one for the owner's browser.
    fn spawn(self, data_dir: &Path, log: &Path) -> (Child, [String; 2]) {
        let file = File::create(log).unwrap();
        let binary = self.binary.as_deref().unwrap_or(Path::new(BINARY));
        let mut command = match self.sockets {
            None => {
                let mut command = Command::new(binary);
                command.stdin(Stdio::null()).stderr(file);
                command
            }
            Some((https, http)) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", LAUNCHER]).arg(log).arg(binary);
                command.stdin(OwnedFd::from(https)).stderr(OwnedFd::from(http));
                command
            }
        };
        command.args(["serve", "--dev", "--data-dir"]).arg(data_dir);
        command.args(self.config.iter().flat_map(|path| [Path::new("--config"), path]));
        if self.trusted.is_none() {
            command.args(["--port", "0"]);
        }
        // Memory is what the server holds, not what glibc keeps for later, which differs from run to run.
        command.env_clear();
        if !self.usual_allocator {
            command.env("MALLOC_TRIM_THRESHOLD_", "262144");
        }
        command.envs(self.environment);
        let mut child = spawn(command.stdout(Stdio::piped()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The addresses are the last words of their lines.
        let lines = [(); 2].map(|()| {
            let line = lines.next().map_or_else(String::new, Result::unwrap);
            line.rsplit(' ').next().unwrap_or_default().to_owned()
        });
        (child, lines)
    }

    /// Starts it and waits for its URL.
    pub fn run(self) -> Server {
        let own = tempfile::tempdir().unwrap();
        let data_dir = self.data_dir.clone().unwrap_or_else(|| own.path().join("data"));
        let log = own.path().join("log");
        let tls = self.trusted.clone().map(Arc::new);
        let binary = self.binary.clone().unwrap_or_else(|| BINARY.into());
        let (mut child, [url, link]) = self.spawn(&data_dir, &log);
        let encrypted = || Some(format!("127.0.0.1{}", url.strip_prefix("wss://")?.strip_prefix(DOMAIN)?));
        let rest = url.strip_prefix("ws://").map(str::to_owned).or_else(encrypted);
        let Some((address, token)) = rest.as_deref().and_then(|rest| rest.split_once("/?token=")) else {
            let _ = child.kill();
            panic!("no URL but {url:?}; log:\n{}", std::fs::read_to_string(&log).unwrap());
        };
        let (address, token) = (address.parse().unwrap(), token.to_owned());
        Server { child, binary, address, token, link, data_dir, tls, log, _own: own }
    }

    /// Starts it where it cannot: how it ended, and all it said.
    pub fn fail(self) -> (Option<i32>, String) {
        let own = tempfile::tempdir().unwrap();
        let log = own.path().join("log");
        let (mut child, said) = self.spawn(&own.path().join("data"), &log);
        assert_eq!(said, ["", ""], "it started");
        (child.wait().unwrap().code(), std::fs::read_to_string(&log).unwrap())
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    binary: PathBuf,
    pub address: SocketAddr,
    /// Token for the namespace `dev.local`.
    pub token: String,
    /// Signs a browser in, once.
    pub link: String,
    pub data_dir: PathBuf,
    /// What its clients go by, if it is encrypted.
    pub tls: Option<Arc<ClientConfig>>,
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

    /// A connection, encrypted if the server is.
    pub fn line(&self) -> std::io::Result<Line> {
        match &self.tls {
            Some(config) => Line::encrypted(self.address, config, DOMAIN),
            None => Line::plain(self.address),
        }
    }

    /// Upgrades at `/` with `?token=`.
    pub fn connect(&self, token: &str) -> Result<WebSocket, Refused> {
        WebSocket::upgrade_on(self.line().unwrap(), &format!("/?token={token}"), &[])
    }

    /// Where it listens for `https`, `http` or `plain`.
    pub fn socket(&self, spoken: &str) -> SocketAddr {
        let output = self.command(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let listen = status["listen"].as_array().unwrap();
        let socket = listen.iter().find(|socket| socket["spoken"] == spoken).unwrap();
        socket["address"].as_str().unwrap().parse().unwrap()
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
        Command::new(&self.binary)
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

    /// Presses the button of the page that the printed link leads to.
    pub fn redeem_link(&self, headers: &[(&str, &str)]) -> String {
        let (origin, path) = self.link.split_at(self.link.find("/sign-in/").unwrap());
        self.http("POST", path, &[&[("Origin", origin)], headers].concat())
    }

    /// The same with a body.
    pub fn http_with_body(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let mut stream = self.line().unwrap();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
        stream.read_all().unwrap()
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
