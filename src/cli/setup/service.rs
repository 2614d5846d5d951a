//! systemd, if it runs here and has our units.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cli::CliError;
use crate::cli::text::safe;
use crate::config::{Config, TlsMode};

const SERVICE: &str = "groundmist-sync.service";
/// They open the ports, and stay open while the server restarts.
const SOCKETS: [&str; 2] = ["groundmist-sync-https.socket", "groundmist-sync-http.socket"];
/// Time for one command of systemd: the unit's own limit for a start, in which older data is migrated, is 15 minutes.
const SYSTEMCTL_TIME: Duration = Duration::from_secs(960);
/// How often it is looked whether such a command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Most of its complaint that is passed on, in bytes.
const MAX_COMPLAINT_BYTES: u64 = 2048;

/// Whether systemd runs, and knows our service.
pub(super) fn is_installed() -> bool {
    systemctl(&["show", "--property=LoadState", "--value", SERVICE]).is_ok_and(|state| state == "loaded")
}

/// Whether systemd holds the ports for us.
pub(super) fn holds_ports() -> bool {
    systemctl(&["is-active", SOCKETS[0]]).is_ok_and(|state| state == "active")
}

/// Starts it, now and at every boot; anew if it runs with a configuration that has changed. Connections that come
/// meanwhile wait, if systemd held the ports before.
///
/// # Errors
/// systemd refused; its words.
pub(super) fn start(config: &Config, changed: bool) -> Result<(), CliError> {
    // A socket is not opened for a service that runs already.
    if changed {
        systemctl(&["stop", SERVICE]).map_err(failed)?;
    }
    systemctl(&[&["enable", "--now"], &units(config)[..]].concat()).map_err(failed)?;
    Ok(())
}

/// The command that does it, for her to type.
pub(super) fn command(config: &Config) -> String {
    format!("systemctl enable --now {}", units(config).join(" "))
}

fn units(config: &Config) -> Vec<&'static str> {
    let sockets = if config.tls == TlsMode::Off { &SOCKETS[..0] } else { &SOCKETS[..] };
    sockets.iter().copied().chain([SERVICE]).collect()
}

fn failed(complaint: String) -> CliError {
    CliError::failed(
        "not_started",
        format!(
            "systemd did not start the server: {complaint}. `journalctl -u groundmist-sync -n 30` says more"
        ),
    )
}

/// What it prints, without blanks around it; or what it complains of.
fn systemctl(arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new("systemctl")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("systemctl cannot be run: {error}"))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < SYSTEMCTL_TIME => sleep(LOOK_EVERY),
            stuck => {
                let _ = child.kill();
                let _ = child.wait();
                let (command, limit) = (arguments.join(" "), SYSTEMCTL_TIME.as_secs());
                return Err(match stuck {
                    Err(error) => format!("systemctl {command}: {error}"),
                    _ => format!("systemctl {command} did not end within {limit} s"),
                });
            }
        }
    };
    let read = |pipe: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        let _ = pipe.map(|pipe| pipe.take(MAX_COMPLAINT_BYTES).read_to_end(&mut bytes));
        safe(String::from_utf8_lossy(&bytes).trim())
    };
    let out = read(child.stdout.as_mut().map(|pipe| pipe as _));
    let err = read(child.stderr.as_mut().map(|pipe| pipe as _));
    if status.success() { Ok(out) } else { Err(if err.is_empty() { status.to_string() } else { err }) }
}
