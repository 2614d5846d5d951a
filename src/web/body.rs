//! Takes in a request's body, bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Body;
use serde::de::DeserializeOwned;

use super::parameters::Parameters;

/// Largest body in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Bytes of a body too large that are taken from the line all the same: closing with some unread resets the connection,
/// and the answer with it.
const MAX_DRAINED_BYTES: usize = 1024 * 1024;
/// Longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Longest that a large body may pause.
const PAUSE_TIME: Duration = Duration::from_secs(60);

/// Why a body is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Larger than this many bytes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Cut off, or too slow.
    #[error("the body did not arrive: send it again")]
    Missing,
    /// Not the JSON that is wanted here.
    #[error("the body cannot be used: {0}")]
    Json(serde_json::Error),
}

impl BodyError {
    /// Status and `error` code of the answer.
    pub fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::Missing => (StatusCode::REQUEST_TIMEOUT, "no_body"),
            Self::Json(_) => (StatusCode::BAD_REQUEST, "bad_body"),
        }
    }
}

/// The body as a JSON object.
/// # Errors
/// It is too large, did not come in time, or is something else.
pub async fn read_json<T: DeserializeOwned, B>(body: B) -> Result<T, BodyError>
where
    B: Body<Data = Bytes>,
{
    object(&in_time(body).await?).map_err(BodyError::Json)
}

/// serde would also take a list for a struct, field by field.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(bytes),
        _ => Err(serde::de::Error::custom("it is not a JSON object")),
    }
}

/// The body as a form (`application/x-www-form-urlencoded`): names and values as they come, any bytes make some.
/// # Errors
/// It is too large, or did not come in time.
pub async fn read_form<B>(body: B) -> Result<Parameters, BodyError>
where
    B: Body<Data = Bytes>,
{
    Ok(Parameters::parse(&in_time(body).await?))
}

async fn in_time<B: Body<Data = Bytes>>(body: B) -> Result<Vec<u8>, BodyError> {
    tokio::time::timeout(BODY_TIME, whole(body)).await.unwrap_or(Err(BodyError::Missing))
}

/// A large body, of at most `limit` bytes.
/// # Errors
/// It is larger, or it stopped coming.
pub async fn read_bytes<B>(body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let announced = body.size_hint().lower().try_into().unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge(limit));
    }
    let mut bytes = Vec::with_capacity(announced);
    loop {
        let Ok(frame) = tokio::time::timeout(PAUSE_TIME, body.frame()).await else {
            return Err(BodyError::Missing);
        };
        let Some(frame) = frame else { return Ok(bytes.into()) };
        let Ok(data) = frame.map_err(|_| BodyError::Missing)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        bytes.extend_from_slice(&data);
    }
}

async fn whole<B>(body: B) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    let (mut bytes, mut came) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Missing)?.into_data() else { continue };
        came += data.len();
        if came > MAX_DRAINED_BYTES {
            break;
        }
        if came <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&data);
        }
    }
    if came > MAX_BODY_BYTES { Err(BodyError::TooLarge(MAX_BODY_BYTES)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Named {
        name: String,
    }

    #[test]
    fn only_an_object_is_taken_for_a_struct() {
        let named = object::<Named>(b" \n{\"name\": \"a\"}\n").unwrap();
        assert_eq!(named, Named { name: "a".into() });
        for bad in [
            &br#"["a"]"#[..],
            b"null",
            b"",
            b" ",
            b"{",
            b"\xef\xbb\xbf{\"name\":\"a\"}",
            br#"{"name":"a"} x"#,
        ] {
            assert!(object::<Named>(bad).is_err(), "{bad:?}");
        }
    }
}
