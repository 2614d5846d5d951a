//! The rules for every request: where it may go, and what may come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use groundmist_sync::net::{Http, HttpError, HttpOptions, Kind};
use tokio::io::AsyncReadExt as _;
use url::Url;

use crate::dns::DnsServer;
use crate::world::{Reply, World, ok, status};

const LIMIT: usize = 10_000;

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

async fn get(http: &Http, text: &str) -> Result<String, HttpError> {
    let body = http.get(Kind::Identity, &url(text), LIMIT).await?;
    Ok(String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn an_answer_comes_over_tls_and_says_who_asks() {
    let world = World::new(|asked| ok(&asked.line)).await;
    let http = world.http();
    for _ in 0..3 {
        assert_eq!(get(&http, "https://pds.internal/a?b=c").await.unwrap(), "GET pds.internal /a?b=c");
    }
    assert_eq!(world.open.load(Ordering::SeqCst), 1, "a connection is used again");
    let asked = world.last();
    assert!(asked.headers["user-agent"].starts_with("groundmist-sync/"));
    for header in ["referer", "cookie", "accept-encoding"] {
        assert!(!asked.headers.contains_key(header), "{header}");
    }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_of_the_name() {
    let world = World::new(|_| ok("secret")).await;
    let without = Http::new(&HttpOptions { ca_file: None, ..world.options.clone() }).unwrap();
    let error = get(&without, "https://pds.internal/").await.unwrap_err();
    assert!(
        matches!(&error, HttpError::Unreachable { reason, .. } if reason.contains("UnknownIssuer")),
        "{error}"
    );
    let mut options = world.options.clone();
    options.hosts.insert(&format!("other.internal={}", world.server)).unwrap();
    let error = get(&Http::new(&options).unwrap(), "https://other.internal/").await.unwrap_err();
    assert!(
        matches!(&error, HttpError::Unreachable { reason, .. } if reason.contains("not valid for name")),
        "{error}"
    );
    assert!(world.lines().is_empty());

    let empty = tempfile::NamedTempFile::new().unwrap();
    for path in [empty.path(), "/nonexistent/ca.pem".as_ref()] {
        let options = HttpOptions { ca_file: Some(path.into()), ..HttpOptions::default() };
        let error = Http::new(&options).err().unwrap().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("identity.ca_file"), "{error}");
    }
}

#[tokio::test]
async fn literal_addresses_are_judged_like_resolved_ones() {
    // Listens, so that a request that got through would not merely fail.
    let world = World::new(|_| ok("secret")).await;
    let http = world.http();
    let port = world.server.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
    ] {
        let error = get(&http, &format!("https://{host}:{port}/")).await.unwrap_err();
        assert!(matches!(error, HttpError::Private { .. }), "{host}: {error}");
        let plain = get(&http, &format!("http://{host}:{port}/")).await.unwrap_err();
        assert!(matches!(plain, HttpError::Url { .. }), "{host}: {plain}");
    }
    for bad in [
        "http://pds.internal/",
        "https://user@pds.internal/",
        "https://:hunter2@pds.internal/",
        "ftp://pds.internal/",
        "file:///etc/passwd",
        "data:text/plain,x",
        &format!("https://pds.internal/{}", "x".repeat(2048)),
    ] {
        let error = get(&http, bad).await.unwrap_err();
        assert!(matches!(error, HttpError::Url { .. }), "{bad}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert_eq!((world.lines().len(), world.open.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused() {
    let world = World::new(|_| ok("secret")).await;
    let dns = DnsServer::new(&[
        ("a.wild.internal", &["127.0.0.1"]),
        ("b.wild.internal", &["10.1.2.3", "192.168.0.1"]),
        ("c.wild.internal", &["::ffff:127.0.0.1"]),
        ("d.wild.internal", &["fd00::1"]),
    ])
    .await;
    let options = HttpOptions { name_servers: vec![dns.address], ..world.options.clone() };
    let http = Http::new(&options).unwrap();
    let port = world.server.port();
    for (name, address) in
        [("a", "127.0.0.1"), ("b", "10.1.2.3"), ("c", "::ffff:127.0.0.1"), ("d", "fd00::1")]
    {
        let error = get(&http, &format!("https://{name}.wild.internal:{port}/")).await.unwrap_err();
        let HttpError::Private { address: found, .. } = &error else { panic!("{name}: {error}") };
        assert!(address == found.to_string() || name == "b", "{error}");
        assert!(error.to_string().contains("identity.hosts"), "{error}");
    }
    let error = get(&http, "https://nowhere.wild.internal/").await.unwrap_err();
    assert!(matches!(error, HttpError::NoSuchName { .. }), "{error}");
    assert_eq!(world.open.load(Ordering::SeqCst), 0);

    // What the owner names is found without DNS, and may be private.
    let mut hosts = options.hosts.clone();
    hosts.insert(&format!("a.wild.internal={}", world.server)).unwrap();
    let http = Http::new(&HttpOptions { hosts, ..options }).unwrap();
    assert_eq!(get(&http, "https://a.wild.internal/").await.unwrap(), "secret");
}

/// The public answer and the private one for the same name: only what was judged is connected to.
/// The first address is AS112's, a public sink for stray traffic.
#[tokio::test]
async fn dns_that_changes_its_mind_gains_nothing() {
    let world = World::new(|_| ok("secret")).await;
    let dns = DnsServer::rebinding("a.wild.internal", "192.175.48.1", "127.0.0.1").await;
    let options = HttpOptions {
        name_servers: vec![dns.address],
        request_time: Duration::from_secs(5),
        ..world.options.clone()
    };
    let http = Http::new(&options).unwrap();
    let target = format!("https://a.wild.internal:{}/", world.server.port());
    let first = get(&http, &target).await.unwrap_err();
    assert!(matches!(first, HttpError::TimedOut { .. } | HttpError::Unreachable { .. }), "{first}");
    let second = get(&http, &target).await.unwrap_err();
    assert!(matches!(second, HttpError::Private { .. }), "{second}");
    assert_eq!(world.open.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn dns_that_is_silent_is_not_waited_for() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let options = HttpOptions {
        name_servers: vec![silent.local_addr().unwrap()],
        request_time: Duration::from_millis(300),
        ..HttpOptions::default()
    };
    let error = get(&Http::new(&options).unwrap(), "https://a.wild.internal/").await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn answers_that_are_refused() {
    let world = World::new(|asked| {
        let path = asked.line.rsplit('/').next().unwrap().split('?').next().unwrap();
        let to = |status| {
            Reply::Whole(status, vec![("location", "https://pds.internal/ok".into())], "moved".into())
        };
        match path {
            "endless" => Reply::Endless,
            "large" => ok("x".repeat(LIMIT + 1)),
            "full" => ok("x".repeat(LIMIT)),
            "drip" => Reply::Drip,
            "silence" => Reply::Silence,
            "lying" => Reply::Whole(200, vec![("content-length", "99999999999".into())], "x".into()),
            "headers" => Reply::Whole(200, vec![("x", "x".into()); 200], String::new()),
            "ok" => ok("ok"),
            number => match number.parse().unwrap() {
                code @ 300..400 => to(code),
                code => status(code, "{}"),
            },
        }
    })
    .await;
    let hasty = HttpOptions { request_time: Duration::from_millis(500), ..world.options.clone() };
    let (http, hasty) = (world.http(), Http::new(&hasty).unwrap());
    for (path, part) in [
        ("endless", "more than 10000 bytes"),
        ("large", "more than 10000 bytes"),
        ("drip", "within 0.5 s"),
        ("silence", "within 0.5 s"),
        ("lying", "more than 10000 bytes"),
        ("headers", "cannot be reached"),
        ("301", "redirect (301)"),
        ("302", "redirect (302)"),
        ("307", "redirect (307)"),
        ("308", "redirect (308)"),
        ("404", "status 404"),
        ("500", "status 500"),
        ("201", "status 201"),
    ] {
        let http = if part.starts_with("within") { &hasty } else { &http };
        let error = get(http, &format!("https://pds.internal/{path}?token=hunter2")).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains(part) && shown.contains(&format!("https://pds.internal/{path}")),
            "{path}: {shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(!world.lines().iter().any(|line| line.ends_with("/ok")), "no redirect is followed");
    assert_eq!(get(&http, "https://pds.internal/full").await.unwrap().len(), LIMIT);
}

#[tokio::test]
async fn a_flood_of_one_kind_waits_and_leaves_room_for_others() {
    let world = World::new(|asked| match asked.line.contains("slow") {
        true => Reply::Silence,
        false => ok("fast"),
    })
    .await;
    let options = HttpOptions { request_time: Duration::from_secs(3), ..world.options.clone() };
    let http = Http::new(&options).unwrap();
    let slow = url("https://app.internal/slow");
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (http, slow) = (http.clone(), slow.clone());
        flood.spawn(async move { http.get(Kind::App, &slow, LIMIT).await.unwrap_err() });
    }
    let mut busy = 0;
    while busy < 50 - Kind::App.limits().0 {
        let error = flood.join_next().await.unwrap().unwrap();
        assert!(matches!(error, HttpError::Busy { .. }), "{error}");
        busy += 1;
    }
    assert_eq!(world.lines().len(), Kind::App.limits().0, "the others never left");
    let answer = http.get(Kind::Pds, &url("https://pds.internal/"), LIMIT).await.unwrap();
    assert_eq!(answer, b"fast");
    while let Some(error) = flood.join_next().await {
        assert!(matches!(error.unwrap(), HttpError::TimedOut { .. }));
    }
    let answer = http.get(Kind::App, &url("https://app.internal/fast"), LIMIT).await.unwrap();
    assert_eq!(answer, b"fast", "their places are free again");
}

#[tokio::test]
async fn plain_http_is_for_this_machine_in_development() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt as _;
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
                .await;
        }
    });
    let dev = Http::new(&HttpOptions { allow_loopback: true, ..HttpOptions::default() }).unwrap();
    let usual = Http::new(&HttpOptions::default()).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let target = format!("http://{host}:{port}/");
        assert_eq!(get(&dev, &target).await.unwrap(), "hi", "{host}");
        assert!(matches!(get(&usual, &target).await.unwrap_err(), HttpError::Url { .. }), "{host}");
    }
    for private in
        ["http://192.168.1.1/", "http://pds.internal/", "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/"]
    {
        let error = get(&dev, private).await.unwrap_err();
        assert!(matches!(error, HttpError::Url { .. } | HttpError::Private { .. }), "{private}: {error}");
    }
}
