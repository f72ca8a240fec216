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
#[derive(Debug)]
pub(super) struct Course {
    activity: Arc<Activity>,
    /// Since when it only finishes.
    draining: Option<Instant>,
    /// What it ends at.
    first: Stage,
    /// How long it is served still when that is reached.
    linger: Duration,
    place: Arc<Place>,
    running: Running,
    /// Until when it is, once that was reached.
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
    /// and is told something once in its life: `select_all` asks only where something was heard.
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
