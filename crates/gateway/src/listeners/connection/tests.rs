use super::course::tests::Placed;
use super::*;
use std::future::Future;
use tokio::task::coop;

/// A connection that always has more to do than it may.
struct Greedy;

impl Greedy {
    fn graceful_shutdown(self: Pin<&mut Self>) {}
}

impl Future for Greedy {
    type Output = Result<(), hyper::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while let Poll::Ready(more) = coop::poll_proceed(cx) {
            more.made_progress();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// `tokio` has a task that did much wait for its next turn, also for what would end it.
#[tokio::test]
async fn a_connection_with_much_to_do_hears_that_it_is_ended() {
    let placed = Placed::new();
    let activity = Arc::new(Activity::new(Limits::default()));
    let turns = Course::new(&placed.place, &activity, Stage::Draining, LINGER).turns();
    let driven = async {
        let mut greedy = pin!(Greedy);
        drive!(greedy, turns)
    };
    let ends = async {
        tokio::task::yield_now().await;
        placed.place.abort();
    };
    let both = async { tokio::join!(driven, ends) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .unwrap();
    assert!(ended.is_ok());
}
