//! A new signing secret: what ends, what stays, and what is there when it is cut off.

use groundmist_sync::access::{AccessError, App, Decision, SigningSecret};
use groundmist_sync::directory::Directory;
use groundmist_sync::store::{CommitError, CommitFuture};

use crate::*;

/// A server's access with a secret of its own, as at its start.
struct Home {
    store: Arc<Store>,
    access: Arc<Access>,
    secret: Arc<SigningSecret>,
}

impl Home {
    fn begin(dir: &TempDir) -> Self {
        Self::begin_with(dir, |store| Arc::new(store))
    }

    fn begin_with(dir: &TempDir, commit: impl FnOnce(Arc<Store>) -> Arc<dyn Commit>) -> Self {
        let store = open(dir);
        let directory = Arc::new(Directory::open(dir.path()).unwrap());
        secret::adopt(&store, &directory).unwrap();
        let loaded = secret::load_or_create(&config(dir.path(), None), &directory).unwrap();
        let secret = SigningSecret::new(loaded, Some(directory));
        let access = Access::open(store.clone(), commit(store.clone()), &secret.now(), settings()).unwrap();
        Self { store, access, secret }
    }

    async fn token(&self, name: &str) -> String {
        self.access.create(wanted(name)).await.unwrap().0
    }

    fn is_good(&self, token: &str) -> bool {
        self.access.verify(token, now()).is_ok()
    }

    /// What a killed process leaves to the next one, if it does not write any more.
    fn waits_in_store(&self) -> bool {
        self.store.record(RecordKind::Pin, b"new_secret").unwrap().is_some()
    }
}

fn app() -> App {
    App {
        client_id: "https://app.example/client-metadata.json".into(),
        namespace: "xyz.example".parse().unwrap(),
    }
}

#[tokio::test]
async fn every_session_ends_and_every_approval_stays() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::begin(&dir);
    home.access.decide(&app(), Decision::ReadOnly).await.unwrap();
    let (old, before) = (home.token("laptop").await, home.secret.now().clone());
    let mut lease = home.access.admit(&old).unwrap();
    let rotated = home.access.rotate_secret(&home.secret).await.unwrap();
    assert_eq!((rotated.sessions, rotated.tokens), (0, 1));
    assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Revoked);
    drop(lease);
    assert!(matches!(home.access.verify(&old, now()), Err(Refused::Invalid(_))), "its signature is not ours");
    assert!(home.access.sessions().is_empty() && *home.secret.now() != before);
    let new = home.token("laptop").await;
    drop(home);

    let home = Home::begin(&dir);
    assert!(home.is_good(&new) && !home.is_good(&old) && !home.waits_in_store());
    assert_eq!(home.access.decision(&app()), Some(Decision::ReadOnly));
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let secrets = names.iter().filter(|name| name.to_string_lossy().starts_with("secret"));
    assert_eq!(secrets.count(), 1, "the old one is kept nowhere: {names:?}");
}

#[tokio::test]
async fn a_row_that_is_there_again_does_not_make_an_old_token_good() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::begin(&dir);
    let (old, session) = home.access.create(wanted("laptop")).await.unwrap();
    let row = home.store.record(RecordKind::Session, session.id.as_bytes()).unwrap();
    home.access.rotate_secret(&home.secret).await.unwrap();
    write_row(&home.store, &session.id, row);
    drop(home);
    let home = Home::begin(&dir);
    assert_eq!(home.access.sessions().len(), 1);
    assert!(!home.is_good(&old), "whoever has the old secret could have signed it");
}

/// A store that takes so many commits, and no more.
struct Takes(Arc<Store>, std::sync::atomic::AtomicUsize);

impl Commit for Takes {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture {
        use std::sync::atomic::Ordering::SeqCst;
        if self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return self.0.make_durable(ops);
        }
        let full = CommitError::Full { operation: "commit", object: "the store".into() };
        Box::pin(std::future::ready(Err(full)))
    }
}

#[tokio::test]
async fn cut_off_anywhere_there_is_the_old_secret_or_the_new_one_with_what_belongs_to_it() {
    // The session's own commit, the change, and taking the secret out of the store again.
    for commits in 1..=3 {
        for file_works in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::begin_with(&dir, |store| Arc::new(Takes(store, commits.into())));
            let (old, file) = (home.token("laptop").await, dir.path().join(secret::SECRET_FILE));
            let before = std::fs::read(&file).unwrap();
            // Where the new file is written first.
            let beside = dir.path().join("secret.key.new");
            if !file_works {
                std::fs::create_dir(&beside).unwrap();
            }
            let rotated = home.access.rotate_secret(&home.secret).await;
            assert_eq!(rotated.is_ok(), commits > 1, "{rotated:?}");
            let said = rotated.is_ok_and(|rotated| rotated.not_in_file.is_some());
            assert_eq!(said, commits > 1 && !file_works, "{commits}");
            assert_eq!(home.is_good(&old), commits == 1);
            assert_eq!(home.waits_in_store(), commits == 2 || (commits == 3 && !file_works));
            assert_eq!(std::fs::read(&file).unwrap() == before, commits == 1 || !file_works);
            drop(home);
            if !file_works {
                std::fs::remove_dir(&beside).unwrap();
            }
            for _ in 0..2 {
                let home = Home::begin(&dir);
                assert_eq!(home.is_good(&old), commits == 1, "{commits} {file_works}");
                assert_eq!(home.access.sessions().is_empty(), commits > 1);
                assert!(!home.waits_in_store());
                assert_eq!(std::fs::read(&file).unwrap() == before, commits == 1);
            }
        }
    }
}

/// Whoever is given a token meanwhile can use it, or its session is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_given_out_with_the_old_secret_and_a_session_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::begin(&dir);
    let entries: Vec<_> = (0..20)
        .map(|number| {
            let access = home.access.clone();
            tokio::spawn(async move { access.create(wanted(&format!("device {number}"))).await })
        })
        .collect();
    home.access.rotate_secret(&home.secret).await.unwrap();
    let mut good = 0;
    for entry in entries {
        match entry.await.unwrap() {
            Ok((token, _)) => good += usize::from(home.is_good(&token)),
            Err(error) => assert!(matches!(error, AccessError::RevokedMeanwhile), "{error}"),
        }
    }
    assert_eq!(home.access.sessions().len(), good);
}

#[tokio::test]
async fn a_configured_secret_is_changed_where_it_is_configured() {
    let place = Place::new();
    let (token, _) = place.token("laptop").await;
    let configured = SigningSecret::new(secret_of(SECRET), None);
    let error = place.access.rotate_secret(&configured).await.unwrap_err();
    assert_eq!(error.code(), "secret_configured");
    assert!(error.to_string().contains("restart the server") && place.access.verify(&token, now()).is_ok());
}
