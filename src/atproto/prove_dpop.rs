//! `Authorization: DPoP`: an access token of the owner's PDS, and the app's proof that it holds the token's key.

use std::net::IpAddr;
use std::sync::Arc;

use url::Url;

use super::access_token::{self, AccessToken, AccessTokenError};
use super::auth_server::AuthServer;
use super::dpop::{self, DpopError, Proof};
use super::jwks::JwksError;
use super::jwt::Seconds;
use super::pds::{GET_SESSION, Probe, Relay, probe, relay_get_session};
use super::refusal::Refusal;
use super::verifier::{How, Proven, Verifier};
use super::xrpc::endpoint;
use crate::net::Freshness;
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
    /// What counts as one place that requests come from ([`crate::types::place_of`]).
    pub place: Option<IpAddr>,
}

impl Verifier {
    /// Proves the owner, the app and its key, or says why not.
    ///
    /// # Errors
    /// Any doubt.
    pub async fn dpop(&self, owner: &Did, request: DpopRequest<'_>, now: Seconds) -> Result<Proven, Refusal> {
        let proof = self.own_proof(request.path, request.proof, Some(request.token), now)?;
        let token = AccessToken::read(request.token)?;
        // Before anyone is asked anything: strangers' tokens cost nobody a request.
        if token.sub() != owner {
            return Err(Refusal::NotOwner);
        }
        self.used(&proof.jkt, &proof.jti, now)?;
        let (pds, server) = self.issuer(owner, &token, &proof, now).await?;
        let how = self.authenticity(owner, &pds, &server, &token, &proof, &request, now).await?;
        self.remember(&proof.jkt, &proof.jti, proof.over_at(), now)?;
        Ok(Proven {
            did: owner.clone(),
            client_id: token.client_id().to_string(),
            jkt: Some(proof.jkt),
            how,
            used: Vec::new(),
        })
    }

    /// Proves the key that a request without a token comes with. For our token endpoint (RFC 9449, section 5).
    ///
    /// # Errors
    /// Any doubt.
    pub fn key(&self, path: &str, proof: &str, now: Seconds) -> Result<Proof, Refusal> {
        let proof = self.own_proof(path, proof, None, now)?;
        self.used(&proof.jkt, &proof.jti, now)?;
        Ok(proof)
    }

    /// Uses up a proof that [`Verifier::key`] found good, before anything is given for it. Only of one that comes with
    /// something that we gave out: strangers could fill the memory.
    ///
    /// # Errors
    /// It was used meanwhile, or there is no room.
    pub fn use_up(&self, proof: &Proof, now: Seconds) -> Result<(), Refusal> {
        self.remember(&proof.jkt, &proof.jti, proof.over_at(), now)
    }

