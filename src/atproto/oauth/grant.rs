//! What a token answer must say (RFC 6749, 5.1; atproto OAuth spec, "Access Tokens").

use crate::types::Did;

use super::OauthError;
use crate::atproto::repo::Hidden;
use crate::atproto::xrpc::Said;

/// Longest access token in bytes.
const MAX_TOKEN_BYTES: usize = 8192;

/// The token in an answer, which has to be given back whatever else the answer says.
pub(super) fn token(said: &Said) -> Result<Hidden, OauthError> {
    let token = said.text("access_token")?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(OauthError::Grant("its access token is too long"));
    }
    Ok(Hidden::new(token.to_owned()))
}

/// Whether the answer is for `owner`, for all of `scope`, and its token bound to our key.
pub(super) fn check(said: &Said, owner: &Did, scope: &str) -> Result<(), OauthError> {
    if !said.text("token_type")?.eq_ignore_ascii_case("DPoP") {
        return Err(OauthError::Grant("its token_type is not DPoP"));
    }
    let sub: Did = said.text("sub")?.parse().map_err(|_| OauthError::Grant("its sub is not a DID"))?;
    if sub != *owner {
        return Err(OauthError::NotOwner(sub));
    }
    let granted = said.text("scope")?;
    match scope.split(' ').all(|asked| granted.split(' ').any(|given| given == asked)) {
        true => Ok(()),
        false => Err(OauthError::Grant("its scope is less than what was asked for")),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::atproto::testing::with;

    const SCOPE: &str = "atproto repo:xyz.groundmist.sync";

    fn checked(body: Value) -> Result<(), OauthError> {
        let call = "https://pds.example/oauth/token".into();
        let said = Said { call, status: StatusCode::OK, headers: Default::default(), body };
        token(&said)?;
        check(&said, &"did:web:ada.example".parse().unwrap(), SCOPE)
    }

    #[test]
    fn only_the_owners_whole_grant_counts() {
        let good = json!({ "access_token": "a.b.c", "token_type": "DPoP", "sub": "did:web:ada.example",
            "scope": "atproto repo:xyz.groundmist.sync", "expires_in": 3600, "refresh_token": "r" });
        assert_eq!(checked(good.clone()), Ok(()));
        assert_eq!(checked(with(&good, &json!({ "scope": format!("account:email {SCOPE}") }))), Ok(()));
        let stranger = "did:web:eve.example".parse().unwrap();
        assert_eq!(
            checked(with(&good, &json!({ "sub": "did:web:eve.example" }))),
            Err(OauthError::NotOwner(stranger))
        );
        for changes in [
            json!({ "access_token": null }),
            json!({ "access_token": 7 }),
            json!({ "access_token": "a".repeat(MAX_TOKEN_BYTES + 1) }),
            json!({ "token_type": "Bearer" }),
            json!({ "token_type": null }),
            json!({ "sub": null }),
            json!({ "sub": "ada.example" }),
            json!({ "sub": ["did:web:ada.example"] }),
            json!({ "scope": null }),
            json!({ "scope": "atproto" }),
            json!({ "scope": "repo:xyz.groundmist.sync" }),
            json!({ "scope": "atprotorepo:xyz.groundmist.sync" }),
        ] {
            let refused = checked(with(&good, &changes)).unwrap_err();
            assert_eq!(refused.code(), "bad_answer", "{changes:.60}");
        }
        assert_eq!(checked(Value::Null).unwrap_err().code(), "bad_answer");
    }
}
