//! This machine: whether the ports are free or ours, and what would keep a certificate from coming.

use std::io::ErrorKind;
use std::net::SocketAddr;

use hyper::Method;

use super::service;
use super::talk::{Talk, Warning};
use crate::cli::admin_client::call;
use crate::cli::{CliError, runtime};
use crate::config::{Config, TlsMode};
use crate::listen::acme::{self, rehearse};
use crate::listen::{ListenError, Tcp};
use crate::web::admin::Status;

/// Looks at the ports, and does what the server does before it orders a certificate. `dns`: the domain has addresses that
/// will do. Warns of what is wrong.
///
/// # Errors
/// Nothing could be tried.
pub(super) fn look(config: &Config, dns: bool, talk: &mut Talk) -> Result<(), CliError> {
    if config.tls == TlsMode::Off {
        return Ok(());
    }
    let ours = ours(config);
    runtime()?.block_on(async {
        let https = port("listen.https", config.listen.https, &ours, talk);
        // Held meanwhile, so that both are looked at as the server will find them.
        let _http = port("listen.http", config.listen.http, &ours, talk);
        if config.tls != TlsMode::Acme || !dns {
            return;
        }
        let Some(domain) = &config.domain else { return };
        let options = acme::Options::new(domain, &config.acme, &config.identity);
        let about = || "certificate".to_owned();
        match rehearse(https.as_ref(), &options).await {
            Ok(warnings) if warnings.is_empty() => {
                let led = if https.is_some() && options.check_reach {
                    format!(", and {domain} leads here")
                } else {
                    String::new()
                };
                talk.say(&format!("  the certificate authority answers{led}"));
            }
            Ok(warnings) => {
                warnings
                    .into_iter()
                    .for_each(|found| talk.warn(Warning { about: about(), found, fix: None }));
            }
            Err(error) => talk.warn(Warning { about: about(), found: error.to_string(), fix: None }),
        }
    });
    Ok(())
}

/// Ports that the running server has, or systemd for it.
fn ours(config: &Config) -> Vec<u16> {
    let running = call::<Status>(config, Method::GET, "/api/status", None::<&()>);
    let mut ports: Vec<u16> = running
        .map(|status| status.listen.iter().map(|socket| socket.address.port()).collect())
        .unwrap_or_default();
    if service::holds_ports() {
        ports.extend([config.listen.https.port(), config.listen.http.port()]);
    }
    ports
}

/// The socket, if the port is free. Must be called within a tokio runtime.
fn port(setting: &'static str, address: SocketAddr, ours: &[u16], talk: &mut Talk) -> Option<Tcp> {
    let number = address.port();
    match Tcp::bind(address) {
        Ok(tcp) => {
            talk.say(&format!("  port {number} is free"));
            Some(tcp)
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse && ours.contains(&number) => {
            talk.say(&format!("  port {number} is this server's"));
            None
        }
        // systemd will open it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            talk.say(&format!("  port {number} can be tried by root only"));
            None
        }
        Err(source) => {
            let found = ListenError::Tcp { setting, address, source }.to_string();
            talk.warn(Warning { about: format!("port {number}"), found, fix: None });
            None
        }
    }
}
