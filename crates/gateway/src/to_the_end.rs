use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tokio::runtime::Handle;

/// Decides even if the caller goes away meanwhile: its connection and all that is under way on it is
/// dropped then, and what it had asked for would be neither decided nor recorded. So dropped before
/// it came to its end, the rest is done on a task of its own.
pub(crate) struct ToTheEnd<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> ToTheEnd<F> {
    pub(crate) fn new(deciding: F) -> Self {
        Self(Some(Box::pin(deciding)))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for ToTheEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Out of its place: a panic is not to be gone on with.
        let Some(mut deciding) = self.0.take() else {
            return Poll::Pending;
        };
        let polled = deciding.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(deciding);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for ToTheEnd<F> {
    fn drop(&mut self) {
        if let Some(deciding) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(deciding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::Notify;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    #[tokio::test]
    async fn what_is_dropped_on_its_way_comes_to_its_end() {
        let (sender, done) = oneshot::channel();
        let go_on = Arc::new(Notify::new());
        let waits = go_on.clone();
        let mut deciding = ToTheEnd::new(async move {
            waits.notified().await;
            sender.send(()).unwrap();
        });
        let begun = timeout(Duration::ZERO, &mut deciding);
        assert!(begun.await.is_err());
        drop(deciding);
        go_on.notify_one();
        done.await.unwrap();
    }

    #[tokio::test]
    async fn what_has_come_to_its_end_does_not_begin_again() {
        let (sender, done) = oneshot::channel();
        let deciding = ToTheEnd::new(async { sender.send(()).unwrap() });
        deciding.await;
        done.await.unwrap();
        // Dropped outside a runtime there is nobody to go on with it, and nothing to panic about.
        std::thread::spawn(|| drop(ToTheEnd::new(pending::<()>())))
            .join()
            .unwrap();
    }
}
