//! Effects that are not left half done.

/// Runs an effect to its end, also when whoever asked for it stops waiting: a future is dropped
/// with the connection it serves, a task is not.
pub(crate) async fn whole<T: Send + 'static>(
    effect: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(effect).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Nobody cancels it but a runtime that shuts down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn an_effect_ends_without_whoever_asked_for_it() {
        let (begun, go, ended) = (
            Arc::<Notify>::default(),
            Arc::<Notify>::default(),
            Arc::<Notify>::default(),
        );
        let (first, second, third) = (begun.clone(), go.clone(), ended.clone());
        let asked = tokio::spawn(whole(async move {
            first.notify_one();
            second.notified().await;
            third.notify_one();
        }));
        begun.notified().await;
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        go.notify_one();
        ended.notified().await;
    }
}
