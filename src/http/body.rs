//! Wrappers of bodies: one that gives a slow sender up, one that counts what was sent.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// A request's body came too slowly. Handlers find it with [`slow_body_in`], and answer 408.
#[derive(Debug, thiserror::Error)]
pub enum SlowBody {
    #[error("no byte of the body came for {} seconds", .0.as_secs())]
    Idle(Duration),
    #[error("fewer than {0} bytes of the body came in a second, the server's http.min_body_bytes_per_s")]
    Trickling(u64),
}

/// The slowness that ended a body, if that is what did, from any error that it was wrapped in since.
#[must_use]
pub fn slow_body_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a SlowBody> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(slow) = error.downcast_ref::<SlowBody>() {
            return Some(slow);
        }
        next = error.source();
    }
    None
}

/// How slowly a body may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two pieces.
    pub(super) idle: Duration,
    /// On average, over any time as long as `idle`; none is asked for where it is 0.
    pub(super) bytes_per_s: u64,
}

/// A body that ends in [`SlowBody`] when it comes more slowly than its pace: a byte now and then would else hold an
/// upload's place for ever. The time runs only while somebody waits for the next piece, so that a slow disk of ours is not
/// the sender's fault.
pub(super) struct PacedBody {
    inner: Body,
    pace: Pace,
    /// Since when the next piece is waited for, and what ends the waiting.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// What was waited, and what came, since the average was last taken.
    waited: Duration,
    bytes: u64,
}

impl PacedBody {
    pub(super) fn new(inner: Body, pace: Pace) -> Self {
        Self { inner, pace, waiting: None, waited: Duration::ZERO, bytes: 0 }
    }

    /// Notes a piece, and whether it came at the pace that is asked for.
    fn kept_pace(&mut self, bytes: usize) -> bool {
        self.waited += self.waiting.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
        self.bytes += bytes as u64;
        if self.waited < self.pace.idle {
            return true;
        }
        let due = self.waited.as_millis() * u128::from(self.pace.bytes_per_s) / 1000;
        let kept = u128::from(self.bytes) >= due;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        kept
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Pace { idle, bytes_per_s } = self.pace;
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            let came = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            // What is whole has come, however slowly.
            if came.is_some_and(|data| !self.kept_pace(data.len()) && !self.inner.is_end_stream()) {
                return Poll::Ready(Some(Err(axum::Error::new(SlowBody::Trickling(bytes_per_s)))));
            }
            return Poll::Ready(frame);
        }
        let (_, timer) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(idle))));
        timer.as_mut().poll(cx).map(|()| Some(Err(axum::Error::new(SlowBody::Idle(idle)))))
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

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use futures::{Stream, stream};

    use super::*;

    /// Pieces of so many bytes, with a pause before each.
    #[allow(clippy::unnecessary_to_owned, reason = "the stream outlives the slice")]
    fn pieces(sizes: &[usize], pause: Duration) -> impl Stream<Item = Result<Vec<u8>, axum::Error>> + use<> {
        stream::unfold((sizes.to_vec().into_iter(), pause), async |(mut sizes, pause)| {
            let size = sizes.next()?;
            sleep(pause).await;
            Some((Ok(vec![b'x'; size]), (sizes, pause)))
        })
    }

    async fn read(sizes: &[usize], bytes_per_s: u64) -> Result<usize, String> {
        let body = Body::from_stream(pieces(sizes, Duration::from_millis(60)));
        let body = Body::new(PacedBody::new(body, Pace { idle: Duration::from_millis(100), bytes_per_s }));
        match to_bytes(body, 1 << 20).await {
            Ok(bytes) => Ok(bytes.len()),
            Err(error) => Err(slow_body_in(&error).expect("it says that it was slow").to_string()),
        }
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_given_up_and_one_that_keeps_its_pace_is_not() {
        // 60 ms apart: never idle, and 16 bytes a second or, with the larger pieces, 16,000.
        let trickle = read(&[1; 8], 1000).await.unwrap_err();
        assert!(trickle.contains("1000") && trickle.contains("http.min_body_bytes_per_s"), "{trickle}");
        assert_eq!(read(&[1000; 8], 1000).await, Ok(8000));
        assert_eq!(read(&[1; 8], 0).await, Ok(8), "no pace is asked for");
    }

    #[tokio::test]
    async fn what_came_fast_before_is_no_credit_for_a_trickle() {
        let sizes: Vec<usize> = [vec![100_000], vec![1; 8]].concat();
        assert!(read(&sizes, 1000).await.is_err());
    }
}
