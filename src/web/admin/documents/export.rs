//! A document's bytes out of the store: its snapshot and the changes since, which is what automerge loads. Nothing is
//! opened, so that a document that cannot be opened comes out too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::pieces::Pieces;
use super::{Answer, DocumentsApi, MAX_DOCUMENT_BYTES, ROOM_UNIT, unknown};
use crate::store::{Head, Store, StoreError, Whole};
use crate::types::DocKey;
use crate::web::admin::answer::Failure;

/// How long a document waits for room: those before it take minutes, if they are large and the machine is small.
const ROOM_WAIT: Duration = Duration::from_secs(300);

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
        let mut parts = VecDeque::from_iter(snapshot);
        parts.extend(rows.into_iter().map(|row| row.bytes));
        let mut response = Response::new(Pieces::send(parts, room));
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    pub(super) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        have(&self.room, bytes).await
    }
}

/// Room for so many bytes in hand; of a document larger than all the room, all of it.
async fn have(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
    let units = bytes.min(MAX_DOCUMENT_BYTES).div_ceil(ROOM_UNIT).max(1) as u32;
    match timeout(ROOM_WAIT, room.clone().acquire_many_owned(units)).await {
        Ok(room) => room.map_err(|_| Failure::store("the server is stopping")),
        Err(_) => {
            let message = "other documents on their way in and out take all the memory that is for them; try again when they are done";
            Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_told_when_there_is_none() {
        let room = Arc::new(Semaphore::new(MAX_DOCUMENT_BYTES / ROOM_UNIT));
        let all = have(&room, usize::MAX).await.ok().unwrap();
        let refused = have(&room, 1).await.err().unwrap().into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(all);
        drop(have(&room, 1).await.ok().unwrap());
    }
}
