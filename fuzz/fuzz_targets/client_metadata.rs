//! Client ids (the first line) and the metadata found there (the rest).
#![no_main]

use groundmist_sync::atproto::client_metadata::MAX_REDIRECT_URIS;
use groundmist_sync::atproto::{ClientId, ClientMetadata};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let Ok(first) = std::str::from_utf8(&data[..end]) else { return };
    let Ok(id) = first.parse::<ClientId>() else { return };
    assert_eq!(id.as_str(), first);
    let Ok(metadata) = ClientMetadata::parse(&id, &data[(end + 1).min(data.len())..]) else { return };
    assert_eq!(metadata.client_id, id);
    assert!((1..=MAX_REDIRECT_URIS).contains(&metadata.redirect_uris.len()));
    assert!(metadata.client_name.is_none_or(|name| !name.is_empty() && !name.contains(char::is_control)));
});
