//! Reading the configuration again while the server runs.
//!
//! All of it is read and checked first, by every part that can take something up; only if all can is anything changed.
//! What no part can take up is named: it needs a restart.

use std::sync::{Mutex, PoisonError};

use sd_notify::NotifyState;

use super::systemd;
use crate::config::{Config, Effective, Loaded, Sources};
use crate::web::admin::{Changed, Reloaded};

/// A part that can take up settings while it runs.
pub(super) struct Part {
    /// The settings that it takes up.
    pub settings: &'static [&'static str],
    /// Looks whether it can, and changes nothing. The error says why not and what to do.
    pub prepare: Prepare,
}

/// [`Part::prepare`].
pub(super) type Prepare = Box<dyn Fn(&Config) -> Result<Prepared, String> + Send + Sync>;

/// A part that is ready to take up what it was shown.
pub(super) struct Prepared {
    /// What it takes up besides settings, such as files that it reads again; in words.
    pub also: Option<String>,
    /// Does it. Cannot fail any more.
    pub apply: Box<dyn FnOnce() + Send>,
}

impl Prepared {
    /// Of settings alone.
    pub(super) fn settings(apply: impl FnOnce() + Send + 'static) -> Self {
        Self { also: None, apply: Box::new(apply) }
    }
}

/// Reads the configuration again, from where it came at the start.
pub(super) struct Reload {
    sources: Sources,
    parts: Vec<Part>,
    /// What is in force. Locked while a reload is under way.
    state: Mutex<InForce>,
}

/// Tells systemd when the reload is over.
struct Ready;

impl Drop for Ready {
    fn drop(&mut self) {
        systemd::notify(&[NotifyState::Ready]);
    }
}

struct InForce {
    settings: Vec<Effective>,
    config: Config,
}

impl Reload {
    /// `loaded` is what the server was started with, from `sources`.
    pub(super) fn new(mut sources: Sources, loaded: Loaded, parts: Vec<Part>) -> Self {
        let Loaded { config, settings } = loaded;
        if config.data_dir_is_temporary {
            // Else each reading would name a fresh one.
            sources.flags.data_dir = Some(config.data_dir.clone());
        }
        Self { sources, parts, state: Mutex::new(InForce { settings, config }) }
    }

