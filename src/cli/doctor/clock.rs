//! Whether this machine's clock is right: proofs from apps carry a time, and are refused when it is not now.

use std::time::{Duration, SystemTime};

use url::Url;

use super::{Context, Finding};
use crate::atproto::pds::server_time;

const CHECK: &str = "clock";
/// Most that the clock may differ; apps' own clocks need the rest of the time that a proof is good for.
const MAX_SKEW: Duration = Duration::from_secs(60);

pub(super) async fn check(context: &Context<'_>, pds: Option<&Url>) -> Finding {
    let Some(pds) = pds else { return Finding::skipped(CHECK, "there is no PDS to compare it with") };
    let asked = SystemTime::now();
    match server_time(&context.http, pds).await {
        Ok(Some(theirs)) => compare(asked, theirs, SystemTime::now()),
        Ok(None) => Finding::skipped(CHECK, "the PDS does not say what time it is"),
        Err(error) => Finding::skipped(CHECK, &error.to_string()),
    }
}

/// `theirs` was said at some moment from `asked` to `answered`.
fn compare(asked: SystemTime, theirs: SystemTime, answered: SystemTime) -> Finding {
    let late = |one: SystemTime, other: SystemTime| one.duration_since(other).unwrap_or_default();
    let (behind, ahead) = (late(theirs, answered), late(asked, theirs));
    let (skew, word) = if behind > ahead { (behind, "behind") } else { (ahead, "ahead of") };
    if skew <= MAX_SKEW {
        return Finding::ok(CHECK, "it agrees with the PDS's");
    }
    let found = format!(
        "it is {} s {word} the PDS's: what apps prove is refused as too old or too new",
        skew.as_secs()
    );
    Finding::failure(CHECK, found, "have it set by the network: timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Outcome;

    #[test]
    fn a_minute_is_the_most() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        for (asked, theirs, answered, outcome, part) in [
            (100, 100, 100, Outcome::Ok, "agrees"),
            (100, 40, 100, Outcome::Ok, "agrees"),
            (100, 160, 100, Outcome::Ok, "agrees"),
            (100, 165, 108, Outcome::Ok, "agrees"),
            (100, 39, 100, Outcome::Failure, "61 s ahead of"),
            (100, 7300, 100, Outcome::Failure, "7200 s behind"),
        ] {
            let finding = compare(at(asked), at(theirs), at(answered));
            assert!(finding.outcome == outcome && finding.found.contains(part), "{theirs}: {finding:?}");
        }
    }
}
