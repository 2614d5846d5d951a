//! Lets `groundmist-sync --version` say which commit the binary is of, and what it is linked with.
//!
//! The commit is `GROUNDMIST_COMMIT` (for a source tree without `.git`), else the clone's, else "unknown". It is dirty when
//! what is compiled differs from it; Cargo asks again only when that can have changed.

use std::env;
use std::path::Path;
use std::process::Command;

/// What the binary is made of.
const SOURCES: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];
/// What moves with the commit, as `git rev-parse --git-path` names it, besides the branch itself.
const GIT_FILES: [&str; 3] = ["HEAD", "logs/HEAD", "packed-refs"];
/// Hexadecimal digits of a commit that are told.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-env-changed=GROUNDMIST_COMMIT");
    for path in SOURCES {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = named().or_else(of_clone).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=GROUNDMIST_BUILD={commit}, {}, {}", target("ARCH"), libc());
}

fn target(what: &str) -> String {
    env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default()
}

fn libc() -> String {
    let is_static = target("FEATURE").split(',').any(|feature| feature == "crt-static");
    let name = match target("ENV").as_str() {
        "gnu" => "glibc".into(),
        other => other.to_owned(),
    };
    if is_static { format!("static {name}") } else { name }
}

/// The commit in the environment.
fn named() -> Option<String> {
    let given = env::var("GROUNDMIST_COMMIT").ok().filter(|given| !given.is_empty())?;
    let (hash, dirty) = given.strip_suffix("-dirty").map_or((given.as_str(), ""), |hash| (hash, "-dirty"));
    let is_hash = hash.len() >= DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash, "GROUNDMIST_COMMIT has to be a commit's hash, {DIGITS} or more hexadecimal digits");
    Some(format!("{}{dirty}", &hash[..DIGITS]))
}

/// The commit of the clone that this is, and not of one that this merely lies in.
fn of_clone() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()?;
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?) != root {
        return None;
    }
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]);
    for name in GIT_FILES.into_iter().chain(branch.as_deref()) {
        // Cargo takes a file that is not there for one that has changed.
        if let Some(file) = git(&["rev-parse", "--git-path", name]).filter(|file| Path::new(file).exists()) {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let hash = git(&["rev-parse", &format!("--short={DIGITS}"), "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--untracked-files=no", "--"], &SOURCES[..]].concat())?;
    Some(format!("{hash}{}", if changed.is_empty() { "" } else { "-dirty" }))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
