//! The server's own certificate from an authority such as Let's Encrypt (ACME, RFC 8555).
//!
//! [`keep`] is the whole of it: it presents what the store has, orders in time what is to follow, and says in words what
//! is wrong when it cannot. `schedule` decides when, `preflight` whether anything is asked at all, `order` asks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use url::Url;

use super::again::again;
use super::{Certificate, stopped};
use crate::config::{Acme, Identity};
use crate::store::{Commit, Store};

mod authority;
mod caa;
mod issued;
mod keeper;
mod kept;
mod one_name;
mod order;
mod preflight;
mod problem;
mod reach;
mod rehearse;
mod schedule;

pub use keeper::ORDER_TIME;
pub use preflight::PreflightError;
pub use rehearse::rehearse;
pub use schedule::{Pace, VALIDATIONS_AN_HOUR};

/// For which name, from whom, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name, in lower case.
    pub domain: String,
    /// The authority's directory.
    pub directory: Url,
    /// Certificates (PEM) to trust the directory by, instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// E-mail address the authority may write to.
    pub contact: Option<String>,
    /// How long to wait after failures.
    pub pace: Pace,
    /// Try to reach this server by its name before an order.
    pub check_reach: bool,
    /// Name servers to ask; the system's if empty.
    pub name_servers: Vec<SocketAddr>,
}

impl Options {
    /// As configured.
    pub fn new(domain: &str, acme: &Acme, identity: &Identity) -> Self {
        Self {
            domain: domain.into(),
            directory: acme.directory.clone(),
            ca_file: acme.ca_file.clone(),
            contact: acme.contact.clone(),
            pace: Pace(acme.retry),
            check_reach: acme.check_reach,
            name_servers: identity.name_servers.clone(),
        }
    }
}

/// Keeps `certificate` presented and in date, and what is known of it true, until `stopping`. To be called when the
/// listener is open. A renewal touches no open connection.
pub async fn keep(
    certificate: Arc<Certificate>,
    store: Arc<Store>,
    commit: Arc<dyn Commit>,
    options: Options,
    stopping: watch::Receiver<bool>,
) {
    let begin = || {
        let mut keeper =
            keeper::Keeper::new(certificate.clone(), store.clone(), commit.clone(), options.clone());
        let mut stopping = stopping.clone();
        async move {
            tokio::select! {
                () = stopped(&mut stopping) => {}
                () = keeper.run() => {}
            }
        }
    };
    let mut stopping = stopping.clone();
    tokio::select! {
        () = stopped(&mut stopping) => {}
        () = again("keeping the certificate", begin) => {}
    }
}
