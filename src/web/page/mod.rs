//! The pages, as they stand in the program: no build step, nothing from elsewhere.
//!
//! They are the same for everybody; what they show they ask for (`/api`), and get only when the owner is signed in.

use std::io::Write as _;
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY,
};
use hyper::{Response, StatusCode};

use super::answer::Answer;
use crate::types::fingerprint;

/// A file of the pages.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    /// The same, compressed when it is first asked for so: a third of the bytes. No secret is ever in it (BREACH).
    packed: OnceLock<Bytes>,
}

impl File {
    const fn new(name: &'static str, kind: &'static str, text: &'static str) -> Self {
        Self { name, kind, text, packed: OnceLock::new() }
    }

    fn packed(&self) -> Bytes {
        let pack = || {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(self.text.as_bytes()).and_then(|()| gzip.finish()).unwrap_or_default().into()
        };
        self.packed.get_or_init(pack).clone()
    }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

const fn script(name: &'static str, text: &'static str) -> File {
    File::new(name, SCRIPT, text)
}

/// The owner's page.
static HOME: File = File::new("index.html", HTML, include_str!("index.html"));
/// Where she lets an app in.
static CONNECT: File = File::new("connect.html", HTML, include_str!("connect.html"));
/// What both need, at `/page/NAME`.
static FILES: [File; 15] = [
    File::new("icon.svg", IMAGE, include_str!("icon.svg")),
    File::new("page.css", CSS, include_str!("page.css")),
    script("activity.js", include_str!("activity.js")),
    script("api.js", include_str!("api.js")),
    script("apps.js", include_str!("apps.js")),
    script("connect.js", include_str!("connect.js")),
    script("devices.js", include_str!("devices.js")),
    script("documents.js", include_str!("documents.js")),
    script("dom.js", include_str!("dom.js")),
    script("growth.js", include_str!("growth.js")),
    script("live.js", include_str!("live.js")),
    script("page.js", include_str!("page.js")),
    script("sign_in.js", include_str!("sign_in.js")),
    script("status.js", include_str!("status.js")),
    script("words.js", include_str!("words.js")),
];

/// Scripts and styles from here only, no frame around it, forms and requests only to here (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The owner's page.
pub fn home(asked: &HeaderMap) -> Answer {
    let mut answer = serve(&HOME, asked);
    // `curl` gets text at the same path.
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    answer
}

/// The page on which she lets an app in.
pub fn connect(asked: &HeaderMap) -> Answer {
    serve(&CONNECT, asked)
}

/// A file of theirs, if there is one of that name.
pub fn file(name: &str, asked: &HeaderMap) -> Option<Answer> {
    FILES.iter().find(|file| file.name == name).map(|file| serve(file, asked))
}

/// Whether a browser asks, to show what it gets.
pub fn is_wanted(asked: &HeaderMap) -> bool {
    let accept = asked.get(hyper::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// What pages have instead of, or besides, what every answer has (`web/protect.rs`).
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        // Not `no-referrer`: with it some requests of the page itself come from the origin `null`.
        (REFERRER_POLICY, "same-origin"),
        (OPENER, "same-origin"),
        (RESOURCE, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn serve(file: &File, asked: &HeaderMap) -> Answer {
    // Weak: it stands for both encodings.
    let tag = format!("W/\"{}\"", fingerprint(file.text));
    let known =
        asked.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).is_some_and(|tags| tags.contains(&tag));
    let packs = asked.get(ACCEPT_ENCODING).and_then(|takes| takes.to_str().ok()).is_some_and(takes_gzip);
    let packed = if packs && !known { file.packed() } else { Bytes::new() };
    let mut answer = if known {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else if !packed.is_empty() {
        let mut answer = Response::new(Full::new(packed));
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        Response::new(Full::new(Bytes::from_static(file.text.as_bytes())))
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    // Asked for again each time, and not sent again: an upgrade shows at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    protect(headers);
    answer
}

/// Whether `Accept-Encoding` names gzip, and not to refuse it (RFC 9110, 12.5.3).
fn takes_gzip(takes: &str) -> bool {
    takes.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim_matches(['0', '.']).is_empty());
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a page and all that it may load, not compressed. The issue: 60 kB over the wire for the first load.
    const MOST_BYTES: usize = 60_000;

    #[test]
    fn the_pages_stay_small() {
        for (page, anothers) in [(&HOME, "connect.js"), (&CONNECT, "page.js")] {
            let files = FILES.iter().filter(|file| file.name != anothers).chain([page]);
            let bytes: usize = files.map(|file| file.text.len()).sum();
            assert!(bytes < MOST_BYTES, "{}: {bytes} bytes", page.name);
        }
    }

    #[test]
    fn every_file_that_a_page_names_is_there() {
        let texts = FILES.iter().chain([&HOME, &CONNECT]).map(|file| file.text);
        let named =
            texts.flat_map(|text| text.split("/page/").skip(1).chain(text.split("from \"./").skip(1)));
        for rest in named {
            let name = rest.split(['"', '>', ' ']).next().unwrap_or_default();
            assert!(FILES.iter().any(|file| file.name == name), "{name:?}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (takes, gzip) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, GZIP;q=0.8", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(takes), gzip, "{takes}");
        }
        let mut back = String::new();
        let packed = HOME.packed();
        std::io::Read::read_to_string(&mut flate2::bufread::GzDecoder::new(&packed[..]), &mut back).unwrap();
        assert_eq!(back, HOME.text);
    }
}
