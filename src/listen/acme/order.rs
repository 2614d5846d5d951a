//! One order (RFC 8555, section 7.4; TLS-ALPN-01 is RFC 8737), by rustls-acme's requests.
//!
//! Its ready-made state machine is not used: it tries again after seconds, for ever, waits for ever for an authority that
//! does not answer, and begins anew when a nonce is refused. Its requests are sound.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::CryptoProvider;
use rustls_acme::acme::{
    ACME_TLS_ALPN_NAME, Account, AcmeError, AuthStatus, Challenge, ChallengeType, Identifier, OrderStatus,
};
use tokio::time::{sleep, timeout};

use super::authority::Authority;
use super::one_name;
use super::problem::Problem;
use crate::listen::Certificate;
use crate::store::CommitError;

/// Time for one request to the authority.
pub const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How often a request is made again because the authority refuses its nonce (RFC 8555, section 6.5), and the pause before.
pub const NONCE_RETRIES: u32 = 8;
const NONCE_PAUSE: Duration = Duration::from_millis(500);
/// Between questions whether it is done yet: the first, doubled up to the last.
const POLL: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(8);
/// Most authorizations of an order for one name.
const MAX_AUTHORIZATIONS: usize = 4;

/// The order brought no certificate. Every one is the reason in words, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The authority refuses something.
    #[error("the certificate authority refuses {step}: {problem}")]
    Refused {
        /// What was asked.
        step: &'static str,
        /// Its answer.
        problem: Problem,
    },
    /// It has validated the name, and not found us.
    #[error("the certificate authority could not verify that {domain} is this server: {problem}")]
    Invalid {
        /// Which name.
        domain: String,
        /// What it says.
        problem: Problem,
    },
    /// It breaks off.
    #[error(
        "{step} at the certificate authority failed: {reason}. If this machine's connection is well, this passes by itself"
    )]
    Broken {
        /// What was asked.
        step: &'static str,
        /// Why.
        reason: String,
    },
    /// It does not answer, or not to the end.
    #[error(
        "the certificate authority took too long ({0}). If this machine's connection is well, this passes by itself"
    )]
    TooLong(&'static str),
    /// No TLS-ALPN-01.
    #[error(
        "the certificate authority does not offer to verify {0} by TLS on port 443 (tls-alpn-01). Choose another with acme.directory, or get a certificate by other means and set tls = \"files\""
    )]
    NoChallenge(String),
    /// It answers what no authority should.
    #[error("the certificate authority answers {0}, which makes no sense. Check acme.directory")]
    Nonsense(&'static str),
    /// Nothing is asked for that could not be written down.
    #[error("what is asked of the certificate authority could not be written down: {0}")]
    Store(String),
    /// A key could not be made or used.
    #[error("making a key for the certificate failed: {0}")]
    Key(String),
}

impl From<CommitError> for OrderError {
    fn from(error: CommitError) -> Self {
        Self::Store(error.to_string())
    }
}

impl OrderError {
    /// The authority does not take the account; another may do.
    pub fn is_about_the_account(&self) -> bool {
        matches!(self, Self::Refused { step, problem } if *step == REGISTER && problem.is_about_the_account())
    }
}

/// What is written down while an order goes on.
pub trait Ledger: Send {
    /// A validation is about to be asked for; resolves when that is durable.
    fn asked(&mut self) -> impl Future<Output = Result<(), CommitError>> + Send;
    /// It has succeeded.
    fn validated(&mut self);
}

/// What an order is for.
pub struct Order<'a> {
    /// Whose directory has answered.
    pub authority: &'a Authority,
    /// The account's private key (PKCS #8).
    pub account_key: &'a [u8],
    /// `mailto:` URLs.
    pub contact: Vec<String>,
    /// The name.
    pub domain: &'a str,
    /// Where challenges are answered.
    pub certificate: &'a Certificate,
    /// The cryptography.
    pub provider: &'a Arc<CryptoProvider>,
}

/// Requests as the authority knows them; `step` is for messages.
const REGISTER: &str = "registering this server";
const NEW_ORDER: &str = "the order";
const READ: &str = "looking at the order";
const CHALLENGE: &str = "asking for the verification";
const FINALIZE: &str = "finishing the order";
const DOWNLOAD: &str = "fetching the certificate";

