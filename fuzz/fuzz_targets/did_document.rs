//! DID documents.
#![no_main]

use groundmist_sync::atproto::{Did, DidDocument, Handle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let did: Did = "did:web:alice.example".parse().unwrap();
    let Ok(document) = DidDocument::parse(&did, data) else { return };
    assert_eq!(document.did(), &did);
    if let Ok(key) = document.signing_key() {
        assert_eq!(key.thumbprint().len(), 43);
    }
    if let Some(pds) = document.pds() {
        assert!(pds.path() == "/" && pds.username().is_empty() && pds.query().is_none());
    }
    if let Some(handle) = document.handle() {
        assert_eq!(handle.as_str().parse::<Handle>().as_ref(), Ok(handle));
        assert!(document.names(handle));
    }
});
