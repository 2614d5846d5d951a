//! An answer's body: whole, or piece by piece as the reader takes it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

/// Pieces have so many bytes, about.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for whoever reads.
const WAITING_PIECES: usize = 4;
/// How long a reader may take for one of them: meanwhile nobody else has the room that the document takes.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// The answer breaks off: nothing of it was taken for [`STALL`].
#[derive(Debug, thiserror::Error)]
#[error("nothing of the document was taken for {} s", STALL.as_secs())]
pub struct Stalled;

/// What is left to send.
#[derive(Debug)]
pub enum Pieces {
    /// All of it.
    Whole(Option<Bytes>),
    /// It comes as it is taken.
    Sent {
        /// The next pieces.
        pieces: mpsc::Receiver<Result<Bytes, Stalled>>,
        /// Bytes still to come.
        left: u64,
    },
}

impl Pieces {
    /// These `parts`, one after the other; they and `room` go when all is sent, when the reader has hung up, or has
    /// stalled. Copies go out, lest a piece that lies in a socket's queue keeps the whole.
    pub(super) fn send(mut parts: VecDeque<Bytes>, room: OwnedSemaphorePermit) -> Self {
        let left = parts.iter().map(|part| part.len() as u64).sum();
        let (sender, pieces) = mpsc::channel(WAITING_PIECES);
        tokio::spawn(async move {
            while let Some(piece) = next(&mut parts) {
                match timeout(STALL, sender.send(Ok(piece))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => {
                        drop((parts, room));
                        // For as long as the connection lives, with next to nothing in hand.
                        let _ = sender.send(Err(Stalled)).await;
                        return;
                    }
                }
            }
            drop(room);
        });
        Self::Sent { pieces, left }
    }
}

/// From the front of `parts`, a copy of about [`PIECE_BYTES`].
fn next(parts: &mut VecDeque<Bytes>) -> Option<Bytes> {
    let mut piece = Vec::new();
    while piece.len() < PIECE_BYTES
        && let Some(part) = parts.front_mut()
    {
        let taken = part.split_to(part.len().min(PIECE_BYTES - piece.len()));
        piece.extend_from_slice(&taken);
        if part.is_empty() {
            parts.pop_front();
        }
    }
    (!piece.is_empty()).then(|| piece.into())
}

impl From<Full<Bytes>> for Pieces {
    fn from(mut full: Full<Bytes>) -> Self {
        let mut context = Context::from_waker(std::task::Waker::noop());
        // It has one piece, at once, or none.
        match Pin::new(&mut full).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => Self::Whole(frame.into_data().ok()),
            _ => Self::Whole(None),
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Sent { pieces, left } => pieces.poll_recv(context).map(|piece| {
                piece.map(|piece| {
                    piece.map(|piece| {
                        *left = left.saturating_sub(piece.len() as u64);
                        Frame::data(piece)
                    })
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Sent { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Sent { left, .. } => *left,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stalls_gives_the_room_back_and_hears_of_it() {
        let room = Arc::new(Semaphore::new(1));
        let held = room.clone().acquire_owned().await.unwrap();
        let large = Bytes::from(vec![7; 10 * PIECE_BYTES]);
        let mut stalled = Pieces::send(VecDeque::from([large.clone()]), held);
        // The clock goes on when nobody can do anything.
        drop(timeout(2 * STALL, room.acquire()).await.unwrap().unwrap());
        assert!(large.is_unique(), "what waits for the reader keeps the document");
        let mut taken = 0;
        loop {
            match stalled.frame().await {
                Some(Ok(frame)) => taken += frame.into_data().unwrap().len(),
                broken => break assert!(matches!(broken, Some(Err(Stalled))), "{broken:?}"),
            }
        }
        assert!(0 < taken && taken < large.len(), "{taken}");
    }

    #[tokio::test]
    async fn all_parts_come_in_their_order_and_the_room_is_given_back() {
        let room = Arc::new(Semaphore::new(1));
        for lengths in [vec![], vec![1], vec![PIECE_BYTES + 1, 0, 3, 2 * PIECE_BYTES - 4], vec![0]] {
            let parts: VecDeque<_> =
                lengths.iter().zip(1..).map(|(length, byte)| Bytes::from(vec![byte; *length])).collect();
            let whole = parts.iter().flatten().copied().collect::<Vec<_>>();
            let pieces = Pieces::send(parts, room.clone().acquire_owned().await.unwrap());
            assert_eq!(pieces.size_hint().exact(), Some(whole.len() as u64));
            assert_eq!(pieces.collect().await.unwrap().to_bytes(), whole);
        }
        let hung_up = Pieces::send(
            VecDeque::from([Bytes::from(vec![0; 10 * PIECE_BYTES])]),
            room.clone().acquire_owned().await.unwrap(),
        );
        drop(hung_up);
        drop(room.acquire().await.unwrap());
    }
}
