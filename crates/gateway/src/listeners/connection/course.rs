//! What a connection that is served hears from outside it: that its listener ends, that somebody
//! ends it, that it is silent or stuck.

use super::activity::Activity;
use super::activity::Over;
use crate::place::Place;
use crate::place::Running;
use crate::place::Stage;
use futures_util::stream;
use futures_util::stream::Stream;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Answer what is under way, and begin nothing else.
    Finish,
    /// End now.
    End,
}

/// The course of a connection.
pub(super) struct Course {
    activity: Arc<Activity>,
    /// Since when it only finishes.
    draining: Option<Instant>,
    /// The stage at which it begins to end.
    first: Stage,
    /// How long it is served still when that is reached.
    linger: Duration,
    place: Arc<Place>,
    running: Running,
    /// Until when it is served still, once that stage was reached.
    told: Option<Instant>,
}

impl Course {
    /// The course of the connection with this `place`, which is served for `linger` still when its
    /// listener has come to `first`.
    pub(super) fn new(
        place: &Arc<Place>,
        activity: &Arc<Activity>,
        first: Stage,
        linger: Duration,
    ) -> Self {
        Self {
            activity: activity.clone(),
            draining: None,
            first,
            linger,
            place: place.clone(),
            running: place.running(),
            told: None,
        }
    }

    /// What it is told, one after the other. A connection is polled several times for each request
    /// and is told something once in its life: `select_all` is here for asking only when something
    /// was heard, though there is but one to select from.
    pub(super) fn turns(self) -> impl Stream<Item = Turn> + Send + Unpin {
        let turns = stream::unfold(self, |mut course| async move {
            let turn = course.next().await;
            Some((turn, course))
        });
        stream::select_all([Box::pin(turns)])
    }

    async fn next(&mut self) -> Turn {
        loop {
            let next = if self.told.is_some() {
                Stage::Cut
            } else {
                self.first
            };
            let lingered = self.told.unwrap_or_else(Instant::now);
            let lingers = self.told.is_some() && self.draining.is_none();
            tokio::select! {
                biased;
                () = self.running.reaches(next) => {
                    if self.told.is_some() {
                        return Turn::End;
                    }
                    self.told = Some(Instant::now() + self.linger);
                }
                () = tokio::time::sleep_until(lingered), if lingers => {
                    self.draining = Some(Instant::now());
                    return Turn::Finish;
                }
                () = self.place.aborted() => return Turn::End,
                over = self.activity.over(self.draining) => {
                    // Whoever was told to end and is silent still would be there for ever: HTTP/2
                    // says goodbye only after a preface, and waits for the other side to hear it.
                    if over == Over::Stuck || self.draining.is_some() {
                        return Turn::End;
                    }
                    self.draining = Some(Instant::now());
                    return Turn::Finish;
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::place::Seat;
    use countersign_core::config::Limits;
    use futures_util::StreamExt as _;
    use std::sync::atomic::AtomicU32;
    use tokio::sync::mpsc;
    use tokio::sync::watch;

    /// A place, and what ends it.
    pub(in super::super) struct Placed {
        door: Arc<watch::Sender<Stage>>,
        pub(in super::super) place: Arc<Place>,
        _gateway: watch::Sender<Stage>,
        _here: mpsc::Receiver<()>,
    }

    impl Placed {
        pub(in super::super) fn new() -> Self {
            let (here, ends) = mpsc::channel(1);
            let (gateway, hears) = watch::channel(Stage::Serving);
            let door = Arc::new(watch::Sender::new(Stage::Serving));
            let taken = Arc::new(AtomicU32::new(0));
            let seats = [(); 2].map(|()| Seat::take(&taken, 2).unwrap());
            let running = Running::new(here, hears, door.clone());
            Self {
                door,
                place: Arc::new(Place::new(seats, running, 1)),
                _gateway: gateway,
                _here: ends,
            }
        }
    }

    const SHORT: Duration = Duration::from_millis(20);

    /// What a connection is told that was begun with these limits, and has sent its first request
    /// if it is `kept`.
    fn turns(placed: &Placed, limits: Limits, kept: bool) -> impl Stream<Item = Turn> + Unpin {
        let activity = Arc::new(Activity::new(limits));
        if kept {
            activity.begun();
        }
        Course::new(&placed.place, &activity, Stage::Draining, SHORT).turns()
    }

    #[tokio::test]
    async fn it_finishes_some_time_after_its_listener_and_ends_with_it() {
        let placed = Placed::new();
        let mut turns = turns(&placed, Limits::default(), true);
        placed.door.send_replace(Stage::Draining);
        let told = Instant::now();
        assert_eq!(turns.next().await, Some(Turn::Finish));
        assert!(told.elapsed() >= SHORT);
        placed.door.send_replace(Stage::Cut);
        assert_eq!(turns.next().await, Some(Turn::End));
    }

    #[tokio::test]
    async fn it_ends_at_once_where_everything_does() {
        let placed = Placed::new();
        let activity = Arc::new(Activity::new(Limits::default()));
        let long = Duration::from_secs(3_600);
        let course = Course::new(&placed.place, &activity, Stage::Draining, long);
        placed.door.send_replace(Stage::Cut);
        assert_eq!(course.turns().next().await, Some(Turn::End));
    }

    #[tokio::test]
    async fn it_ends_when_somebody_ends_it() {
        let placed = Placed::new();
        let mut turns = turns(&placed, Limits::default(), true);
        placed.place.abort();
        assert_eq!(turns.next().await, Some(Turn::End));
    }

    #[tokio::test]
    async fn a_silent_one_finishes_and_ends_when_it_says_nothing_to_that() {
        let limits = Limits {
            idle: SHORT,
            ..Limits::default()
        };
        let placed = Placed::new();
        let mut turns = turns(&placed, limits, true);
        assert_eq!(turns.next().await, Some(Turn::Finish));
        assert_eq!(turns.next().await, Some(Turn::End));
    }

    #[tokio::test]
    async fn a_stuck_one_ends() {
        let limits = Limits {
            header_time: SHORT,
            ..Limits::default()
        };
        let placed = Placed::new();
        let mut turns = turns(&placed, limits, false);
        assert_eq!(turns.next().await, Some(Turn::End));
    }
}
