//! The loop behind [`keep`](super::keep): present, wait, check, order, remember.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::crypto::CryptoProvider;
use rustls_acme::acme::Account;
use tokio::time::{sleep, timeout};

use super::Options;
use super::issued::Issued;
use super::kept::Kept;
use super::order::{Ledger, Order, OrderError};
use super::preflight;
use super::schedule::{Attempts, Failed, Told, Urgency, renewal_due, renewal_due_of_new, urgency};
use crate::listen::Certificate;
use crate::store::{Commit, CommitError, Store};
use crate::types::{Millis, now, rfc3339};

/// Time for one order. What takes longer is stuck, and is begun anew.
pub const ORDER_TIME: Duration = Duration::from_secs(180);
/// The longest sleep: the clock may be set, and the machine may sleep.
const TICK: Duration = Duration::from_secs(60);
/// How far the authority's clock may be from ours, in milliseconds.
const CLOCKS_APART: Millis = 600_000;

/// What is presented.
struct Held {
    valid_from: Millis,
    valid_until: Millis,
    due: Millis,
}

pub struct Keeper {
    certificate: Arc<Certificate>,
    kept: Kept,
    options: Options,
    provider: Arc<CryptoProvider>,
    attempts: Attempts,
    held: Option<Held>,
    told: Told,
    told_warnings: Told,
    /// A certificate that could not be stored yet.
    unsaved: Option<Vec<u8>>,
}

impl Keeper {
    pub fn new(
        certificate: Arc<Certificate>,
        store: Arc<Store>,
        commit: Arc<dyn Commit>,
        options: Options,
    ) -> Self {
        let kept =
            Kept::new(store, commit, options.directory.as_str(), &options.domain, options.contact.as_deref());
        Self {
            certificate,
            attempts: kept.attempts(),
            kept,
            options,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            held: None,
            told: Told::default(),
            told_warnings: Told::default(),
            unsaved: None,
        }
    }

    pub async fn run(&mut self) {
        self.load();
        loop {
            self.wait().await;
            self.attempt().await;
        }
    }

    /// What the store has is presented even if it has expired: clients decide, and some can be told to go on.
    fn load(&mut self) {
        // A keeper before this one may have ended in the middle of it.
        self.certificate.update(|known| known.ordering = false);
        let domain = &self.options.domain;
        let Some(pem) = self.kept.chain() else { return };
        match Issued::parse(&pem, domain, &self.provider) {
            Ok(issued) => self.present(issued, renewal_due),
            Err(error) => {
                tracing::warn!(
                    "the certificate for {domain} in the store cannot be used, so a new one is ordered: {error}"
                );
            }
        }
    }

    /// `due` says when it is to be renewed, by its times and some chance.
    fn present(&mut self, issued: Issued, due: impl FnOnce(Millis, Millis, u16) -> Millis) {
        let Issued { certified, valid_from, valid_until } = issued;
        let due = due(valid_from, valid_until, dice());
        self.held = Some(Held { valid_from, valid_until, due });
        self.certificate.present(certified);
        self.certificate.update(|known| {
            known.valid_from = Some(valid_from);
            known.valid_until = Some(valid_until);
            known.renewal_due = Some(due);
        });
        let (domain, until) = (&self.options.domain, rfc3339(valid_until));
        if valid_until <= now() {
            tracing::warn!(
                "the certificate for {domain} expired at {until}; it is shown until there is a new one"
            );
        } else {
            tracing::info!("the certificate for {domain} is valid until {until}");
        }
    }

    /// Until it is time for an attempt.
    async fn wait(&mut self) {
        loop {
            self.save().await;
            let now = now();
            let due = self.held.as_ref().map_or(0, |held| held.due);
            let at = self.attempts.earliest(due, self.options.pace, now);
            let attempts = &self.attempts;
            self.certificate.update(|known| {
                known.failures = attempts.failures;
                known.last_error.clone_from(&attempts.last_error);
                known.next_attempt = (attempts.failures > 0 || at > due).then_some(at);
            });
            self.remind(at, now);
            let Some(left) = at.checked_sub(now).filter(|left| *left > 0) else { return };
            tokio::select! {
                () = sleep(Duration::from_millis(left).min(TICK)) => {}
                () = self.certificate.retry_wanted() => self.attempts.next = None,
            }
        }
    }

    /// What could not be stored is tried again, so that a restart need not order another.
    async fn save(&mut self) {
        let Some(pem) = self.unsaved.take() else { return };
        if self.kept.put_chain(&pem, &self.attempts).await.is_err() {
            self.unsaved = Some(pem);
        }
    }

