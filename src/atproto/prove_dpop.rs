//! `Authorization: DPoP`: an access token of the owner's PDS, and the app's proof that it holds the token's key.

use std::net::IpAddr;
use std::sync::Arc;

use url::Url;

use super::access_token::{self, AccessToken, AccessTokenError};
use super::auth_server::AuthServer;
use super::cache::Freshness;
use super::dpop::{self, DpopError, Proof};
use super::jwks::JwksError;
use super::jwt::Seconds;
use super::pds::{GET_SESSION, Probe, Relay, probe, relay_get_session};
use super::refusal::Refusal;
use super::verifier::{How, Proven, Verifier};
use super::xrpc::endpoint;
use crate::types::Did;

/// What an app sends to prove itself by its OAuth session.
#[derive(Clone, Copy)]
pub struct DpopRequest<'a> {
    /// The path that it sends it to, by POST.
    pub path: &'a str,
    /// The access token.
    pub token: &'a str,
    /// The proof in its `DPoP` header.
    pub proof: &'a str,
    /// A second proof, for `getSession` at the owner's PDS.
    pub pds_proof: Option<&'a str>,
    /// From where.
    pub from: Option<IpAddr>,
}

impl Verifier {
    /// Proves the owner, the app and its key, or says why not.
    ///
    /// # Errors
    /// Any doubt.
    pub async fn dpop(&self, owner: &Did, request: DpopRequest<'_>, now: Seconds) -> Result<Proven, Refusal> {
        let proof = self.own_proof(&request, now)?;
        if !proof.nonce.as_deref().is_some_and(|nonce| self.nonces.accepts(nonce, now)) {
            return Err(Refusal::UseNonce);
        }
        let token = AccessToken::read(request.token).map_err(|error| match error {
            // It does not name the PDS to prove it at, but the owner's own is known.
            AccessTokenError::Opaque => Refusal::Token(AccessTokenError::Opaque),
            other => other.into(),
        })?;
        // Before anyone is asked anything: strangers' tokens cost nobody a request.
        if token.sub() != owner {
            return Err(Refusal::NotOwner);
        }
        let (pds, server) = self.issuer(owner, &token, &proof, now).await?;
        let how = self.authenticity(owner, &pds, &server, &token, &proof, &request, now).await?;
        self.remember(&proof.jkt, &proof.jti, proof.over_at(), now)?;
        Ok(Proven {
            did: owner.clone(),
            client_id: token.client_id().to_owned(),
            jkt: Some(proof.jkt),
            how,
            used: Vec::new(),
        })
    }

    /// The proof for this very request, at any of our names.
    fn own_proof(&self, request: &DpopRequest<'_>, now: Seconds) -> Result<Proof, Refusal> {
        let mut refusal = DpopError::Url;
        for url in self.us.urls(request.path) {
            let expected = dpop::Expected { method: "POST", url: &url, access_token: request.token, now };
            match dpop::verify(request.proof, &expected) {
                Err(DpopError::Url) => {}
                Ok(proof) => return Ok(proof),
                Err(other) => {
                    refusal = other;
                    break;
                }
            }
        }
        Err(refusal.into())
    }

    /// Who issues the owner's tokens, if that is who this token says; looked up anew if not, as people move.
    async fn issuer(
        &self,
        owner: &Did,
        token: &AccessToken,
        proof: &Proof,
        now: Seconds,
    ) -> Result<(Url, Arc<AuthServer>), Refusal> {
        let mut freshness = Freshness::Cached;
        loop {
            let (_, pds) = self.pds(owner, freshness).await?;
            let server = self.auth_servers.of_pds(&pds, freshness).await?;
            let (url, origin) = (pds.as_str(), pds.origin().ascii_serialization());
            let audiences = [server.pds_did.as_str(), &origin, url];
            let expected = access_token::Expected {
                owner,
                issuer: &server.issuer,
                audiences: &audiences,
                jkt: &proof.jkt,
                now,
            };
            match token.check(&expected) {
                Ok(()) => return Ok((pds, server)),
                Err(AccessTokenError::Issuer | AccessTokenError::Audience)
                    if freshness == Freshness::Cached =>
                {
                    freshness = Freshness::Fresh;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// That the token is genuine: by its issuer's keys, by the PDS's own word, or by how the PDS answers.
    #[allow(clippy::too_many_arguments)] // one step of `dpop`
    async fn authenticity(
        &self,
        owner: &Did,
        pds: &Url,
        server: &AuthServer,
        token: &AccessToken,
        proof: &Proof,
        request: &DpopRequest<'_>,
        now: Seconds,
    ) -> Result<How, Refusal> {
        if !server.jwks.is_empty() {
            match token.verify_with(&server.jwks) {
                Ok(()) => return Ok(How::IssuerKey),
                // Its keys may have changed since.
                Err(JwksError::NoKey) => {
                    let server = self.auth_servers.of_pds(pds, Freshness::Fresh).await?;
                    if token.verify_with(&server.jwks).is_ok() {
                        return Ok(How::IssuerKey);
                    }
                }
                Err(_) => {}
            }
        }
        let call = endpoint(pds, GET_SESSION);
        if let Some(pds_proof) = request.pds_proof {
            // Checked here first: nothing goes to the PDS that this app's key did not sign for it.
            let expected = dpop::Expected { method: "GET", url: &call, access_token: request.token, now };
            let second = dpop::verify(pds_proof, &expected).map_err(Refusal::PdsProof)?;
            if second.jkt != proof.jkt {
                return Err(Refusal::PdsProofKey);
            }
            let asking = self.ask(request.from)?;
            self.relay(owner, pds, request.token, pds_proof).await?;
            asking.was_worth_it();
            return Ok(How::Relay);
        }
        if self.probe {
            let asking = self.ask(request.from)?;
            self.probe_three(pds, token).await?;
            asking.was_worth_it();
            return Ok(How::Probe);
        }
        Err(Refusal::Unverifiable(call.into()))
    }

    async fn relay(&self, owner: &Did, pds: &Url, token: &str, pds_proof: &str) -> Result<(), Refusal> {
        match relay_get_session(&self.http, pds, token, pds_proof).await? {
            Relay::Is(did) if did == *owner => Ok(()),
            Relay::Is(_) => Err(Refusal::NotOwner),
            Relay::UseNonce(nonce) => Err(Refusal::UsePdsNonce(nonce)),
            Relay::Refused(code) => Err(Refusal::PdsRefused(code)),
            Relay::Odd(reason) => Err(Refusal::Odd(reason)),
        }
    }

    /// A PDS that calls this token genuine, and the same with another signature or another payload forged, has
    /// checked the signature. Anything else proves nothing.
    async fn probe_three(&self, pds: &Url, token: &AccessToken) -> Result<(), Refusal> {
        match probe(&self.http, pds, token.as_str()).await? {
            Probe::Genuine => {}
            Probe::Forged => return Err(Refusal::NotGenuine),
            Probe::Odd(reason) => return Err(Refusal::Odd(reason)),
        }
        let (signature, payload) = (token.with_altered_signature(), token.with_altered_payload());
        let (signature, payload) =
            tokio::join!(probe(&self.http, pds, &signature), probe(&self.http, pds, &payload));
        for answer in [signature?, payload?] {
            match answer {
                Probe::Forged => {}
                Probe::Genuine => {
                    return Err(Refusal::Odd("it takes an altered token for a genuine one".into()));
                }
                Probe::Odd(reason) => return Err(Refusal::Odd(reason)),
            }
        }
        Ok(())
    }
}
