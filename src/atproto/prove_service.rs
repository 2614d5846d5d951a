//! `Authorization: Bearer` with a service-auth token, which proves the owner, and the app's attestation.

use std::net::IpAddr;

use super::attestation::{self, AttestationError};
use super::client_id::ClientId;
use super::jwt::{CLOCK_SKEW, JwtError, Seconds};
use super::refusal::Refusal;
use super::service_auth::{self, ServiceAuthError, ServiceToken};
use super::verifier::{How, Proven, Verifier};
use crate::net::Freshness;
use crate::types::Did;

impl Verifier {
    /// Proves the owner by her service-auth token for `lxm`, and the app by its attestation; both come from `place`, if it is
    /// any.
    ///
    /// # Errors
    /// Any doubt. The app's metadata is asked for only after the owner is proved.
    pub async fn service(
        &self,
        owner: &Did,
        token: &str,
        attestation: Option<&str>,
        lxm: &str,
        place: Option<IpAddr>,
        now: Seconds,
    ) -> Result<Proven, Refusal> {
        if service_auth::claimed_issuer(token)? != *owner {
            return Err(Refusal::NotOwner);
        }
        let service = self.service_token(owner, token, lxm, now).await?;
        let app = self.attested(attestation.ok_or(Refusal::AppUnproven)?, place, now).await?;
        Ok(Proven {
            did: owner.clone(),
            used: vec![
                (format!("service-auth {owner} {}", service.jti), service.exp + CLOCK_SKEW),
                (format!("client-attestation {} {}", app.client_id, app.jti), app.exp + CLOCK_SKEW),
            ],
            client_id: app.client_id,
            jkt: None,
            how: How::ServiceAuth,
        })
    }

    /// Tried with the key that is known, then with the one that the owner has now.
    async fn service_token(
        &self,
        owner: &Did,
        token: &str,
        lxm: &str,
        now: Seconds,
    ) -> Result<ServiceToken, Refusal> {
        let audiences = self.us.audiences(false);
        let expected = service_auth::Expected { owner, audiences: &audiences, lxm, now };
        let known = self.resolver.document(owner, Freshness::Cached).await?;
        let known = known.signing_key()?;
        let refusal = match service_auth::verify(token, known, &expected) {
            Ok(token) => return Ok(token),
            Err(error @ ServiceAuthError::Jwt(JwtError::Signature | JwtError::Algorithm)) => error,
            Err(error) => return Err(error.into()),
        };
        let now_valid = self.resolver.document(owner, Freshness::Fresh).await?;
        match now_valid.signing_key()? {
            key if key != known => Ok(service_auth::verify(token, key, &expected)?),
            _ => Err(refusal.into()),
        }
    }

    /// Asks servers that the app chose, so what is asked in vain is limited.
    async fn attested(
        &self,
        attestation: &str,
        place: Option<IpAddr>,
        now: Seconds,
    ) -> Result<attestation::Attestation, Refusal> {
        let id: ClientId = attestation::claimed_client(attestation)?.parse()?;
        let audiences = self.us.audiences(true);
        let expected = attestation::Expected { client_id: id.as_str(), audiences: &audiences, now };
        let ask = self.asking.about_app(id.as_str(), place)?;
        let keys = self.clients.keys(&id, Freshness::Cached).await?;
        let verified = match attestation::verify(attestation, &keys, &expected) {
            Err(AttestationError::Keys(_)) => {
                let keys = self.clients.keys(&id, Freshness::Fresh).await?;
                attestation::verify(attestation, &keys, &expected)?
            }
            other => other?,
        };
        ask.was_worth_it();
        Ok(verified)
    }
}