    /// Says what failed last, once a day.
    fn remind(&mut self, next: Millis, now: Millis) {
        let Some(reason) = &self.attempts.last_error else { return };
        let (domain, next) = (&self.options.domain, rfc3339(next));
        let Some(Held { valid_from, valid_until, .. }) = self.held else {
            if self.told.is_news(Urgency::Due, reason, now) {
                tracing::warn!("no certificate for {domain}: {reason}; next attempt at {next}");
            }
            return;
        };
        let until = rfc3339(valid_until);
        let urgency = urgency(valid_from, valid_until, now);
        if !self.told.is_news(urgency, reason, now) {
            return;
        }
        match urgency {
            Urgency::Due => {
                tracing::warn!(
                    "the certificate for {domain}, valid until {until}, could not be renewed: {reason}; next attempt at {next}"
                );
            }
            Urgency::Urgent if now < valid_until => {
                tracing::error!(
                    "the certificate for {domain} ends at {until} and could not be renewed: {reason}; next attempt at {next}"
                );
            }
            Urgency::Urgent => {
                tracing::error!(
                    "the certificate for {domain} expired at {until} and could not be renewed: {reason}; next attempt at {next}"
                );
            }
        }
    }

    async fn attempt(&mut self) {
        self.certificate.update(|known| {
            known.ordering = true;
            known.next_attempt = None;
        });
        let outcome = self.order().await;
        self.certificate.update(|known| known.ordering = false);
        match outcome {
            Ok(issued) => {
                self.told = Told::default();
                self.present(issued, |from, until, dice| renewal_due_of_new(from, until, dice, now()));
            }
            Err((failed, reason)) => {
                self.attempts.failed(failed, reason, self.options.pace, now(), dice());
                if let Err(error) = self.kept.put_attempts(&self.attempts).await {
                    tracing::error!(%error, "that no certificate could be had is not written down");
                }
            }
        }
    }

    /// A certificate that is durable. Or what failed and why.
    async fn order(&mut self) -> Result<Issued, (Failed, String)> {
        let ready = preflight::check(&self.options, &self.certificate, &self.provider)
            .await
            .map_err(|error| (Failed::Check, error.to_string()))?;
        self.warn(&ready.warnings);
        let failed = |error: &OrderError| {
            let patience = matches!(error, OrderError::Refused { problem, .. } if problem.is_rate_limit());
            (if patience || ready.unseen { Failed::Slowly } else { Failed::Order }, error.to_string())
        };
        let account_key = self.account_key().await.map_err(|error| failed(&error.into()))?;
        // Nothing is asked for that could not be written down.
        let writable = self.kept.put_attempts(&self.attempts).await;
        writable.map_err(|error| failed(&error.into()))?;
        let order = Order {
            authority: &ready.authority,
            account_key: &account_key,
            contact: self.options.contact.iter().map(|address| format!("mailto:{address}")).collect(),
            domain: &self.options.domain,
            certificate: &self.certificate,
            provider: &self.provider,
        };
        let mut written = Written { kept: &self.kept, attempts: &mut self.attempts };
        let pem = match timeout(ORDER_TIME, order.obtain(&mut written)).await {
            Ok(Ok(pem)) => pem,
            Ok(Err(error)) => {
                if error.is_about_the_account() {
                    // Another is made next time.
                    let _ = self.kept.put_account(None).await;
                }
                return Err(failed(&error));
            }
            Err(_) => return Err(failed(&OrderError::TooLong("the whole order"))),
        };
        let issued = Issued::parse(&pem, &self.options.domain, &self.provider).map_err(|error| {
            (Failed::Order, format!("the certificate that the authority made cannot be used: {error}"))
        })?;
        self.attempts.succeeded();
        if let Err(error) = self.kept.put_chain(&pem, &self.attempts).await {
            tracing::error!(
                %error,
                "the new certificate could not be stored; until it is, a restart will order another"
            );
            self.unsaved = Some(pem);
        }
        let now = now();
        if issued.valid_from > now + CLOCKS_APART || issued.valid_until < now {
            self.warn(&[format!(
                "this machine's clock says {}, and the certificate that was just made is valid from {} until {}: set the clock",
                rfc3339(now),
                rfc3339(issued.valid_from),
                rfc3339(issued.valid_until)
            )]);
        }
        Ok(issued)
    }

    fn warn(&mut self, warnings: &[String]) {
        let all = warnings.join("; ");
        if !all.is_empty() && self.told_warnings.is_news(Urgency::Due, &all, now()) {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
    }

    /// The account's key; a new one if there is none, or a damaged one.
    async fn account_key(&self) -> Result<Vec<u8>, CommitError> {
        if let Some(key) = self.kept.account() {
            match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key) {
                Ok(_) => return Ok(key),
                Err(error) => {
                    tracing::warn!(reason = %error, "the key of the account at the certificate authority is damaged, so another account is made");
                }
            }
        }
        let key = Account::generate_key_pair();
        self.kept.put_account(Some(&key)).await?;
        Ok(key)
    }
}

/// Attempts, durable before anything is asked.
struct Written<'a> {
    kept: &'a Kept,
    attempts: &'a mut Attempts,
}

impl Ledger for Written<'_> {
    async fn asked(&mut self) -> Result<(), CommitError> {
        self.attempts.asked(now());
        self.kept.put_attempts(self.attempts).await
    }

    fn validated(&mut self) {
        self.attempts.validated();
    }
}

/// Without random bytes everything is on time, and no worse than that.
fn dice() -> u16 {
    let mut bytes = [0; 2];
    let _ = getrandom::fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}
