//! An answer is sent for as long as the rights hold that it rests on. That is seen to where its bytes leave, because a client who
//! reads slowly, or not at all, keeps them waiting far behind the body that they came from. Where rights end, the connection breaks
//! off, so that what has left already and has not arrived is lost too, and nobody takes what has arrived for the whole.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{extract::Request, middleware::Next, response::Response};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::rights::{ASKED_EVERY, Lost, Rights};

/// The rights behind the answers of one connection; among the extensions of its requests.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    /// Of the newest request.
    newest: Vec<Rights>,
    /// Of those before it whose answers have not wholly left.
    earlier: Vec<Rights>,
    /// Whether something was written that may not have left.
    has_unsent: bool,
    /// When they are asked for again.
    look_at: Option<Instant>,
}

impl Watch {
    /// A request begins: the answers before it are all written, and may not have left.
    pub fn next_request(&self) {
        let mut watched = self.lock();
        let before = std::mem::take(&mut watched.newest);
        if watched.has_unsent {
            watched.earlier.extend(before);
        }
    }

    /// What the answer of the newest request rests on, and was asked for just now.
    pub(super) fn follow(&self, rights: Rights) {
        let mut watched = self.lock();
        // Those of an answer that has not left yet may have been asked for long ago.
        if watched.earlier.is_empty() || watched.look_at.is_none() {
            watched.look_at = Some(Instant::now() + ASKED_EVERY);
        }
        if !watched.newest.iter().any(|known| known.same_as(&rights)) {
            watched.newest.push(rights);
        }
    }

    /// The answer of the newest request rests on nothing.
    fn release(&self) {
        self.lock().newest.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to look, where there are rights to look after.
    fn look_at(&self) -> Option<Instant> {
        let watched = self.lock();
        watched.look_at.filter(|_| !watched.newest.is_empty() || !watched.earlier.is_empty())
    }

    fn ask(&self) -> BoxFuture<'static, Result<(), Lost>> {
        let watched = self.lock();
        let rights: Vec<Rights> = watched.earlier.iter().chain(&watched.newest).cloned().collect();
        drop(watched);
        Box::pin(async move {
            for rights in &rights {
                rights.ask().await?;
            }
            Ok(())
        })
    }

    fn asked(&self) {
        self.lock().look_at = Some(Instant::now() + ASKED_EVERY);
    }

    fn writes(&self) {
        self.lock().has_unsent = true;
    }

    /// All that was written so far has left.
    fn all_left(&self) {
        let mut watched = self.lock();
        watched.has_unsent = false;
        watched.earlier.clear();
    }
}

/// Who is refused is told so: a refusal has nothing of anybody, and goes out whatever ended.
pub(super) async fn let_refusals_out(request: Request, next: Next) -> Response {
    let watch = request.extensions().get::<Watch>().cloned();
    let response = next.run(request).await;
    if let Some(watch) = watch.filter(|_| response.status().is_client_error()) {
        watch.release();
    }
    response
}

/// A stream that can break off: the other side is told that it did not end, and gets nothing more.
pub trait BreakOff {
    fn break_off(&self);
}

impl BreakOff for TcpStream {
    fn break_off(&self) {
        // It is closed with a reset then, and what waits in the system's buffers is dropped.
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!(%error, "a connection could not be reset");
        }
    }
}

/// A connection that breaks off where rights end while something is sent by them.
pub struct WatchedStream<S> {
    inner: S,
    watch: Watch,
    asking: Option<BoxFuture<'static, Result<(), Lost>>>,
    /// Wakes a write that waits for the client, so that it can be looked again.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + BreakOff + Unpin> WatchedStream<S> {
    pub fn new(inner: S, watch: Watch) -> Self {
        Self { inner, watch, asking: None, timer: None }
    }

