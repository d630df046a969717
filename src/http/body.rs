//! Wrappers of bodies: one that gives a slow sender up, one that counts what was sent.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// No byte of a request's body came for too long. Handlers find it with [`idle_timeout_in`], and answer 408.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body came for {} seconds", .limit.as_secs())]
pub struct BodyIdle {
    pub limit: Duration,
}

/// The idle timeout that ended a body, if that is what did, from any error that it was wrapped in since.
#[must_use]
pub fn idle_timeout_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a BodyIdle> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(idle) = error.downcast_ref::<BodyIdle>() {
            return Some(idle);
        }
        next = error.source();
    }
    None
}

/// A body that ends in [`BodyIdle`] when it stops coming. The time runs only while somebody waits for the next piece,
/// so that a slow disk of ours is not the sender's fault.
pub(super) struct IdleTimeout {
    inner: Body,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleTimeout {
    pub(super) fn new(inner: Body, limit: Duration) -> Self {
        Self { inner, limit, timer: None }
    }
}

impl HttpBody for IdleTimeout {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let limit = self.limit;
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(frame);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx).map(|()| Some(Err(axum::Error::new(BodyIdle { limit }))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What learns how much of an answer's body was sent, once it was sent or given up.
pub(super) trait OnBodyEnd: Send + Unpin + 'static {
    fn body_ended(&mut self, bytes: u64, complete: bool);
}

/// A body that tells `end` how many bytes went out.
pub(super) struct Counted<E: OnBodyEnd> {
    inner: Body,
    bytes: u64,
    complete: bool,
    end: E,
}

impl<E: OnBodyEnd> Counted<E> {
    pub(super) fn new(inner: Body, end: E) -> Self {
        Self { inner, bytes: 0, complete: false, end }
    }
}

impl<E: OnBodyEnd> HttpBody for Counted<E> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Poll::Ready(None) => self.complete = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<E: OnBodyEnd> Drop for Counted<E> {
    fn drop(&mut self) {
        let complete = self.complete || self.inner.is_end_stream();
        self.end.body_ended(self.bytes, complete);
    }
}
