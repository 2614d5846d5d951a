//! The threads on which apps are let in: checking an app's two signatures takes up to a millisecond, which nobody who
//! is connected should wait for.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Most threads.
const MAX_THREADS: usize = 4;

/// A runtime of their own, with a thread for each processor.
pub struct DoorWorkers(Option<Runtime>);

impl DoorWorkers {
    /// Starts the threads.
    /// # Errors
    /// The system has no threads left.
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores.min(MAX_THREADS))
            .max_blocking_threads(1)
            .thread_name("door")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs work there until it is done or this future is dropped; `None` if it did not come to its end.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut one = JoinSet::new();
        one.spawn_on(work, self.0.as_ref()?.handle());
        one.join_next().await?.ok()
    }
}

impl Drop for DoorWorkers {
    /// The last connection may go within a runtime, where waiting for another one to end is not allowed.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_runs_elsewhere_and_ends_with_who_waits() {
        let workers = DoorWorkers::start().unwrap();
        assert_eq!(
            workers.run(async { current().name().map(str::to_owned) }).await.unwrap().unwrap(),
            "door"
        );
        assert_eq!(workers.run(async { panic!("a bug") }).await, None::<()>);
        let (alive, gone) = oneshot::channel::<()>();
        let endless = workers.run(async move {
            let _alive = alive;
            std::future::pending::<()>().await
        });
        let waited = tokio::time::timeout(std::time::Duration::from_millis(10), endless).await;
        assert!(waited.is_err());
        assert!(gone.await.is_err(), "it was stopped and dropped");
        drop(workers);
    }
}
