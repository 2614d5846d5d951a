//! Alice's account: its handle, DID document and PDS, which can be told to fail; and the commands that she runs.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use groundmist_sync::access::Ownership;
use groundmist_sync::atproto::Resolver;
use groundmist_sync::config::Owner;
use groundmist_sync::net::{Http, HttpOptions};
use groundmist_sync::store::{Commit, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Server, Start, wait_for_async};
use crate::dns::DnsServer;
use crate::world::{Asked, NAMES, Reply, World, ok, status};

pub const ALICE: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
pub const MALLORY: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
pub const HANDLE: &str = "alice.internal";
/// Another handle of hers.
pub const OTHER_HANDLE: &str = "app.internal";
/// A name that DNS knows.
pub const DOMAIN: &str = "sync.example.org";
pub const PASSWORD: &str = "hunter2-hunter2";
const BINARY: &str = env!("CARGO_BIN_EXE_groundmist-sync");

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    SecondFactor,
    PdsDown,
    PlcDown,
    /// Writes are acknowledged and not kept.
    Forgetful,
    /// Signs in to somebody else's account.
    OtherAccount,
}

/// What the servers go by.
#[derive(Default)]
pub struct State {
    pub fault: Fault,
    /// Where a handle leads; nowhere if it is not in it.
    pub handles: HashMap<&'static str, &'static str>,
    /// What a DID's document calls itself, if not after the handle that leads to it.
    pub calls_itself: HashMap<&'static str, &'static str>,
    /// Records by AT URI.
    pub records: HashMap<String, Value>,
    /// The PDS's clock, compared with ours.
    pub ahead_s: u64,
}

pub struct Account {
    pub world: World,
    dns: DnsServer,
    state: Arc<Mutex<State>>,
    pub dir: TempDir,
}

impl Account {
    /// [`HANDLE`] leads to [`ALICE`].
    pub async fn new() -> Self {
        let state =
            Arc::new(Mutex::new(State { handles: HashMap::from([(HANDLE, ALICE)]), ..State::default() }));
        let shared = Arc::clone(&state);
        let world = World::new(move |asked| answer(asked, &mut shared.lock().unwrap())).await;
        Self {
            world,
            dns: DnsServer::new(&[(DOMAIN, &["1.1.1.1"])]).await,
            state,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// What the record says; nothing if there is none.
    pub fn record(&self) -> Option<Value> {
        self.state.lock().unwrap().records.get(&uri(ALICE)).cloned()
    }

    pub fn resolver(&self) -> Arc<Resolver> {
        let options = HttpOptions { name_servers: vec![self.dns.address], ..self.world.options.clone() };
        let http = Http::new(&options).unwrap();
        Arc::new(Resolver::new(http, "https://plc.internal".parse().unwrap()))
    }

    pub fn store(&self) -> Arc<Store> {
        let path = self.dir.path().join("groundmist.redb");
        Arc::new(Store::open(&path, &StoreOptions { cache_bytes: 1 << 20 }).unwrap())
    }

    /// As at a start of the server with `owner` in its configuration.
    pub fn ownership(&self, owner: Option<&str>) -> Arc<Ownership> {
        let store = self.store();
        self.ownership_on(owner, &store, Arc::new(Arc::clone(&store)))
    }

    pub fn ownership_on(
        &self,
        owner: Option<&str>,
        store: &Arc<Store>,
        commit: Arc<dyn Commit>,
    ) -> Arc<Ownership> {
        let owner = owner.map(|owner| owner.parse::<Owner>().unwrap());
        Ownership::open(owner.as_ref(), Arc::clone(store), commit, self.resolver()).unwrap()
    }

    /// A server that was started once, and pinned `handle`.
    pub async fn pin(&self, handle: &str) {
        let store = self.store();
        let ownership = self.ownership_on(Some(handle), &store, Arc::new(Arc::clone(&store)));
        wait_for_async("the pin", async || ownership.did().ok()).await;
        drop(ownership);
        wait_for_async("the store", async || (Arc::strong_count(&store) == 1).then_some(())).await;
    }

    /// The settings of this account, but for the owner.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let hosts: Vec<String> = NAMES.iter().map(|name| format!("{name}={}", self.world.server)).collect();
        vec![
            ("IDENTITY__PLC_DIRECTORY", "https://plc.internal".into()),
            ("IDENTITY__CA_FILE", self.world.options.ca_file.as_ref().unwrap().display().to_string()),
            ("IDENTITY__HOSTS", hosts.join(",")),
            ("IDENTITY__NAME_SERVERS", self.dns.address.to_string()),
        ]
    }

    /// A running server of `owner` on this account's data directory, with more settings.
    pub fn server(&self, owner: &str, more: &[(&str, &str)]) -> Server {
        let mut start = Start::default().data_dir(self.dir.path()).set("OWNER", owner);
        for (name, value) in self.settings() {
            start = start.set(name, &value);
        }
        more.iter().fold(start, |start, (name, value)| start.set(name, value)).run()
    }

    /// A command with `owner` in its configuration.
    pub fn command(&self, owner: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--data-dir").arg(self.dir.path()).env_clear();
        for (name, value) in self.settings() {
            command.env(format!("GROUNDMIST_SYNC_{name}"), value);
        }
        if !owner.is_empty() {
            command.env("GROUNDMIST_SYNC_OWNER", owner);
        }
        command
    }

    /// Runs such a command with `input` on its standard input.
    pub fn run(&self, owner: &str, arguments: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(owner, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not want it may have closed it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran(child.wait_with_output().unwrap())
    }

    /// Calls of the PDS so far, by the last part of their name.
    pub fn calls(&self, name: &str) -> usize {
        let end = format!(".{name}");
        self.world.lines().iter().filter(|line| line.split('?').next().unwrap().ends_with(&end)).count()
    }
}

/// The same command on a terminal of its own.
pub fn on_terminal(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    // Whoever runs the tests in the background has Ctrl-C ignored, and so would what they start.
    let mut script = Command::new("env");
    script.args(["--default-signal=INT,QUIT", "script"]);
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]).env_clear();
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let own = std::env::var("PATH").unwrap();
    let given = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, path)| path?.to_str());
    script.env("PATH", given.map_or(own.clone(), |given| format!("{given}:{own}")));
    script
}

