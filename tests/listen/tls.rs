//! What TLS the server speaks, and with whom.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use crate::common::authority::DOMAIN;
use crate::common::peer::new_document;
use crate::common::{Authority, Line, Peer, Server};

/// One request; the answer, and how the handshake went.
fn health(server: &Server, config: &Arc<ClientConfig>) -> (String, Line) {
    let mut line = Line::encrypted(server.address, config, DOMAIN).unwrap();
    line.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    // Without a goodbye (close_notify) this fails.
    (line.read_all().unwrap(), line)
}

#[test]
fn both_versions_resumed_and_ended_properly() {
    let authority = Authority::new();
    let server = authority.server();
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(authority.client(&[version]));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (answer, line) = health(&server, &config);
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
            let tls = line.tls.unwrap();
            assert_eq!((tls.protocol_version(), tls.handshake_kind()), (Some(version.version), Some(kind)));
        }
    }
}

#[test]
fn documents_sync_and_sockets_end_with_a_goodbye() {
    let authority = Authority::new();
    let mut server = authority.server();
    let document = new_document();
    let mut writer = Peer::join(&server, "writer");
    writer.store(document, "key", &crate::common::server::random_text(300_000));
    let mut reader = Peer::join(&server, "reader");
    assert_eq!(reader.find(document, "key").len(), 300_000);
    writer.store(document, "key", "small");
    reader.until("the change", |reader| reader.get(document, "key").as_deref() == Some("small"));
    server.signal("TERM");
    for peer in [&mut writer, &mut reader] {
        assert_eq!(peer.socket.closed().unwrap().0, 1001);
        assert_eq!(peer.socket.stream.read(&mut [0]).unwrap(), 0, "closed without close_notify");
    }
    drop((writer, reader));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn only_for_our_name_and_our_protocol() {
    let authority = Authority::new();
    let server = authority.server();
    let config = Arc::new(authority.client(rustls::ALL_VERSIONS));
    let refused = |config: &Arc<ClientConfig>, name: &str| {
        let refused = Line::encrypted(server.address, config, name).err();
        refused.unwrap_or_else(|| panic!("{name} was served")).to_string()
    };
    for name in ["other.example.org", "example.org", "sync.example.org.evil.example", "127.0.0.1"] {
        // An alert, not somebody else's certificate.
        let error = refused(&config, name);
        assert!(error.contains("alert") && !error.contains("certificate not valid"), "{name}: {error}");
    }
    let changed = |change: &dyn Fn(&mut ClientConfig)| {
        let mut config = (*config).clone();
        change(&mut config);
        Arc::new(config)
    };
    let without_name = changed(&|config| config.enable_sni = false);
    assert!(refused(&without_name, DOMAIN).contains("alert"));
    for protocols in [&[&b"h2"[..]][..], &[b"acme-tls/1"], &[b"groundmist-probe"], &[b"acme-tls/1", b"h2"]] {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let config = changed(&|config| config.alpn_protocols.clone_from(&protocols));
        assert!(refused(&config, DOMAIN).contains("NoApplicationProtocol"), "{:?}", config.alpn_protocols);
    }
    let both = changed(&|config| config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()]);
    let (_, line) = health(&server, &both);
    assert_eq!(line.tls.unwrap().alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(Line::encrypted(server.address, &config, "SYNC.Example.org").is_ok());
    health(&server, &config);
}