    /// Whether something may be sent now.
    fn poll_rights(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.asking.is_none() {
            match self.watch.look_at() {
                Some(look_at) if look_at <= Instant::now() => self.asking = Some(self.watch.ask()),
                _ => return Poll::Ready(Ok(())),
            }
        }
        if let Some(asking) = &mut self.asking {
            let asked = ready!(asking.as_mut().poll(cx));
            self.asking = None;
            self.timer = None;
            if let Err(lost) = asked {
                tracing::info!(%lost, "an answer is broken off");
                self.inner.break_off();
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, lost)));
            }
            self.watch.asked();
        }
        Poll::Ready(Ok(()))
    }

    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.watch.writes();
        ready!(self.poll_rights(cx))?;
        let written = write(Pin::new(&mut self.inner), cx);
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        if let Some(look_at) = self.watch.look_at() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(look_at)));
            if timer.as_mut().poll(cx).is_ready() {
                self.timer = None;
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + BreakOff + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |inner, cx| inner.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        // hyper flushes once it has written all that it has.
        self.watch.all_left();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::timeout,
    };

    use super::{super::rights::tests::World, *};

    impl BreakOff for DuplexStream {
        fn break_off(&self) {}
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A stream whose client has 16 bytes to read, and the client.
    async fn stalled(watch: &Watch) -> (WatchedStream<DuplexStream>, DuplexStream) {
        let (server, client) = duplex(16);
        let mut server = WatchedStream::new(server, watch.clone());
        server.write_all(&[b'x'; 16]).await.unwrap();
        (server, client)
    }

    #[tokio::test]
    async fn what_a_client_does_not_read_ends_with_the_key_and_with_the_share() {
        for end in ["key", "share"] {
            let world = World::new().await;
            let watch = Watch::default();
            watch.follow(world.rights(&world.fund).await);
            let (mut server, _client) = stalled(&watch).await;
            let sending = timeout(PATIENCE, server.write_all(&[b'x'; 16]));
            let ending = async {
                // Another's key is nothing to it.
                world.revoke(&world.owner).await;
                tokio::time::sleep(2 * ASKED_EVERY).await;
                match end {
                    "share" => drop(world.catalog.revoke_share(&world.share.id).await.unwrap()),
                    _ => world.revoke(&world.fund).await,
                }
                Instant::now()
            };
            let (sent, ended_at) = tokio::join!(sending, ending);
            let error = sent.expect("it ends").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(ended_at.elapsed() < Duration::from_secs(10), "it waits for the client");
        }
    }

    #[tokio::test]
    async fn an_answer_goes_on_while_its_rights_hold() {
        let world = World::new().await;
        let watch = Watch::default();
        watch.follow(world.rights(&world.fund).await);
        let (mut server, mut client) = stalled(&watch).await;
        for _ in 0..3 {
            tokio::time::sleep(ASKED_EVERY).await;
            client.read_exact(&mut [0; 16]).await.unwrap();
            server.write_all(&[b'x'; 16]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_later_request_saves_no_answer_that_has_not_left_and_suffers_from_none_that_has() {
        for has_left in [false, true] {
            let world = World::new().await;
            let watch = Watch::default();
            watch.follow(world.rights(&world.owner).await);
            let (mut server, mut client) = stalled(&watch).await;
            if has_left {
                server.flush().await.unwrap();
            }
            watch.next_request();
            watch.follow(world.rights(&world.fund).await);
            world.revoke(&world.owner).await;
            tokio::time::sleep(2 * ASKED_EVERY).await;
            client.read_exact(&mut [0; 16]).await.unwrap();
            assert_eq!(server.write_all(b"x").await.is_ok(), has_left);
        }
    }

    #[tokio::test]
    async fn who_comes_again_with_a_key_that_has_ended_is_told_so() {
        let world = World::new().await;
        let watch = Watch::default();
        watch.follow(world.rights(&world.owner).await);
        let (mut server, mut client) = stalled(&watch).await;
        server.flush().await.unwrap();
        client.read_exact(&mut [0; 16]).await.unwrap();
        world.revoke(&world.owner).await;
        tokio::time::sleep(2 * ASKED_EVERY).await;
        watch.next_request();
        server.write_all(b"401").await.unwrap();
    }
}
