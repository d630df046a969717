//! The rest of a body that nobody wants any more: it is taken for a moment all the same. A connection that is closed on a
//! sender who still sends is lost to him, and with it the answer that says why (RFC 9112, 9.6).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use futures::StreamExt;
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;

/// Long enough for an answer to come to its sender and for him to stop.
const LINGER: Duration = Duration::from_secs(3);

/// A body whose rest is taken and thrown away when it is dropped before its end.
pub(super) struct Lingering {
    /// None once it has ended, or failed.
    inner: Option<Body>,
}

impl Lingering {
    pub(super) fn new(inner: Body) -> Self {
        Self { inner: Some(inner) }
    }
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.inner = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|rest| !rest.is_end_stream());
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            let mut rest = rest.into_data_stream();
            let taken = async move { while let Some(Ok(_)) = rest.next().await {} };
            runtime.spawn(tokio::time::timeout(LINGER, taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::stream;

    use super::*;

    /// A body of three pieces that counts those that were taken.
    fn counted() -> (Lingering, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let pieces = stream::iter(0..3).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>("piece")
        });
        (Lingering::new(Body::from_stream(pieces)), taken)
    }

    #[tokio::test]
    async fn what_is_left_of_a_body_is_taken_once_it_is_dropped() {
        let (body, taken) = counted();
        drop(body);
        while taken.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_body_that_was_read_comes_whole() {
        let (body, taken) = counted();
        let bytes = axum::body::to_bytes(Body::new(body), 100).await.unwrap();
        assert_eq!((&bytes[..], taken.load(Ordering::Relaxed)), (&b"piecepiecepiece"[..], 3));
    }
}
