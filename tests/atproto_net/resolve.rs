//! DIDs and handles.

use groundmist_sync::atproto::{Did, Handle, ResolveError, Resolver};
use groundmist_sync::net::{Freshness, Http, HttpError, HttpOptions};
use serde_json::{Value, json};

use crate::dns::DnsServer;
use crate::world::{Reply, World, ok, status};

const PLC: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const OTHER: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

fn document(did: &str, handle: &str) -> Value {
    json!({ "id": did, "alsoKnownAs": [format!("at://{handle}")], "service": [
        { "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.internal" } ]})
}

fn did(text: &str) -> Did {
    text.parse().unwrap()
}

fn handle() -> Handle {
    "alice.internal".parse().unwrap()
}

fn resolver(world: &World) -> Resolver {
    Resolver::new(world.http(), "https://plc.internal".parse().unwrap())
}

#[tokio::test]
async fn both_methods_lead_to_the_document() {
    let world = World::new(|asked| match asked.line.as_str() {
        "GET plc.internal /did:plc:ewvi7nxzyoun6zhxrhs64oiz" => ok(document(PLC, "alice.internal")),
        "GET did.internal /.well-known/did.json" => ok(document("did:web:did.internal", "x.internal")),
        "GET plc.internal /did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" => status(410, "tombstone"),
        _ => status(404, "{}"),
    })
    .await;
    let resolver = resolver(&world);
    for known in [PLC, "did:web:did.internal"] {
        for freshness in [Freshness::Cached, Freshness::Cached, Freshness::Fresh, Freshness::Fresh] {
            let found = resolver.document(&did(known), freshness).await.unwrap();
            assert_eq!(found.did(), &did(known));
            assert_eq!(found.pds().unwrap().as_str(), "https://pds.internal/");
        }
    }
    assert_eq!(world.lines().len(), 2 * 2, "once, and once afresh; the rest is from memory");
    for gone in [OTHER, "did:web:app.internal"] {
        let error = resolver.document(&did(gone), Freshness::Cached).await.unwrap_err();
        assert_eq!(error, ResolveError::NoSuchDid(did(gone)));
    }
    for here in ["did:web:localhost%3A8080", "did:web:127.0.0.1"] {
        let error = resolver.document(&did(here), Freshness::Cached).await.unwrap_err();
        assert!(matches!(error, ResolveError::Fetch { source: HttpError::Url { .. }, .. }), "{error}");
    }
}

#[tokio::test]
async fn documents_that_are_refused() {
    let world = World::new(|asked| match asked.line.split(' ').nth(1).unwrap() {
        "did.internal" => {
            Reply::Whole(302, vec![("location", "https://app.internal/".into())], String::new())
        }
        "app.internal" => Reply::Endless,
        "auth.internal" => ok("<html>"),
        _ => ok(document(OTHER, "alice.internal")),
    })
    .await;
    let resolver = resolver(&world);
    for (text, part) in [
        ("did:web:did.internal", "redirect"),
        ("did:web:app.internal", "more than 65536 bytes"),
        ("did:web:auth.internal", "not JSON"),
        (PLC, "its id differs"),
    ] {
        let error = resolver.document(&did(text), Freshness::Cached).await.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(text), "{error}");
    }
    resolver.document(&did(PLC), Freshness::Fresh).await.unwrap_err();
    let asked = world.lines().len();
    for _ in 0..10 {
        resolver.document(&did(PLC), Freshness::Fresh).await.unwrap_err();
    }
    assert_eq!(world.lines().len(), asked, "failures are remembered for a while");
}

#[tokio::test]
async fn a_crowd_shares_one_request() {
    let world = World::new(|_| ok(document(PLC, "alice.internal"))).await;
    let resolver = std::sync::Arc::new(resolver(&world));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let resolver = std::sync::Arc::clone(&resolver);
        crowd.spawn(async move { resolver.document(&did(PLC), Freshness::Fresh).await.unwrap() });
    }
    assert_eq!(crowd.join_all().await.len(), 100);
    assert_eq!(world.lines().len(), 1);
}

/// A world where DNS says `txt` of alice.internal, HTTPS says `https`, and PLC knows both DIDs under her handle.
async fn account(
    txt: &[&str],
    https: Result<&str, u16>,
    names: &'static str,
) -> Result<String, ResolveError> {
    let well_known = https.map(str::to_owned);
    let world = World::new(move |asked| {
        let path = asked.line.rsplit('/').next().unwrap();
        match (path, &well_known) {
            ("atproto-did", Ok(text)) => ok(text),
            ("atproto-did", Err(code)) => status(*code, ""),
            (did, _) => ok(document(did, names)),
        }
    })
    .await;
    let dns = DnsServer::txt(&[("_atproto.alice.internal", txt)]).await;
    let options = HttpOptions { name_servers: vec![dns.address], ..world.options.clone() };
    let http = Http::new(&options).unwrap();
    let resolver = Resolver::new(http, "https://plc.internal".parse().unwrap());
    resolver.account(&handle()).await.map(|document| document.did().to_string())
}

#[tokio::test]
async fn handles_lead_to_one_did_that_names_them() {
    let (plc, other) = (format!("did={PLC}"), format!("did={OTHER}"));
    let parts = format!("did=|{PLC}");
    let line = format!("{PLC}\n{OTHER}\n");
    let this = "alice.internal";
    for (txt, https) in [
        (vec![plc.as_str()], Err(404)),
        (vec!["v=spf1 -all", &parts, &plc], Err(500)),
        (vec![&plc], Ok(OTHER)),
        (vec![], Ok(PLC)),
        (vec!["v=spf1 -all"], Ok(&line)),
    ] {
        assert_eq!(account(&txt, https, this).await.as_deref(), Ok(PLC), "{txt:?} {https:?}");
    }
    let long = "x".repeat(5000);
    for (txt, https, part) in [
        (vec![plc.as_str(), &other], Ok(PLC), "several TXT records"),
        (vec!["did=alice"], Ok(PLC), "does not hold a DID"),
        (vec![], Err(404), "no TXT record"),
        (vec![], Err(307), "redirect"),
        (vec![], Ok("<html>"), "not a DID"),
        (vec![], Ok(&long), "more than"),
    ] {
        let error = account(&txt, https, this).await.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(this), "{txt:?} {https:?}: {error}");
    }
    let moved = account(&[&plc], Err(404), "mallory.internal").await;
    assert_eq!(moved, Err(ResolveError::NotMutual { handle: handle(), did: did(PLC) }));
}

#[tokio::test]
async fn dns_that_fails_leaves_it_to_https() {
    let world = World::new(|asked| match asked.line.rsplit('/').next().unwrap() {
        "atproto-did" => ok(PLC),
        did => ok(document(did, "alice.broken.internal")),
    })
    .await;
    let dns = DnsServer::txt(&[]).await;
    let options = HttpOptions { name_servers: vec![dns.address], ..world.options.clone() };
    let http = Http::new(&options).unwrap();
    assert!(http.txt("_atproto.alice.broken.internal").await.is_err(), "the server answers SERVFAIL");
    let resolver = Resolver::new(http, "https://plc.internal".parse().unwrap());
    let account = resolver.account(&"alice.broken.internal".parse().unwrap()).await.unwrap();
    assert_eq!(account.did(), &did(PLC));
}
