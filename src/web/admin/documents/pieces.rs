//! An answer's body that is sent as it lies in memory, piece by piece.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// The pieces left, and the room that all of them take, until they are gone.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Pieces {
    pub(super) fn new(pieces: VecDeque<Bytes>, room: OwnedSemaphorePermit) -> Self {
        Self { pieces, _room: Some(room) }
    }
}

impl From<Full<Bytes>> for Pieces {
    fn from(mut full: Full<Bytes>) -> Self {
        let mut pieces = VecDeque::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        // It has one piece, at once, or none.
        if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut full).poll_frame(&mut context)
            && let Ok(bytes) = frame.into_data()
        {
            pieces.push_back(bytes);
        }
        Self { pieces, _room: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.remaining() as u64).sum())
    }
}
