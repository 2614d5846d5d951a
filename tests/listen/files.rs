//! `tls = "files"`: files that change, that are damaged, and that cannot be used at all.

use std::fs;

use rustls::pki_types::CertificateDer;

use crate::common::authority::DOMAIN;
use crate::common::peer::new_document;
use crate::common::{Authority, Peer, Server, Start, wait_for};

/// What a new connection is shown.
fn shown(server: &Server) -> CertificateDer<'static> {
    let line = server.line().unwrap();
    line.tls.as_ref().unwrap().peer_certificates().unwrap()[0].clone()
}

/// `certificate` of the status.
fn known(server: &Server) -> serde_json::Value {
    let output = server.command(&["status", "--json"]);
    serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["certificate"].clone()
}

#[test]
fn a_changed_certificate_is_shown_and_a_damaged_one_is_not() {
    let authority = Authority::new();
    let server = authority.server();
    let first = shown(&server);
    let (document, mut peer) = (new_document(), Peer::join(&server, "peer"));
    peer.store(document, "key", "before");

    let second = authority.renew();
    assert_ne!(first, second);
    wait_for("the new certificate", || (shown(&server) == second).then_some(()));
    peer.store(document, "key", "on the same socket");

    authority.put(&authority.key_file(), "damaged");
    wait_for("the complaint", || known(&server)["last_error"].as_str().map(str::to_owned));
    assert_eq!((shown(&server), &known(&server)["failures"]), (second, &1.into()));
    let words = server.command(&["status"]);
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("Certificate valid until ") && words.contains("no private key in"), "{words}");
    assert!(server.log().contains("the one before is still shown"));
    peer.store(document, "key", "and still");
}

#[test]
fn a_leaf_of_the_owners_own_authority_is_no_trouble() {
    let authority = Authority::new();
    authority.leaf_alone();
    let troubles = |server: &Server| {
        let output = server.command(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let warnings = status["warnings"].as_array().unwrap().clone();
        warnings.iter().filter(|warning| warning["code"] == "certificate").count()
    };
    let server = authority.server();
    let said = known(&server)["last_error"].as_str().unwrap().to_owned();
    assert!(troubles(&server) == 1 && said.contains("identity.ca_file"), "{said}");
    drop(server);
    let ca_file = authority.ca_file().display().to_string();
    let server = authority.start().set("IDENTITY__CA_FILE", &ca_file).run();
    assert_eq!((troubles(&server), &known(&server)["last_error"]), (0, &serde_json::Value::Null));
    Peer::join(&server, "peer").store(new_document(), "key", "value");
}

#[test]
fn what_cannot_be_used_ends_the_start_with_78_and_words() {
    let authority = Authority::new();
    let key = fs::read_to_string(authority.key_file()).unwrap();
    authority.put(&authority.key_file(), "nothing");
    let (code, said) = authority.start().fail();
    assert!(code == Some(78) && said.contains("no private key in") && said.contains("key.pem"), "{said}");
    authority.put(&authority.key_file(), &key);
    authority.put(&authority.chain_file(), &key);
    let (code, said) = authority.start().fail();
    assert!(code == Some(78) && said.contains("no certificate in"), "{said}");
    assert!(!said.contains(key.lines().nth(1).unwrap()), "{said}");
    fs::remove_file(authority.chain_file()).unwrap();
    let (code, said) = authority.start().fail();
    assert!(code == Some(78) && said.contains("certificate.chain_file"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_said_and_the_redirecting_one_is_not_needed() {
    let authority = Authority::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = authority.start().set("LISTEN__HTTPS", &address).fail();
    assert!(code == Some(1) && said.contains(&address) && said.contains("another program"), "{said}");
    let server = authority.start().set("LISTEN__HTTP", &address).run();
    assert!(server.log().contains("nobody is sent on from http://"), "{}", server.log());
    Peer::join(&server, "peer").store(new_document(), "key", "value");
}

#[test]
fn the_status_names_every_socket() {
    let server = Authority::new().server();
    let output = server.command(&["status"]);
    let words = String::from_utf8(output.stdout).unwrap();
    for (spoken, port) in [("https", server.address.port()), ("http", server.socket("http").port())] {
        assert!(words.contains(&format!("127.0.0.1:{port} ({spoken})")), "{words}");
    }
    assert_eq!((&known(&server)["mode"], &known(&server)["domain"]), (&"files".into(), &DOMAIN.into()));
}

#[test]
fn a_name_is_needed() {
    let (code, said) = Start::default().set("TLS", "files").fail();
    assert!(code == Some(78) && said.contains("needs domain"), "{said}");
}