/// Writes `input` to a terminal as soon as it shows `prompt`; what was shown until then.
pub fn reply(child: &mut Child, prompt: &str, input: &str) -> String {
    let mut shown = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&shown).ends_with(prompt) {
        let read = child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
        assert_eq!(read, 1, "{}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(shown).unwrap()
}

/// What a command did.
pub struct Ran(Output);

impl Ran {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|_| panic!("{} {}", self.out(), self.err()))
    }
}

fn uri(did: &str) -> String {
    format!("{did}/xyz.groundmist.sync/{did}")
}

fn answer(asked: &Asked, state: &mut State) -> Reply {
    let (place, query) = asked.line.split_once('?').unwrap_or((&asked.line, ""));
    let host = place.split(' ').nth(1).unwrap();
    let last = place.rsplit(['/', ' ']).next().unwrap();
    let fault = state.fault;
    match (host, last) {
        ("plc.internal", _) if fault == Fault::PlcDown => status(502, ""),
        ("plc.internal", did) => {
            let leading = || state.handles.iter().find(|(_, to)| **to == did).map(|(handle, _)| *handle);
            let name = state.calls_itself.get(did).copied().or_else(leading).unwrap_or("nobody.internal");
            ok(json!({ "id": did, "alsoKnownAs": [format!("at://{name}")], "service": [
                { "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.internal" } ]}))
        }
        (handle, "atproto-did") => match state.handles.get(handle) {
            Some(did) => ok(did),
            None => status(404, ""),
        },
        ("pds.internal", _) if fault == Fault::PdsDown => status(502, ""),
        ("pds.internal", "oauth-protected-resource") => ok(
            json!({ "resource": "https://pds.internal", "authorization_servers": ["https://pds.internal"] }),
        ),
        ("pds.internal", "oauth-authorization-server") => ok(json!({ "issuer": "https://pds.internal" })),
        ("pds.internal", call) => called(asked, call.rsplit('.').next().unwrap(), query, state),
        _ => status(404, ""),
    }
}

fn called(asked: &Asked, call: &str, query: &str, state: &mut State) -> Reply {
    let refused = |code: u16, error: &str| status(code, json!({ "error": error, "message": "no" }));
    let bearer = asked.headers.get("authorization").map(String::as_str);
    match call {
        "describeServer" => {
            let now = SystemTime::now() + Duration::from_secs(state.ahead_s);
            let body = json!({ "did": "did:web:pds.internal" }).to_string();
            Reply::Whole(200, vec![("date", httpdate::fmt_http_date(now))], body)
        }
        "createSession" if state.fault == Fault::SecondFactor => refused(401, "AuthFactorTokenRequired"),
        "createSession" if asked.json()["password"] != PASSWORD => refused(401, "AuthenticationRequired"),
        "createSession" => {
            let did = if state.fault == Fault::OtherAccount {
                MALLORY.into()
            } else {
                asked.json()["identifier"].clone()
            };
            ok(json!({ "did": did, "handle": HANDLE, "accessJwt": "access-1", "refreshJwt": "refresh-1" }))
        }
        "deleteSession" if bearer == Some("Bearer refresh-1") => Reply::Whole(200, vec![], String::new()),
        "getRecord" => {
            let value = |name: &str| {
                url::form_urlencoded::parse(query.as_bytes())
                    .find(|(key, _)| key == name)
                    .unwrap()
                    .1
                    .into_owned()
            };
            let place = format!("{}/{}/{}", value("repo"), value("collection"), value("rkey"));
            match state.records.get(&place) {
                Some(record) => ok(json!({ "uri": place, "value": record })),
                None => refused(400, "RecordNotFound"),
            }
        }
        "putRecord" | "deleteRecord" if bearer != Some("Bearer access-1") => refused(401, "InvalidToken"),
        "putRecord" | "deleteRecord" => {
            let mut input = asked.json();
            let text = |name: &str| input[name].as_str().unwrap().to_owned();
            let place = format!("{}/{}/{}", text("repo"), text("collection"), text("rkey"));
            match input["record"].take() {
                _ if state.fault == Fault::Forgetful => None,
                Value::Null => state.records.remove(&place),
                record => state.records.insert(place, record),
            };
            ok(json!({ "uri": "at://x", "cid": "c" }))
        }
        _ => refused(404, "MethodNotImplemented"),
    }
}
