//! Bodies on their way out.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};

/// What any route may send.
pub type AnyBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// The same answer, of the type that all share.
pub fn any<B>(answer: Response<B>) -> Response<AnyBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// A body, and what is held while it is sent.
pub struct Held<H> {
    body: AnyBody,
    _held: H,
}

impl<H> Held<H> {
    /// `held` is dropped when all of `body` is sent, or nobody wants it any more.
    pub fn new(body: AnyBody, held: H) -> Self {
        Self { body, _held: held }
    }
}

impl<H: Unpin> Body for Held<H> {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
