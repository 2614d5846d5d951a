//! `POST /api/reload`: reads the configuration again.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, Failure, json};

/// Whoever brought the parts up reads the configuration again; the error says why nothing was changed.
pub type Reload = Arc<dyn Fn() -> ReloadFuture + Send + Sync>;
/// What [`Reload`] gives.
pub type ReloadFuture = Pin<Box<dyn Future<Output = Result<Reloaded, String>> + Send>>;

/// Answer to `POST /api/reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Settings that changed.
    pub changed: Vec<Changed>,
    /// What was taken up besides settings, in words.
    pub also: Vec<String>,
    /// Settings that differ from what is in force, and need a restart.
    pub needs_restart: Vec<Changed>,
}

/// A setting that was changed. Of a secret neither `from` nor `to` shows anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Dotted key.
    pub setting: String,
    /// As it is in force or was; `None`: not set.
    pub from: Option<String>,
    /// As it is written now; `None`: not set.
    pub to: Option<String>,
}

impl Changed {
    /// `log.level: debug, was info`.
    pub fn in_words(&self) -> String {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
        match (shown(&self.from), shown(&self.to)) {
            (from, to) if from == to => self.setting.clone(),
            (from, to) => format!("{}: {to}, was {from}", self.setting),
        }
    }
}

impl Reloaded {
    /// A sentence or two.
    pub fn in_words(&self) -> String {
        let list = |changes: &[Changed]| changes.iter().map(Changed::in_words).collect::<Vec<_>>().join("; ");
        let mut text = if self.changed.is_empty() {
            "no setting has changed that can be changed at once".to_owned()
        } else {
            format!("changed: {}", list(&self.changed))
        };
        for also in &self.also {
            let _ = write!(text, "; {also}");
        }
        if !self.needs_restart.is_empty() {
            let _ = write!(text, "; needs a restart to count: {}", list(&self.needs_restart));
        }
        text
    }
}

pub(super) async fn reload(admin: &Admin) -> Answer {
    match (admin.reload)().await {
        Ok(reloaded) => Ok(json(StatusCode::OK, &reloaded)),
        Err(why) => Err(Failure::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "config",
            format!("nothing was changed: {why}"),
        )),
    }
}