    /// The proof for this very request, at any of our names, with a nonce of ours.
    fn own_proof(
        &self,
        path: &str,
        proof: &str,
        access_token: Option<&str>,
        now: Seconds,
    ) -> Result<Proof, Refusal> {
        let mut refusal = DpopError::Url;
        for url in self.us.urls(path) {
            let expected = dpop::Expected { method: "POST", url: &url, access_token, now };
            match dpop::verify(proof, &expected) {
                Err(DpopError::Url) => {}
                Ok(proof) if proof.nonce.as_deref().is_some_and(|nonce| self.nonces.accepts(nonce, now)) => {
                    return Ok(proof);
                }
                Ok(_) => return Err(Refusal::UseNonce),
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
            let access_token = Some(request.token);
            let expected = dpop::Expected { method: "GET", url: &call, access_token, now };
            let second = dpop::verify(pds_proof, &expected).map_err(Refusal::PdsProof)?;
            if second.jkt != proof.jkt {
                return Err(Refusal::PdsProofKey);
            }
            let asking = self.asking.about(&proof.jkt, request.place)?;
            self.relay(owner, pds, request.token, pds_proof).await?;
            asking.was_worth_it();
            return Ok(How::Relay);
        }
        if self.may_probe() {
            let asking = self.asking.about(&proof.jkt, request.place)?;
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::key::Curve;
    use super::super::replay::ReplayError;
    use super::super::resolve::Resolver;
    use super::super::testing::{TestKey, with};
    use super::super::verifier::Us;
    use super::*;
    use crate::net::{Http, HttpOptions};
    use crate::types::public_plc_directory;

    const NOW: Seconds = 1_800_000_000;
    /// Nobody answers there: whatever is let through to be asked about ends in a failure to ask.
    const OWNER: &str = "did:web:localhost%3A1";

    fn verifier() -> Verifier {
        let http = Http::new(&HttpOptions::default()).unwrap();
        let resolver = Arc::new(Resolver::new(http.clone(), public_plc_directory()));
        Verifier::new(Us::at_loopback(3030).unwrap(), http, resolver, true, &[1; 32])
    }

    fn token(key: &TestKey, changes: &Value) -> String {
        let claims = json!({
            "sub": OWNER, "iss": "https://pds.example", "aud": "did:web:pds.example", "iat": NOW, "exp": NOW + 60,
            "client_id": "https://app.example/c", "cnf": { "jkt": key.public().thumbprint() },
        });
        key.jws(&json!({ "typ": "at+jwt", "alg": key.curve.alg() }), &with(&claims, changes))
    }

    fn proof(key: &TestKey, token: &str, changes: &Value) -> String {
        let header = json!({ "typ": "dpop+jwt", "alg": key.curve.alg(), "jwk": key.jwk() });
        let claims = json!({
            "htm": "POST", "htu": "http://localhost:3030/authenticate", "iat": NOW, "jti": "one",
            "ath": dpop::token_hash(token),
        });
        key.jws(&header, &with(&claims, changes))
    }

    fn request<'a>(token: &'a str, proof: &'a str) -> DpopRequest<'a> {
        DpopRequest { path: "/authenticate", token, proof, pds_proof: None, place: None }
    }

    #[test]
    fn this_machine_has_three_names() {
        let (verifier, key) = (verifier(), TestKey::new(Curve::P256));
        let token = token(&key, &json!({}));
        let check = |htu: &str| {
            let proof = proof(&key, &token, &json!({ "htu": htu, "nonce": verifier.nonce(NOW) }));
            verifier.own_proof("/authenticate", &proof, Some(&token), NOW).map(|_| ())
        };
        for host in ["localhost:3030", "127.0.0.1:3030", "[::1]:3030", "LOCALHOST:3030"] {
            assert_eq!(check(&format!("http://{host}/authenticate?a=b#c")), Ok(()), "{host}");
        }
        for wrong in [
            "https://localhost:3030/authenticate",
            "http://localhost/authenticate",
            "http://localhost:3031/authenticate",
            "http://localhost.:3030/authenticate",
            "http://127.0.0.2:3030/authenticate",
            "http://a@localhost:3030/authenticate",
            "http://localhost:3030/authenticate/",
            "http://localhost:3030/%61uthenticate",
            "/authenticate",
        ] {
            assert_eq!(check(wrong), Err(Refusal::Proof(DpopError::Url)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_about_strangers_or_copies() {
        let (verifier, key) = (verifier(), TestKey::new(Curve::K256));
        let owner = OWNER.parse().unwrap();
        let nonce = json!({ "nonce": verifier.nonce(NOW) });
        let stranger = token(&key, &json!({ "sub": "did:web:localhost%3A2" }));
        let theirs = proof(&key, &stranger, &nonce);
        assert_eq!(verifier.dpop(&owner, request(&stranger, &theirs), NOW).await, Err(Refusal::NotOwner));
        let token = token(&key, &json!({}));
        let bare = proof(&key, &token, &json!({}));
        assert_eq!(verifier.dpop(&owner, request(&token, &bare), NOW).await, Err(Refusal::UseNonce));
        let proof = proof(&key, &token, &nonce);
        let asked = verifier.dpop(&owner, request(&token, &proof), NOW).await;
        assert!(matches!(asked, Err(Refusal::Resolve(_))), "{asked:?}");
        verifier.remember(&key.public().thumbprint(), "one", NOW + 121, NOW).unwrap();
        let copied = verifier.dpop(&owner, request(&token, &proof), NOW).await;
        assert_eq!(copied, Err(Refusal::Replay(ReplayError::Seen)));
    }
}
