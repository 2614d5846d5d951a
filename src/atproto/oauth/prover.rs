//! Requests with DPoP proofs (RFC 9449), by a key that one sign-in uses and that is kept nowhere.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Request, StatusCode};
use serde_json::{Value, json};
use url::{Origin, Url};

use super::OauthError;
use crate::atproto::PdsError;
use crate::atproto::dpop::token_hash;
use crate::atproto::jwt::Seconds;
use crate::atproto::key::{Curve, PublicKey};
use crate::atproto::pds::{DPOP, MAX_NONCE_BYTES};
use crate::atproto::repo::Hidden;
use crate::atproto::xrpc::{self, Said};
use crate::net::{Http, HttpError};
use crate::types::{now, secret};

/// A key, and the newest nonce that the server asked last has given. Secrets: no `Debug`.
pub(super) struct Prover {
    pair: EcdsaKeyPair,
    jwk: Value,
    nonce: Option<(Origin, String)>,
}

impl Prover {
    /// A fresh key.
    pub(super) fn new() -> Result<Self, OauthError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| OauthError::Crypto)?;
        let key =
            PublicKey::from_point(Curve::P256, pair.public_key().as_ref()).map_err(|_| OauthError::Crypto)?;
        Ok(Self { pair, jwk: key.to_jwk(), nonce: None })
    }

    /// Sends a request with a proof, and with `token` if there is one; once more if the server wants its nonce in the
    /// proof.
    pub(super) async fn send(
        &mut self,
        http: &Http,
        request: Request,
        token: Option<&Hidden>,
    ) -> Result<Said, OauthError> {
        let again = request.try_clone();
        let said = self.send_once(http, request, token).await?;
        match again {
            Some(request) if wants_nonce(&said) => self.send_once(http, request, token).await,
            _ => Ok(said),
        }
    }

    async fn send_once(
        &mut self,
        http: &Http,
        mut request: Request,
        token: Option<&Hidden>,
    ) -> Result<Said, OauthError> {
        let origin = request.url().origin();
        let proof = self.proof(request.method().as_str(), request.url(), token, now() / 1000)?;
        xrpc::secret_header(&mut request, DPOP, &proof)?;
        if let Some(token) = token {
            xrpc::authorize(&mut request, "DPoP", token.reveal())?;
        }
        let said = xrpc::send(http, request).await?;
        let given = said.headers.get("dpop-nonce").and_then(|nonce| nonce.to_str().ok());
        if let Some(nonce) = given.filter(|nonce| (1..=MAX_NONCE_BYTES).contains(&nonce.len())) {
            self.nonce = Some((origin, nonce.to_owned()));
        }
        if said.status.is_server_error() || said.status == StatusCode::TOO_MANY_REQUESTS {
            let status = said.status.as_u16();
            return Err(PdsError::Http(HttpError::Status { url: said.call, status }).into());
        }
        Ok(said)
    }

    fn proof(
        &self,
        method: &str,
        url: &Url,
        token: Option<&Hidden>,
        now: Seconds,
    ) -> Result<String, OauthError> {
        let mut htu = url.clone();
        htu.set_query(None);
        htu.set_fragment(None);
        let mut claims = json!({ "jti": secret()?, "htm": method, "htu": htu.as_str(), "iat": now });
        if let Some((_, nonce)) = self.nonce.as_ref().filter(|(origin, _)| *origin == url.origin()) {
            claims["nonce"] = nonce.as_str().into();
        }
        if let Some(token) = token {
            claims["ath"] = token_hash(token.reveal()).into();
        }
        let header = json!({ "typ": "dpop+jwt", "alg": Curve::P256.alg(), "jwk": self.jwk });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(&claims));
        let signature =
            self.pair.sign(&SystemRandom::new(), input.as_bytes()).map_err(|_| OauthError::Crypto)?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// RFC 9449: an authorization server says so in the body (section 8), a resource server in a header (section 9).
fn wants_nonce(said: &Said) -> bool {
    const ERROR: &str = "use_dpop_nonce";
    let challenge = said.headers.get(WWW_AUTHENTICATE).and_then(|challenge| challenge.to_str().ok());
    matches!(said.status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
        && (said.code() == Some(ERROR) || challenge.is_some_and(|challenge| challenge.contains(ERROR)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atproto::dpop::{Expected, verify};
    use crate::atproto::jwt::Jwt;

    const NOW: Seconds = 1_800_000_000;

    #[test]
    fn our_proofs_pass_our_own_verifier() {
        let mut prover = Prover::new().unwrap();
        let url = Url::parse("https://pds.example/xrpc/com.atproto.repo.putRecord?a=b#c").unwrap();
        let token = Hidden::new("a.b.c".into());
        let check = |prover: &Prover| {
            let proof = prover.proof("POST", &url, Some(&token), NOW).unwrap();
            verify(&proof, &Expected { method: "POST", url: &url, access_token: Some("a.b.c"), now: NOW })
                .unwrap()
        };
        let first = check(&prover);
        assert_eq!(first.nonce, None);
        prover.nonce = Some((url.origin(), "n1".into()));
        let second = check(&prover);
        assert_eq!(second.nonce.as_deref(), Some("n1"));
        assert_eq!(first.jkt, second.jkt);
        assert_ne!(first.jti, second.jti);
        let other = Prover::new().unwrap();
        assert_ne!(check(&other).jkt, first.jkt, "each sign-in has a key of its own");
    }

    #[test]
    fn a_nonce_is_for_its_own_server_and_a_hash_for_a_token() {
        let mut prover = Prover::new().unwrap();
        let url = Url::parse("https://pds.example/oauth/par").unwrap();
        prover.nonce = Some((Url::parse("https://other.example/").unwrap().origin(), "n1".into()));
        let proof = prover.proof("POST", &url, None, NOW).unwrap();
        let jwt = Jwt::parse(&proof).unwrap();
        assert!(!jwt.claims().contains_key("nonce") && !jwt.claims().contains_key("ath"));
        assert_eq!(jwt.text("htu").unwrap(), "https://pds.example/oauth/par");
    }
}
