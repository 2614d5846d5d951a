//! JSON Web Tokens in their compact form (RFC 7515, RFC 7519), read strictly before anything in them is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json;
use super::key::PublicKey;

/// Longest token in bytes that is read; real ones have less than 2 kB.
pub const MAX_JWT_BYTES: usize = 8 * 1024;
/// Longest `jti`, `kid` or nonce in bytes that is accepted.
pub const MAX_JTI_BYTES: usize = 256;
/// How far in seconds another machine's clock may be ahead of ours where a token says since when it holds.
pub const CLOCK_SKEW: Seconds = 30;

/// Seconds since the Unix epoch, or a number of them (RFC 7519, NumericDate).
pub type Seconds = u64;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// More than [`MAX_JWT_BYTES`].
    #[error("it has more than {MAX_JWT_BYTES} bytes")]
    TooLong,
    /// Not a JWT at all.
    #[error("it is not three parts in base64url without padding")]
    Form,
    /// A part that is not what it must be.
    #[error("its {0} is not a JSON object in which each name occurs once")]
    Json(&'static str),
    /// An extension that must not be ignored.
    #[error("its header has \"crit\": no extension is known here")]
    Critical,
    /// Another kind of token.
    #[error("it is not of the type {0:?}")]
    Type(&'static str),
    /// A claim is missing or of another form.
    #[error("its {0:?} is missing or not of its form")]
    Claim(&'static str),
    /// Signed with another algorithm than its key has; `none` and the symmetric ones are no key's.
    #[error("its \"alg\" is not that of the key which must have signed it")]
    Algorithm,
    /// Signed by another key, or altered.
    #[error("its signature is not by the key which must have signed it")]
    Signature,
    /// It begins in the future.
    #[error("its {0:?} lies ahead: compare the clocks")]
    Early(&'static str),
    /// It is over.
    #[error("it has expired: make a new one, or compare the clocks")]
    Expired,
    /// It claims to last too long.
    #[error("it expires more than {0} s ahead: make one that does not last that long")]
    TooLasting(Seconds),
}

/// A token's parts. Nothing in it is true before [`verify`](Self::verify), or a check of the signature elsewhere.
pub struct Jwt<'a> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signing_input: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`JwtError::TooLong`], [`JwtError::Form`], [`JwtError::Json`] or [`JwtError::Critical`].
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_JWT_BYTES {
            return Err(JwtError::TooLong);
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwtError::Form)?;
        let (header, claims) = signing_input.split_once('.').ok_or(JwtError::Form)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Form);
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let header = json::object(&header).ok_or(JwtError::Json("header"))?;
        let claims = json::object(&claims).ok_or(JwtError::Json("payload"))?;
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        Ok(Self { header, claims, signing_input, signature })
    }

    /// The header.
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// The payload.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// What is signed: header and payload as they came.
    pub fn signing_input(&self) -> &'a str {
        self.signing_input
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The header's `alg`, if it is text.
    pub fn alg(&self) -> Option<&str> {
        self.header.get("alg").and_then(Value::as_str)
    }

    /// Compares the header's `typ`, a media type (RFC 7515, 4.1.9).
    ///
    /// # Errors
    /// [`JwtError::Type`].
    pub fn expect_type(&self, typ: &'static str) -> Result<(), JwtError> {
        let given = self.header.get("typ").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        if given.strip_prefix("application/").unwrap_or(&given) == typ.to_ascii_lowercase() {
            Ok(())
        } else {
            Err(JwtError::Type(typ))
        }
    }

    /// Verifies the signature, with the one algorithm that the key has.
    ///
    /// # Errors
    /// [`JwtError::Algorithm`] or [`JwtError::Signature`].
    pub fn verify(&self, key: &PublicKey) -> Result<(), JwtError> {
        if self.alg() != Some(key.curve().alg()) {
            return Err(JwtError::Algorithm);
        }
        key.verify(self.signing_input.as_bytes(), &self.signature).map_err(|_| JwtError::Signature)
    }

    /// A claim that must be text.
    ///
    /// # Errors
    /// [`JwtError::Claim`].
    pub fn text(&self, claim: &'static str) -> Result<&str, JwtError> {
        self.claims.get(claim).and_then(Value::as_str).ok_or(JwtError::Claim(claim))
    }

    /// A claim that must be text of 1 to `max` bytes of printable ASCII.
    ///
    /// # Errors
    /// [`JwtError::Claim`].
    pub fn id(&self, claim: &'static str, max: usize) -> Result<&str, JwtError> {
        let text = self.text(claim)?;
        let fits = (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(text) } else { Err(JwtError::Claim(claim)) }
    }

    /// A claim that must be a time in whole seconds, if it is there.
    ///
    /// # Errors
    /// [`JwtError::Claim`].
    pub fn time(&self, claim: &'static str) -> Result<Option<Seconds>, JwtError> {
        match self.claims.get(claim) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(JwtError::Claim(claim)),
        }
    }

    /// That the token has begun, has not expired, and expires at most `longest` ahead. Gives its `exp`.
    ///
    /// # Errors
    /// [`JwtError::Claim`], [`JwtError::Early`], [`JwtError::Expired`] or [`JwtError::TooLasting`].
    pub fn expect_current(&self, now: Seconds, longest: Option<Seconds>) -> Result<Seconds, JwtError> {
        for claim in ["iat", "nbf"] {
            if self.time(claim)?.is_some_and(|begins| begins > now.saturating_add(CLOCK_SKEW)) {
                return Err(JwtError::Early(claim));
            }
        }
        let expires = self.time("exp")?.ok_or(JwtError::Claim("exp"))?;
        if expires <= now {
            return Err(JwtError::Expired);
        }
        match longest {
            Some(longest) if expires - now > longest + CLOCK_SKEW => Err(JwtError::TooLasting(longest)),
            _ => Ok(expires),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::key::Curve;
    use super::super::testing::{CURVES, TestKey, signing_input};
    use super::*;

    fn error(token: &str) -> JwtError {
        Jwt::parse(token).err().unwrap()
    }

    fn raw(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn parts_are_read_as_they_came() {
        let token = raw("{\"alg\": \"x\",\"typ\":\"JWT\"}", " { \"a\" : 1 } ");
        let jwt = Jwt::parse(&token).unwrap();
        assert_eq!((jwt.alg(), &jwt.claims()["a"]), (Some("x"), &json!(1)));
        assert_eq!((jwt.signature(), jwt.header().len()), (&[0, 0, 0][..], 2));
        assert_eq!(format!("{}.AAAA", jwt.signing_input()), token);
    }

    #[test]
    fn what_is_not_strictly_a_jwt_is_refused() {
        let good = raw("{}", "{}");
        let part = good.split_once('.').unwrap().0;
        for bad in [
            String::new(),
            ".".into(),
            "..".into(),
            "opaque".into(),
            "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU".into(),
            format!("{part}.{part}"),
            format!("{good}.AAAA"),
            format!("{good}="),
            format!(" {good}"),
            format!("{good}\n"),
            good.replace("AAAA", "AAAB=="),
            good.replace("AAAA", "AB"),
            good.replace("AAAA", "++//"),
            good.replace("AAAA", "A"),
        ] {
            let refused = error(&bad);
            assert!(matches!(refused, JwtError::Form | JwtError::Json("header")), "{bad:?}: {refused}");
        }
        assert_eq!(error(&raw("[]", "{}")), JwtError::Json("header"));
        assert_eq!(error(&raw("{\"alg\":\"ES256\",\"alg\":\"none\"}", "{}")), JwtError::Json("header"));
        assert_eq!(error(&raw("{}", "null")), JwtError::Json("payload"));
        assert_eq!(error(&raw("{}", "{\"sub\":\"a\",\"sub\":\"b\"}")), JwtError::Json("payload"));
        assert_eq!(error(&raw("{}", "{}{}")), JwtError::Json("payload"));
        assert_eq!(error(&raw("{\"crit\":[\"b64\"],\"b64\":false}", "{}")), JwtError::Critical);
        assert_eq!(error(&"A".repeat(MAX_JWT_BYTES)), JwtError::Form);
        assert_eq!(error(&"A".repeat(MAX_JWT_BYTES + 1)), JwtError::TooLong);
    }

    #[test]
    fn only_the_keys_own_algorithm_verifies() {
        for curve in CURVES {
            let key = TestKey::new(curve);
            let claims = json!({ "sub": "x" });
            let token = key.jws(&json!({ "alg": curve.alg() }), &claims);
            let verify = |token: &str, key: &TestKey| Jwt::parse(token).unwrap().verify(&key.public());
            assert_eq!(verify(&token, &key), Ok(()));
            assert_eq!(verify(&token, &TestKey::new(curve)), Err(JwtError::Signature));
            let other = if curve == Curve::P256 { Curve::K256 } else { Curve::P256 };
            assert_eq!(verify(&token, &TestKey::new(other)), Err(JwtError::Algorithm));
            for alg in
                [json!("none"), json!("HS256"), json!(other.alg()), json!("es256"), json!(7), Value::Null]
            {
                let lying = key.jws(&json!({ "alg": alg }), &claims);
                assert_eq!(verify(&lying, &key), Err(JwtError::Algorithm), "{alg}");
            }
            let unsigned = format!("{}.", signing_input(&json!({ "alg": curve.alg() }), &claims));
            assert_eq!(verify(&unsigned, &key), Err(JwtError::Signature));
        }
    }

    #[test]
    fn claims_have_forms() {
        let token = raw(
            r#"{"typ":"Application/AT+JWT"}"#,
            r#"{"a":"x","n":7,"f":1.5,"m":-1,"s":"1","z":null,"c":"a b","e":""}"#,
        );
        let jwt = Jwt::parse(&token).unwrap();
        assert_eq!((jwt.text("a"), jwt.text("n")), (Ok("x"), Err(JwtError::Claim("n"))));
        assert_eq!((jwt.time("n"), jwt.time("none")), (Ok(Some(7)), Ok(None)));
        for claim in ["f", "m", "s", "z"] {
            assert_eq!(jwt.time(claim), Err(JwtError::Claim(claim)));
        }
        assert_eq!((jwt.id("a", 1), jwt.id("a", 0)), (Ok("x"), Err(JwtError::Claim("a"))));
        assert_eq!((jwt.id("c", 9), jwt.id("e", 9)), (Err(JwtError::Claim("c")), Err(JwtError::Claim("e"))));
        assert_eq!(jwt.expect_type("at+jwt"), Ok(()));
        assert_eq!(jwt.expect_type("JWT"), Err(JwtError::Type("JWT")));
        assert_eq!(Jwt::parse(&raw("{}", "{}")).unwrap().expect_type("JWT"), Err(JwtError::Type("JWT")));
    }

    #[test]
    fn times_are_compared_with_the_clock() {
        const NOW: Seconds = 1_000_000;
        let current = |claims: Value, longest| {
            Jwt::parse(&raw("{}", &claims.to_string())).unwrap().expect_current(NOW, longest)
        };
        for (claims, longest, outcome) in [
            (json!({ "exp": NOW + 1 }), Some(60), Ok(NOW + 1)),
            (json!({ "exp": NOW }), Some(60), Err(JwtError::Expired)),
            (json!({ "exp": 0 }), None, Err(JwtError::Expired)),
            (json!({}), None, Err(JwtError::Claim("exp"))),
            (json!({ "exp": "1000060" }), None, Err(JwtError::Claim("exp"))),
            (json!({ "exp": NOW + 90 }), Some(60), Ok(NOW + 90)),
            (json!({ "exp": NOW + 91 }), Some(60), Err(JwtError::TooLasting(60))),
            (json!({ "exp": u64::MAX }), Some(60), Err(JwtError::TooLasting(60))),
            (json!({ "exp": u64::MAX }), None, Ok(u64::MAX)),
            (json!({ "exp": NOW + 1, "iat": NOW + 30, "nbf": NOW + 30 }), None, Ok(NOW + 1)),
            (json!({ "exp": NOW + 1, "iat": NOW + 31 }), None, Err(JwtError::Early("iat"))),
            (json!({ "exp": NOW + 1, "nbf": NOW + 31 }), None, Err(JwtError::Early("nbf"))),
            (json!({ "exp": NOW + 1, "nbf": "soon" }), None, Err(JwtError::Claim("nbf"))),
        ] {
            assert_eq!(current(claims.clone(), longest), outcome, "{claims}");
        }
    }
}
