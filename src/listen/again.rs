//! Work that the server can do without for a while: begun anew when it ended in a panic.

use std::time::Duration;

/// From a panic to the next beginning: what is wrong may be wrong again at once.
pub const AFTER_PANIC: Duration = Duration::from_secs(600);

/// Runs what `begin` begins until it ends; again [`AFTER_PANIC`] after it panicked, which the log has told by then.
pub async fn again<F>(what: &str, mut begin: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    // A task of its own takes what it was working on with it, so nothing half done is used again.
    while tokio::spawn(begin()).await.is_err_and(|ended| ended.is_panic()) {
        let minutes = AFTER_PANIC.as_secs() / 60;
        tracing::error!("{what} failed by a fault of this program; it is begun again in {minutes} minutes");
        tokio::time::sleep(AFTER_PANIC).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panicked_is_begun_again_and_what_ended_is_not() {
        let (mut begun, start) = (0, tokio::time::Instant::now());
        again("the work", || {
            begun += 1;
            let panics = begun < 3;
            async move { assert!(!panics, "a fault") }
        })
        .await;
        assert_eq!((begun, start.elapsed() >= 2 * AFTER_PANIC), (3, true));
    }
}
