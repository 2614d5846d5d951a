//! Tokens and secrets are never shown.

use std::io;
use std::sync::Mutex;

use groundmist_sync::telemetry;
use groundmist_sync::types::LogLevel;
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::*;

#[test]
fn nothing_that_is_logged_or_shown_holds_a_token_or_secret() {
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Buffer::default();
    let writer = {
        let log = log.clone();
        move || log.clone()
    };
    let subscriber = tracing_subscriber::registry()
        .with(telemetry::filter(LogLevel::Trace))
        .with(telemetry::text(writer, false));
    let mut shown = String::new();
    let token = tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Place::new();
            let (token, session) = place.token("laptop").await;
            let lease = place.access.admit(&token).unwrap();
            shown += &format!("{lease:?} {session:?}");
            for bad in
                [format!("{token}x"), "a".repeat(5000), place.resigned(&token, |c| c["did"] = json!("x"))]
            {
                let refused = place.refused(&bad);
                shown += &format!("{refused} {refused:?} {} {}", refused.code(), refused.close_reason());
            }
            drop(lease);
            write_row(&place.store, &session.id, Some(b"{".to_vec()));
            let place = place.restart();
            shown += &format!("{:?}", place.access.verify(&token, now()));
            shown += &format!("{:?}", place.access.sessions());
            shown += &format!("{:?}", config(place.dir.path(), Some(SECRET)));
            place.access.revoke(&session.id).await.unwrap();
            token
        })
    });
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("a session row cannot be read"), "the log was heard: {logged}");
    for part in token.split('.').map(|part| &part[..20]).chain([SECRET]) {
        assert!(!logged.contains(part) && !shown.contains(part), "{part} in {logged} or {shown}");
    }
}
