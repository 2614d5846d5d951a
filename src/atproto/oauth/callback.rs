//! What the browser brings back from the authorization server (RFC 6749, 4.1.2; RFC 9207).

use url::form_urlencoded;

use super::OauthError;

/// Longest code in bytes; the reference server's have 68.
const MAX_CODE_BYTES: usize = 2048;

/// Parameters of the callback, each once. Secrets: no `Debug`.
pub struct Callback {
    state: String,
    iss: Option<String>,
    outcome: Outcome,
}

enum Outcome {
    Code(String),
    Error(String),
}

impl Callback {
    /// Reads a query. What is none of ours is ignored.
    ///
    /// # Errors
    /// It is no answer of an authorization server: a parameter is missing, or there twice.
    pub fn parse(query: &str) -> Result<Self, OauthError> {
        let (mut state, mut iss, mut code, mut error) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*name {
                "state" => &mut state,
                "iss" => &mut iss,
                "code" => &mut code,
                "error" => &mut error,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(OauthError::Callback("a parameter is there twice"));
            }
        }
        let outcome = match (code, error) {
            (Some(code), None) if (1..=MAX_CODE_BYTES).contains(&code.len()) => Outcome::Code(code),
            (None, Some(error)) => Outcome::Error(error),
            _ => return Err(OauthError::Callback("it has no code and no error, or both")),
        };
        let state = state.ok_or(OauthError::Callback("it has no state"))?;
        Ok(Self { state, iss, outcome })
    }

    /// Which sign-in it says to belong to.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// The code, if the answer is that of `issuer`. That is looked at first: whoever else sends it, for a code or an
    /// error, must not be heard (mix-up, RFC 9207).
    pub(super) fn code(self, issuer: &str) -> Result<String, OauthError> {
        if self.iss.as_deref() != Some(issuer) {
            return Err(OauthError::Callback("its iss is not the authorization server that was asked"));
        }
        match self.outcome {
            Outcome::Code(code) => Ok(code),
            Outcome::Error(error) if error == "access_denied" => Err(OauthError::Denied),
            Outcome::Error(error) => Err(OauthError::Said(printable(&error))),
        }
    }
}

/// An error code as the log may show it.
fn printable(error: &str) -> String {
    error.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://pds.example";
    const ISS: &str = "iss=https%3A%2F%2Fpds.example";

    fn code(query: &str) -> Result<String, OauthError> {
        Callback::parse(query)?.code(ISSUER)
    }

    #[test]
    fn the_code_of_the_issuer_counts() {
        let query = format!("{ISS}&state=s%20t&code=cod-1&unknown=1&unknown=2");
        assert_eq!(Callback::parse(&query).unwrap().state(), "s t");
        assert_eq!(code(&query).unwrap(), "cod-1");
    }

    #[test]
    fn nobody_else_is_heard() {
        for iss in
            ["", "iss=", "iss=https://pds.example/", "iss=https://evil.example", "iss=HTTPS://pds.example"]
        {
            for outcome in ["code=c", "error=access_denied"] {
                let refused = code(&format!("state=s&{outcome}&{iss}"));
                assert!(matches!(refused, Err(OauthError::Callback(_))), "{iss} {outcome}");
            }
        }
    }

    #[test]
    fn a_parameter_is_there_once_and_a_code_or_an_error() {
        for bad in [
            "",
            "code=c",
            "state=s",
            "state=s&code=",
            "state=s&code=c&code=c",
            "state=s&state=s&code=c",
            "state=s&code=c&error=access_denied",
            "state=s&code=c&iss=a&iss=b",
            &format!("state=s&code={}", "c".repeat(MAX_CODE_BYTES + 1)),
        ] {
            assert!(matches!(code(&format!("{bad}&{ISS}")), Err(OauthError::Callback(_))), "{bad:.40}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(code(&format!("{ISS}&state=s&error=access_denied")), Err(OauthError::Denied));
        let odd = code(&format!("{ISS}&state=s&error=server%0aerror%1b[1m"));
        assert_eq!(odd, Err(OauthError::Said("servererror[1m".into())));
    }
}
