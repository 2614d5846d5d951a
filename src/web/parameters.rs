//! Parameters of OAuth requests, in a query or a form (RFC 6749, 3.1 and 3.2).

use url::form_urlencoded;

/// A parameter that is not there as it has to be.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// It has to be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Several of this name.
    #[error("{0} is there more than once")]
    Twice(&'static str),
}

/// Names and values, decoded.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Any bytes make some.
    pub fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// A parameter that may be missing; an empty one is.
    ///
    /// # Errors
    /// There are several of this name.
    pub fn get(&self, name: &'static str) -> Result<Option<&str>, ParameterError> {
        let mut values = self.0.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let value = values.next().filter(|value| !value.is_empty());
        if values.next().is_some() { Err(ParameterError::Twice(name)) } else { Ok(value) }
    }

    /// A parameter that has to be there.
    ///
    /// # Errors
    /// It is missing, empty, or there more than once.
    pub fn need(&self, name: &'static str) -> Result<&str, ParameterError> {
        self.get(name)?.ok_or(ParameterError::Missing(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_name_counts_and_an_empty_one_is_none() {
        let all = Parameters::parse(b"a=1+2%26&b=&c=1&c=1&d=&d=1");
        assert_eq!(
            (all.need("a").unwrap(), all.get("b").unwrap(), all.get("z").unwrap()),
            ("1 2&", None, None)
        );
        for (name, said) in [
            ("b", "b is missing"),
            ("z", "z is missing"),
            ("c", "c is there more than once"),
            ("d", "d is there more than once"),
        ] {
            assert_eq!(all.need(name).unwrap_err().to_string(), said);
        }
    }
}
