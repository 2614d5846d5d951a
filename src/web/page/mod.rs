//! The pages, as they stand in the program: no build step, nothing from elsewhere.
//!
//! They are the same for everybody; what they show they ask for (`/api`), and get only when the owner is signed in.

mod bundle;

use std::io::Write as _;
use std::sync::LazyLock;

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
use bundle::{Module, bundle};

/// A file of the pages.
struct File {
    name: &'static str,
    kind: &'static str,
    text: LazyLock<Text>,
}

/// What a file says, made when it is first asked for.
struct Text {
    plain: Bytes,
    /// The same, compressed: a third of the bytes. No secret is ever in it (BREACH).
    packed: Bytes,
    /// Weak: it stands for both.
    tag: String,
}

impl Text {
    fn new(text: impl AsRef<str> + Into<Bytes>) -> Self {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let packed =
            gzip.write_all(text.as_ref().as_bytes()).and_then(|()| gzip.finish()).unwrap_or_default();
        let tag = format!("W/\"{}\"", fingerprint(text.as_ref()));
        Self { plain: text.into(), packed: packed.into(), tag }
    }
}

impl File {
    const fn new(name: &'static str, kind: &'static str, text: fn() -> Text) -> Self {
        Self { name, kind, text: LazyLock::new(text) }
    }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! text {
    ($name:literal) => {
        || Text::new(include_str!($name))
    };
}

macro_rules! modules {
    ($($name:literal)*) => {
        [$(($name, include_str!($name))),*]
    };
}

/// The owner's page.
static HOME: File = File::new("index.html", HTML, text!("index.html"));
/// Where she lets an app in.
static CONNECT: File = File::new("connect.html", HTML, text!("connect.html"));
/// Where a link leads that was made on the machine: a form, without a script.
static LINK: File = File::new("link.html", HTML, text!("link.html"));
/// Their scripts, each module after those that it imports.
const HOME_MODULES: [Module; 12] = modules!["api.js" "dom.js" "words.js" "sign_in.js" "live.js" "status.js" "apps.js" "devices.js" "growth.js" "documents.js" "activity.js" "page.js"];
const CONNECT_MODULES: [Module; 5] = modules!["api.js" "dom.js" "words.js" "sign_in.js" "connect.js"];
/// What they need, at `/page/NAME`.
static FILES: [File; 4] = [
    File::new("icon.svg", IMAGE, text!("icon.svg")),
    File::new("page.css", CSS, text!("page.css")),
    File::new("page.js", SCRIPT, || Text::new(bundle(&HOME_MODULES))),
    File::new("connect.js", SCRIPT, || Text::new(bundle(&CONNECT_MODULES))),
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

/// The page of a link that signs in once.
pub fn link(asked: &HeaderMap) -> Answer {
    serve(&LINK, asked)
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
    let Text { plain, packed, tag } = &*file.text;
    let known =
        asked.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).is_some_and(|tags| tags.contains(tag));
    let packs = asked.get(ACCEPT_ENCODING).and_then(|takes| takes.to_str().ok()).is_some_and(takes_gzip);
    let mut answer = if known {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else if packs && !packed.is_empty() {
        let mut answer = Response::new(Full::new(packed.clone()));
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer
    } else {
        Response::new(Full::new(plain.clone()))
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
            let bytes: usize = files.map(|file| file.text.plain.len()).sum();
            assert!(bytes < MOST_BYTES, "{}: {bytes} bytes", page.name);
        }
    }

    fn text(file: &File) -> &str {
        str::from_utf8(&file.text.plain).unwrap()
    }

    #[test]
    fn every_file_that_a_page_names_is_there() {
        for page in [&HOME, &CONNECT, &LINK] {
            for rest in text(page).split("/page/").skip(1) {
                let name = rest.split(['"', '>', ' ']).next().unwrap_or_default();
                assert!(FILES.iter().any(|file| file.name == name), "{name:?}");
            }
        }
    }

    #[test]
    fn every_module_comes_after_those_that_it_imports() {
        for modules in [&HOME_MODULES[..], &CONNECT_MODULES] {
            for (at, (name, text)) in modules.iter().enumerate() {
                for rest in text.split("from \"./").skip(1) {
                    let imported = rest.split('"').next().unwrap_or_default();
                    assert!(
                        modules[..at].iter().any(|(before, _)| *before == imported),
                        "{name}: {imported}"
                    );
                }
            }
            let script = bundle(modules);
            let left = script.lines().find(|line| line.starts_with("import ") || line.starts_with("export "));
            assert_eq!(left, None, "the bundle understands it");
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
        let packed = &HOME.text.packed;
        std::io::Read::read_to_string(&mut flate2::bufread::GzDecoder::new(&packed[..]), &mut back).unwrap();
        assert_eq!(back, text(&HOME));
    }
}
