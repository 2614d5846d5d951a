//! How many connections one address may have: of IPv6 one /64, which is what one user has at least.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Counts connections by where they come from.
#[derive(Debug)]
pub struct PerAddress {
    most: usize,
    /// Only places that have connections, so no more than there are connections.
    open: Mutex<HashMap<IpAddr, usize>>,
    rejected: AtomicU64,
}

/// One counted connection, until dropped.
#[derive(Debug)]
pub struct Seat {
    counted: Arc<PerAddress>,
    place: IpAddr,
}

impl PerAddress {
    /// `limits.connections_per_address`.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default(), rejected: AtomicU64::new(0) })
    }

    /// Counts a connection from a place, as `types::place_of` names it; `None` if it has as many as it may.
    pub fn enter(self: &Arc<Self>, place: IpAddr) -> Option<Seat> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(place).or_default();
        if *count >= self.most {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        Some(Seat { counted: Arc::clone(self), place })
    }

    /// Connections that were turned away since the start.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.counted.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.place);
            }
        }
    }
}

/// A stream that is counted for as long as it exists, whatever becomes of it above.
#[derive(Debug)]
pub struct Seated<S> {
    stream: S,
    _seat: Option<Seat>,
}

impl<S> Seated<S> {
    /// Without a seat it is not counted.
    pub fn new(stream: S, seat: Option<Seat>) -> Self {
        Self { stream, _seat: seat }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Seated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Seated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own_and_gets_it_back() {
        let counted = PerAddress::new(2);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let first = Seated::new((), counted.enter(one));
        let second = counted.enter(one).unwrap();
        assert!(counted.enter(one).is_none() && counted.enter(other).is_some());
        assert_eq!(counted.rejected(), 1);
        drop(first);
        assert!(counted.enter(one).is_some());
        drop(second);
        assert!(counted.open.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }
}
