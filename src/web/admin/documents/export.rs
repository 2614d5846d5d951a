//! A document's bytes out of the store: its snapshot and the changes since, which is what automerge loads. Nothing is
//! opened, so that a document that cannot be opened comes out too.

use std::collections::VecDeque;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use super::pieces::Pieces;
use super::{Answer, DocumentsApi, MAX_DOCUMENT_BYTES, ROOM_UNIT, unknown};
use crate::store::{Head, Store, StoreError, Whole};
use crate::types::DocKey;
use crate::web::admin::answer::Failure;

/// Changes are put together to pieces of so many bytes, about.
const PIECE_BYTES: usize = 64 * 1024;

impl DocumentsApi {
    pub(super) async fn export(&self, key: Result<DocKey, Failure>) -> Answer {
        let key = key?;
        let head = self.head(&key).await?;
        let bytes = head.tail_bytes + head.snapshot.as_ref().map_or(0, |info| info.bytes);
        let room = self.room(usize::try_from(bytes).unwrap_or(usize::MAX)).await?;
        let wanted = key.clone();
        let whole = self.read(move |store| match store.whole(&wanted) {
            Err(StoreError::Corrupt { .. }) if head.quarantined.is_some() => {
                Ok(Some(readable(store, &wanted, head)))
            }
            whole => whole,
        });
        let (_, snapshot, rows) = whole.await?.ok_or_else(|| unknown(&key))?;
        let mut pieces = VecDeque::from_iter(snapshot);
        let mut piece = Vec::new();
        for row in rows {
            piece.extend_from_slice(&row.bytes);
            if piece.len() >= PIECE_BYTES {
                pieces.push_back(Bytes::from(std::mem::take(&mut piece)));
            }
        }
        pieces.extend((!piece.is_empty()).then(|| Bytes::from(piece)));
        let mut response = Response::new(Pieces::new(pieces, room));
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// Room for so many bytes in hand; of a document larger than all the room, all of it.
    pub(super) async fn room(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit, Failure> {
        let units = bytes.min(MAX_DOCUMENT_BYTES).div_ceil(ROOM_UNIT).max(1) as u32;
        let room = self.room.clone().acquire_many_owned(units).await;
        room.map_err(|_| Failure::store("the server is stopping"))
    }
}

/// What can still be read of a document that is kept aside because it is damaged.
fn readable(store: &Store, key: &DocKey, head: Head) -> Whole {
    let snapshot = store.snapshot(key).ok().flatten();
    let mut rows = Vec::new();
    // Up to the damage; that there is some is why it is kept aside.
    let _ = store.tail(key, 0..head.next_row, &mut |row| {
        rows.push(row);
        true
    });
    (head, snapshot, rows)
}
