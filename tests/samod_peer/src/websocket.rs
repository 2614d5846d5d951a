//! Dials the server by WebSocket, without TLS: the tests run on loopback.

use std::convert::Infallible;

use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt, future};
use samod::{DialError, Dialer, Transport};
use tokio_tungstenite::tungstenite::{self, Message};
use url::Url;

pub struct WebSocketDialer(pub Url);

impl Dialer for WebSocketDialer {
    type Error = Infallible;

    fn url(&self) -> Url {
        self.0.clone()
    }

    fn connect(&self) -> BoxFuture<'static, Result<Transport, DialError<Infallible>>> {
        let url = self.0.clone();
        Box::pin(async move {
            let (socket, _) =
                tokio_tungstenite::connect_async(url.as_str()).await.map_err(DialError::transient)?;
            let (sink, stream) = socket.split();
            let stream = stream.filter_map(|message| {
                future::ready(match message {
                    Ok(Message::Binary(bytes)) => Some(Ok(bytes.to_vec())),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                })
            });
            let sink =
                sink.with(|bytes: Vec<u8>| future::ok::<_, tungstenite::Error>(Message::binary(bytes)));
            Ok(Transport::new(stream, sink))
        })
    }
}
