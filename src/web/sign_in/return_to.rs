//! Where the owner goes when she has signed in: a place on our own page, and nowhere else (open redirect).

use serde::Deserialize;

use crate::web::connect::MAX_QUERY_BYTES;

/// What stands before what an app asks for.
const CONNECT: &str = "/connect?";
/// Longest such place in bytes.
const MAX_RETURN_TO_BYTES: usize = CONNECT.len() + MAX_QUERY_BYTES;

/// `/`, or `/connect?…`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ReturnTo(String);

impl ReturnTo {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ReturnTo {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Browsers read a backslash as a slash, and leave out tabs and line breaks.
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\\#".contains(&b));
        let ours = text == "/" || text.starts_with(CONNECT);
        match plain && ours && text.len() <= MAX_RETURN_TO_BYTES {
            true => Ok(Self(text)),
            false => Err("return_to is neither / nor /connect?…, percent-encoded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn she_comes_back_to_our_own_page_only() {
        let long = format!("{CONNECT}{}", "a".repeat(MAX_QUERY_BYTES + 1));
        for good in
            ["/", "/connect?client_id=https%3A%2F%2Fapp.example%2F&scope=sync:a.b", &long[..long.len() - 1]]
        {
            assert_eq!(ReturnTo::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/ ",
            " /",
            "/?a",
            "/connect",
            "/connect/../..//evil.example",
            "connect?a",
            "/connect?a\r\nSet-Cookie: a=b",
            "/connect?a#b",
            "/connect?é",
            "/connect?\\",
            "javascript:alert(1)",
            &long,
        ] {
            assert!(ReturnTo::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