    /// Reads, checks and takes up. Reads files: not for a thread that serves sockets.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(super) fn run(&self) -> Result<Reloaded, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        systemd::reloading();
        // Also if it panics: systemd waits for it.
        let _ready = Ready;
        let reloaded = self.take_up(&mut state);
        match &reloaded {
            Ok(reloaded) => tracing::info!("the configuration was read again: {}", reloaded.in_words()),
            Err(why) => {
                tracing::error!(
                    "the configuration was read again and cannot be used; nothing was changed: {why}"
                );
            }
        }
        reloaded
    }

    fn take_up(&self, state: &mut InForce) -> Result<Reloaded, String> {
        let Loaded { config, settings } = Config::load(&self.sources).map_err(|error| error.to_string())?;
        let prepared: Vec<Prepared> =
            self.parts.iter().map(|part| (part.prepare)(&config)).collect::<Result<_, _>>()?;
        let mut reloaded = Reloaded::default();
        for new in &settings {
            let Some(old) = state.settings.iter_mut().find(|old| old.key == new.key) else { continue };
            if old.value == new.value && !(new.key == "secret" && config.secret != state.config.secret) {
                continue;
            }
            let change = Changed { setting: new.key.into(), from: old.value.clone(), to: new.value.clone() };
            if self.parts.iter().any(|part| part.settings.contains(&new.key)) {
                old.clone_from(new);
                reloaded.changed.push(change);
            } else {
                reloaded.needs_restart.push(change);
            }
        }
        for Prepared { also, apply } in prepared {
            reloaded.also.extend(also);
            apply();
        }
        Ok(reloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Approve, Flags};
    use std::path::Path;
    use std::sync::Arc;

    fn sources(file: &Path) -> Sources {
        let flags = Flags { log_format: Some("text".into()), ..Flags::default() };
        Sources { config: Some(file.into()), default_file: "".into(), env: vec![], flags, dev: false }
    }

    /// A part that takes up `access.approve`, and one that can be made to refuse.
    fn parts(taken: &Arc<Mutex<Vec<Approve>>>, refuse: &Arc<Mutex<bool>>) -> Vec<Part> {
        let (taken, refuse) = (taken.clone(), refuse.clone());
        let approve = move |config: &Config| {
            let (taken, approve) = (taken.clone(), config.access.approve);
            Ok(Prepared::settings(move || taken.lock().unwrap().push(approve)))
        };
        let files = move |_: &Config| {
            if *refuse.lock().unwrap() {
                return Err("the key does not belong to the certificate: put the right one there".into());
            }
            Ok(Prepared { also: Some("the certificate was read again".into()), apply: Box::new(|| {}) })
        };
        let part = |settings, prepare| Part { settings, prepare };
        vec![part(&["access.approve"], Box::new(approve)), part(&[], Box::new(files))]
    }

    #[test]
    fn all_is_checked_before_anything_changes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        let secret = "secret = \"hunter2-hunter2-hunter2\"\n";
        write(secret);
        let sources = sources(&file);
        let (taken, refuse) = (Arc::default(), Arc::default());
        let loaded = Config::load(&sources).unwrap();
        let reload = Reload::new(sources, loaded, parts(&taken, &refuse));
        let keys =
            |changes: &[Changed]| changes.iter().map(|change| change.setting.clone()).collect::<Vec<_>>();

        let same = reload.run().unwrap();
        assert!(same.changed.is_empty() && same.needs_restart.is_empty(), "{same:?}");
        assert_eq!(same.also, ["the certificate was read again"]);
        taken.lock().unwrap().clear();

        let changed = format!("{secret}[access]\napprove = \"first-use\"\n[memory]\nbudget = \"32 MiB\"\n");
        *refuse.lock().unwrap() = true;
        write(&changed);
        assert!(reload.run().unwrap_err().contains("put the right one there"));
        *refuse.lock().unwrap() = false;
        write(&format!("{changed}redb_cash = 1\n"));
        let error = reload.run().unwrap_err();
        assert!(error.contains("redb_cash") && error.contains("line 6"), "{error}");
        assert!(taken.lock().unwrap().is_empty(), "nothing was taken up");

        write(&changed);
        let reloaded = reload.run().unwrap();
        assert_eq!(keys(&reloaded.changed), ["access.approve"]);
        assert_eq!(keys(&reloaded.needs_restart), ["memory.budget"]);
        assert_eq!(*taken.lock().unwrap(), [Approve::FirstUse]);
        let words = reloaded.in_words();
        assert!(words.contains("access.approve: first-use, was ask") && words.contains("restart"), "{words}");

        let again = reload.run().unwrap();
        assert_eq!(keys(&again.changed), [""; 0], "it is in force already");
        assert_eq!(keys(&again.needs_restart), ["memory.budget"], "it still is not");
        write("secret = \"hunter3-hunter3-hunter3\"\n");
        let reloaded = reload.run().unwrap();
        assert_eq!(keys(&reloaded.changed), ["access.approve"]);
        assert_eq!(keys(&reloaded.needs_restart), ["secret"]);
        assert!(!format!("{reloaded:?} {}", reloaded.in_words()).contains("hunter"));
    }

    #[test]
    fn a_temporary_data_directory_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "").unwrap();
        let sources = Sources { dev: true, ..sources(&file) };
        let loaded = Config::load(&sources).unwrap();
        let reloaded = Reload::new(sources, loaded, vec![]).run().unwrap();
        assert!(reloaded.needs_restart.is_empty(), "{reloaded:?}");
    }
}