impl Order<'_> {
    /// A private key (PEM) followed by its certificate and chain. Takes as long as the authority does: put a limit on it.
    /// Dropped, it leaves nothing behind.
    ///
    /// # Errors
    /// There is no certificate.
    pub async fn obtain(&self, ledger: &mut impl Ledger) -> Result<Vec<u8>, OrderError> {
        let tls = &self.authority.tls;
        let (key, csr) = self.request()?;
        let account = asking(REGISTER, || {
            let directory = self.authority.directory.clone();
            Account::create_with_keypair(tls, directory, &self.contact, self.account_key)
        })
        .await?;
        let (url, mut order) =
            asking(NEW_ORDER, || account.new_order(tls, vec![self.domain.to_owned()])).await?;
        let mut pauses = Pauses::default();
        loop {
            match order.status {
                OrderStatus::Pending => {
                    if order.authorizations.len() > MAX_AUTHORIZATIONS {
                        return Err(OrderError::Nonsense("an order for one name with many verifications"));
                    }
                    for authorization in &order.authorizations {
                        self.authorize(&account, authorization, ledger).await?;
                    }
                    pauses.next().await;
                }
                OrderStatus::Ready => {
                    order = asking(FINALIZE, || account.finalize(tls, order.finalize.as_str(), &csr)).await?;
                    if matches!(order.status, OrderStatus::Ready) {
                        pauses.next().await;
                    }
                    continue;
                }
                OrderStatus::Processing => pauses.next().await,
                OrderStatus::Valid { certificate } => {
                    let chain = asking(DOWNLOAD, || account.certificate(tls, certificate.as_str())).await?;
                    return Ok(format!("{key}\n{chain}").into_bytes());
                }
                OrderStatus::Invalid => {
                    let problem = Problem::of(order.error);
                    return Err(OrderError::Refused { step: NEW_ORDER, problem });
                }
            }
            order = asking(READ, || account.order(tls, url.as_str())).await?;
        }
    }

    /// A new private key (PEM), and the signing request (DER) for it.
    fn request(&self) -> Result<(String, Vec<u8>), OrderError> {
        let failed = |error: rcgen::Error| OrderError::Key(error.to_string());
        let mut params = CertificateParams::new([self.domain.to_owned()]).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let csr = params.serialize_request(&key).map_err(failed)?;
        Ok((key.serialize_pem(), csr.der().to_vec()))
    }

    async fn authorize(
        &self,
        account: &Account,
        url: &str,
        ledger: &mut impl Ledger,
    ) -> Result<(), OrderError> {
        let tls = &self.authority.tls;
        let authorization = asking(READ, || account.auth(tls, url)).await?;
        let Identifier::Dns(name) = &authorization.identifier;
        if !name.eq_ignore_ascii_case(self.domain) {
            return Err(OrderError::Nonsense("an order for another name"));
        }
        match authorization.status {
            AuthStatus::Valid => return Ok(()),
            AuthStatus::Pending => {}
            _ => return Err(self.invalid(authorization.challenges)),
        }
        let (challenge, certified) = account
            .tls_alpn_01(&authorization.challenges, self.domain.to_owned())
            .map_err(|error| match error {
            AcmeError::NoTlsAlpn01Challenge => OrderError::NoChallenge(self.domain.into()),
            other => OrderError::Key(other.to_string()),
        })?;
        let answer = one_name::config(self.domain, ACME_TLS_ALPN_NAME, certified, self.provider)
            .map_err(|error| OrderError::Key(error.to_string()))?;
        self.certificate.set_challenge(Some(answer));
        let _end = End(self.certificate);
        ledger.asked().await?;
        asking(CHALLENGE, || account.challenge(tls, challenge.url.as_str())).await?;
        let mut pauses = Pauses::default();
        loop {
            pauses.next().await;
            let authorization = asking(READ, || account.auth(tls, url)).await?;
            match authorization.status {
                AuthStatus::Pending => {}
                AuthStatus::Valid => {
                    ledger.validated();
                    return Ok(());
                }
                _ => return Err(self.invalid(authorization.challenges)),
            }
        }
    }

    fn invalid(&self, challenges: Vec<Challenge>) -> OrderError {
        let mut ours = challenges.into_iter().filter(|challenge| challenge.typ == ChallengeType::TlsAlpn01);
        let problem = Problem::of(ours.find_map(|challenge| challenge.error));
        OrderError::Invalid { domain: self.domain.into(), problem }
    }
}

/// When it goes, the challenge is answered no more.
struct End<'a>(&'a Certificate);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.set_challenge(None);
    }
}

struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(*POLL.start())
    }
}

impl Pauses {
    async fn next(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(*POLL.end());
    }
}

/// A request, within its time, and again with a new nonce if the authority wants that.
async fn asking<T, F>(step: &'static str, ask: impl Fn() -> F) -> Result<T, OrderError>
where
    F: Future<Output = Result<T, AcmeError>>,
{
    let mut refused = 0;
    loop {
        let error = match timeout(REQUEST_TIME, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => return Err(OrderError::TooLong(step)),
        };
        match Problem::in_error(&error) {
            Some(problem) if problem.is_bad_nonce() && refused < NONCE_RETRIES => {
                refused += 1;
                sleep(NONCE_PAUSE).await;
            }
            Some(problem) => return Err(OrderError::Refused { step, problem }),
            None => return Err(OrderError::Broken { step, reason: Problem::shown(&error.to_string()) }),
        }
    }
}
