//! A server with an owner, an app that she approved, and what they and others send to `/authenticate`.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::http::{Connection, post};
use crate::keys::{Curve, Key, base64url, hash, jti, now};
use crate::rows::Setting;
use crate::server::{Kind, Server};
use crate::stand_in::{APP, OWNER, PDS, StandIn};

const PATH: &str = "/authenticate";
const METHOD: &str = "xyz.groundmist.sync.authenticate";
const NAMESPACE: &str = "xyz.bench";
/// Life of tokens in seconds: they are made before they are sent.
const LIFE: u64 = 300;

/// The server and who may enter.
pub struct Door {
    /// The server.
    pub server: Server,
    owner: Key,
    app: Key,
    stand_in: StandIn,
}

impl Door {
    /// Start a server on `directory` whose owner and app have keys of these curves.
    pub async fn open(
        setting: &Setting,
        (owner, app): (Curve, Curve),
        directory: &Path,
        more: &[(&'static str, String)],
    ) -> Result<Self> {
        let (owner, app) = (Key::new(owner)?, Key::new(app)?);
        let stand_in = StandIn::start(&owner, &app, directory).await?;
        let settings = [&stand_in.settings, more].concat();
        let data = directory.join("data");
        let server = Server::start_with(&setting.programs, Kind::Groundmist, &data, &settings).await?;
        let mut admin = Connection::new(UnixStream::connect(data.join("admin.sock")).await?);
        let decision = json!({ "client_id": APP, "namespace": NAMESPACE }).to_string();
        let answer = admin.send(&post("localhost", "/api/apps/approve", &[], &decision)).await?;
        ensure!(answer.status == 200, "approving the app: {}", String::from_utf8_lossy(&answer.body));
        Ok(Self { server, owner, app, stand_in })
    }

    fn host(&self) -> String {
        self.server.endpoint.address.to_string()
    }

    fn request(&self, headers: &[(&str, &str)], attestation: Option<&str>) -> Vec<u8> {
        let body = json!({ "lexiconAuthorityDomain": NAMESPACE, "clientAttestation": attestation });
        post(&self.host(), PATH, headers, &body.to_string())
    }

    fn service_token(&self, key: &Key) -> Result<String> {
        let us = self.host().replace(':', "%3A");
        key.sign(
            json!({ "typ": "JWT" }),
            &json!({
                "iat": now(), "exp": now() + LIFE, "jti": jti(), "iss": OWNER,
                "aud": format!("did:web:{us}#groundmist_sync"), "lxm": METHOD,
            }),
        )
    }

    /// The app asks for a session, in a way that must be granted.
    pub fn genuine(&self) -> Result<Vec<u8>> {
        let attestation = self.app.sign(
            json!({ "typ": "atproto-client-attestation+jwt" }),
            &json!({
                "iat": now(), "exp": now() + LIFE, "jti": jti(), "iss": APP, "sub": APP,
                "aud": format!("http://{}", self.host()),
            }),
        )?;
        let token = self.service_token(&self.owner)?;
        Ok(self.request(&[("Authorization", &format!("Bearer {token}"))], Some(&attestation)))
    }

    /// All is right but the key of the service-auth token, which is the stranger's.
    pub fn wrong_key(&self, stranger: &Key) -> Result<Vec<u8>> {
        let token = self.service_token(stranger)?;
        Ok(self.request(&[("Authorization", &format!("Bearer {token}"))], None))
    }

    /// All is right, proof and nonce too, but that the PDS did not make the access token.
    pub fn forged(&self, stranger: &Key, nonce: Option<&str>) -> Result<Vec<u8>> {
        let pds = &self.stand_in.origin;
        let part = |value: Value| base64url(value.to_string());
        let token = format!(
            "{}.{}.{}",
            part(json!({ "typ": "at+jwt", "alg": "HS256" })),
            part(json!({
                "jti": jti(), "sub": OWNER, "iat": now(), "exp": now() + LIFE, "aud": PDS,
                "cnf": { "jkt": stranger.thumbprint() }, "client_id": APP, "iss": pds,
            })),
            base64url([7; 32]),
        );
        let mut claims = json!({
            "iat": now(), "jti": jti(), "htm": "POST",
            "htu": format!("http://{}{PATH}", self.host()), "ath": hash(&token),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        let proof = stranger.sign(json!({ "typ": "dpop+jwt", "jwk": stranger.jwk() }), &claims)?;
        Ok(self.request(&[("Authorization", &format!("DPoP {token}")), ("DPoP", &proof)], None))
    }

    /// Looks like a service-auth token from afar.
    pub fn garbage(&self) -> Vec<u8> {
        let token = format!("{}.{}.{}", jti(), jti().repeat(4), jti());
        self.request(&[("Authorization", &format!("Bearer {token}"))], None)
    }
}
