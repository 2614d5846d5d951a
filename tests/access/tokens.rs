//! What a token must be to get in.

use groundmist_sync::access::{LOCAL_CLIENT, LOCAL_DID, MAX_TOKEN_BYTES, Refused};
use groundmist_sync::types::now;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::*;

pub(crate) fn sign(claims: &Value, algorithm: Algorithm, secret: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// base64url without padding (RFC 7515).
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..=three.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}

#[tokio::test]
async fn a_token_says_what_its_session_says() {
    let place = Place::new();
    let mut new = wanted("laptop");
    new.read_only = true;
    let (token, session) = place.access.create(new).await.unwrap();
    assert_eq!(place.access.verify(&token, now()).unwrap(), session);
    assert!(session.read_only && session.expires - session.created == 3_600_000);
    let claims = claims(&token);
    let server = format!("urn:groundmist-sync:{}", place.store.storage_id());
    let expected = json!({
        "iss": server, "aud": server, "sub": LOCAL_DID, "did": LOCAL_DID, "client_id": LOCAL_CLIENT,
        "session_id": session.id, "lexiconAuthorityDomain": "xyz.example",
        "iat": session.created / 1000, "exp": session.expires / 1000,
    });
    assert_eq!(claims, expected);
    assert!(token.len() < MAX_TOKEN_BYTES / 2);
}

#[tokio::test]
async fn signatures_and_algorithms_other_than_ours_are_refused() {
    let place = Place::new();
    let (token, _) = place.token("laptop").await;
    let parts: Vec<&str> = token.split('.').collect();
    let payload = parts[1];
    let none = base64url(br#"{"alg":"none","typ":"JWT"}"#);
    let rs256 = base64url(br#"{"alg":"RS256","typ":"JWT"}"#);
    let hs512 = sign(&claims(&token), Algorithm::HS512, SECRET.as_bytes());
    let other = sign(&claims(&token), Algorithm::HS256, b"another secret altogether");
    let changed = base64url(claims(&token).to_string().replace("xyz.example", "xyz.evil").as_bytes());
    for (case, forged) in [
        ("alg none, unsigned", format!("{none}.{payload}.")),
        ("alg none, old signature", format!("{none}.{payload}.{}", parts[2])),
        ("RS256", format!("{rs256}.{payload}.{}", parts[2])),
        ("HS512 with the right secret", hs512),
        ("another secret", other),
        ("changed payload", format!("{}.{changed}.{}", parts[0], parts[2])),
        ("no signature", format!("{}.{payload}.", parts[0])),
        ("cut", token[..token.len() - 2].to_owned()),
    ] {
        assert!(matches!(place.refused(&forged), Refused::Invalid(_)), "{case}");
    }
    assert!(place.access.verify(&token, now()).is_ok(), "the real one still holds");
}

#[tokio::test]
async fn claims_that_are_missing_wrong_or_not_the_rows_are_refused() {
    let place = Place::new();
    let (token, _) = place.token("laptop").await;
    for claim in claims(&token).as_object().unwrap().keys() {
        let without = place.resigned(&token, |claims| drop(claims.as_object_mut().unwrap().remove(claim)));
        assert!(matches!(place.refused(&without), Refused::Invalid(_)), "without {claim}");
        for wrong in [json!(null), json!([]), json!({"a": 1})] {
            let odd = place.resigned(&token, |claims| claims[claim] = wrong.clone());
            assert!(matches!(place.refused(&odd), Refused::Invalid(_)), "{claim}: {wrong}");
        }
        if claim == "session_id" {
            continue;
        }
        // A right signature is not enough: the row decides.
        let other = place.resigned(&token, |claims| match &claims[claim] {
            Value::Number(n) => claims[claim] = json!(n.as_u64().unwrap() + 1),
            _ => claims[claim] = json!("xyz.other"),
        });
        assert!(matches!(place.refused(&other), Refused::Invalid(_)), "another {claim}");
    }
    let unknown = place.resigned(&token, |claims| claims["session_id"] = json!("nobody"));
    assert_eq!(place.refused(&unknown), Refused::Revoked);
    let huge_exp = place.resigned(&token, |claims| claims["exp"] = json!(u64::MAX));
    assert!(matches!(place.refused(&huge_exp), Refused::Invalid(_)));
}

#[tokio::test]
async fn garbage_and_huge_tokens_are_refused() {
    let place = Place::new();
    let (token, _) = place.token("laptop").await;
    let long = "a".repeat(MAX_TOKEN_BYTES + 1);
    let huge = place.resigned(&token, |claims| claims["more"] = json!("x".repeat(1 << 20)));
    let deep = format!("{}.{}.x", base64url(b"{}"), base64url("[".repeat(2500).as_bytes()));
    for garbage in ["", ".", "..", "...", "eyJ", "a.b.c", "\0\0\0", "ключ.ключ.ключ", &long, &huge, &deep]
    {
        let refused = place.refused(garbage);
        assert!(matches!(refused, Refused::Invalid(_)), "{garbage:.20}: {refused}");
    }
    assert!(place.refused(&huge).to_string().contains("too long"));
}

#[tokio::test]
async fn a_token_ends_to_the_second() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    assert!(place.access.verify(&token, session.expires - 1).is_ok());
    assert_eq!(place.access.verify(&token, session.expires), Err(Refused::Expired));
    assert_eq!(place.access.verify(&token, u64::MAX), Err(Refused::Expired));
}

#[tokio::test]
async fn another_server_or_another_secret_does_not_accept_it() {
    let (one, two) = (Place::new(), Place::new());
    let (token, _) = one.token("laptop").await;
    let refused = two.refused(&token);
    assert!(refused.to_string().contains("another server"), "same secret, other store: {refused}");
    let secret = secret_of("a quite different secret");
    let access = Access::open(one.store.clone(), Arc::new(one.store.clone()), &secret, settings()).unwrap();
    assert!(matches!(access.verify(&token, now()), Err(Refused::Invalid(_))));
}
