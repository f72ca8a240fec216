//! What goes on on a connection, and when that is over.

use countersign_core::config::Limits;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a caller may leave what we have for it unread: it then holds the response, its hop and
/// its connection for nothing. An answer of our own has no longer to be taken, all of it: by HTTP/2 a
/// caller may leave a body unread whose connection it reads (RFC 9113 section 6.9.1).
const STALL: Duration = Duration::from_secs(30);

/// What goes on on a connection.
#[derive(Debug)]
pub(super) struct Activity {
    changed: Notify,
    limits: Limits,
    /// How long what is there for the peer may stay unread.
    stall: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since when the peer takes no more bytes.
    blocked: Option<Instant>,
    /// Since when the head of a request is on its way (HTTP/1.1), or the preface of the connection
    /// (HTTP/2). hyper counts from the end of the response before it, which would end a connection
    /// that is merely kept, and waits for a preface for ever.
    head: Option<Instant>,
    /// For when the last look set the next one. Whatever is to end before that says so.
    look: Option<Instant>,
    /// Since when answers of our own are to be taken.
    own: BTreeSet<(Instant, u64)>,
    /// How many of those there were.
    owned: u64,
    /// Whether the last request had a body, which its client may still be sending.
    sends: bool,
    /// When something was last under way.
    since: Instant,
    under_way: usize,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing was under way for too long.
    Silent,
    /// A head takes too long, or nothing is read of what is sent.
    Stuck,
}

/// A request under way, until its response has been sent or given up.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Arc<Activity>,
    /// Where its answer is our own.
    own: Option<(Instant, u64)>,
}

impl Activity {
    /// A connection that has just begun, with what it begins with on its way.
    pub(super) fn new(limits: Limits) -> Self {
        let since = Instant::now();
        let state = State {
            blocked: None,
            head: Some(since),
            look: None,
            own: BTreeSet::new(),
            owned: 0,
            sends: false,
            since,
            under_way: 0,
        };
        Self {
            changed: Notify::new(),
            limits,
            stall: STALL,
            state: Mutex::new(state),
        }
    }

    /// Waits until the connection has to end; silence counts anew from when it was told to end.
    pub(super) async fn over(&self, draining: Option<Instant>) -> Over {
        loop {
            let next = match self.look(draining) {
                Ok(next) => next,
                Err(over) => return over,
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Why it is over, or when to look again.
    fn look(&self, draining: Option<Instant>) -> Result<Instant, Over> {
        let mut state = self.state.lock();
        state.look = None;
        let head = state.head.map(|since| since + self.limits.header_time);
        let stalled = state.blocked.map(|since| since + self.stall);
        let own = state.own.first().map(|(since, _)| *since + self.stall);
        let stuck = [head, stalled, own].into_iter().flatten().min();
        let since = draining.map_or(state.since, |told| told.max(state.since));
        let silent = (state.under_way == 0).then(|| since + self.limits.idle);
        let now = Instant::now();
        if stuck.is_some_and(|end| end <= now) {
            return Err(Over::Stuck);
        }
        if silent.is_some_and(|end| end <= now) {
            return Err(Over::Silent);
        }
        let next = [stuck, silent].into_iter().flatten().min();
        let next = next.unwrap_or(now + self.limits.idle);
        state.look = Some(next);
        Ok(next)
    }

    /// Bytes came; between requests they begin the next one.
    pub(super) fn read(&self) {
        let mut state = self.state.lock();
        if state.under_way == 0 && state.head.is_none() {
            let now = Instant::now();
            state.head = Some(now);
            self.ends_by(&state, now + self.limits.header_time);
        }
    }

    /// The preface of HTTP/2 is there.
    pub(super) fn begun(&self) {
        self.state.lock().head = None;
    }

    /// Bytes were to go.
    pub(super) fn wrote(&self, pending: bool) {
        let mut state = self.state.lock();
        if !pending {
            state.blocked = None;
        } else if state.blocked.is_none() {
            let now = Instant::now();
            state.blocked = Some(now);
            self.ends_by(&state, now + self.stall);
        }
    }

    /// Whether the last request had a body, which its client may still be sending.
    pub(super) fn sends(&self) -> bool {
        self.state.lock().sends
    }

    /// Has this looked at again if that is not to be by `end` anyway: most of what begins is over
    /// long before, and each request would set a timer.
    fn ends_by(&self, state: &State, end: Instant) {
        if state.look.is_none_or(|next| end < next) {
            self.changed.notify_one();
        }
    }
}

impl UnderWay {
    pub(super) fn begin(activity: &Arc<Activity>, sends: bool) -> Self {
        let mut state = activity.state.lock();
        state.head = None;
        state.sends = sends;
        state.under_way += 1;
        drop(state);
        Self {
            activity: activity.clone(),
            own: None,
        }
    }

    /// Its answer is our own: there is no upstream whose time it has.
    pub(super) fn is_own(&mut self) {
        let mut state = self.activity.state.lock();
        let now = Instant::now();
        let own = (now, state.owned);
        state.owned += 1;
        state.own.insert(own);
        self.activity.ends_by(&state, now + self.activity.stall);
        drop(state);
        self.own = Some(own);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        if let Some(own) = self.own {
            state.own.remove(&own);
        }
        state.since = Instant::now();
        state.under_way = state.under_way.saturating_sub(1);
        if state.under_way == 0 {
            let silent = state.since + self.activity.limits.idle;
            self.activity.ends_by(&state, silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Watched;
    use super::*;
    use futures_util::FutureExt as _;
    use std::pin::pin;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn a_kept_connection_is_idle_and_a_slow_head_is_stuck() {
        let limits = Limits {
            header_time: Duration::from_millis(50),
            idle: Duration::from_millis(300),
            ..Limits::default()
        };
        let activity = Arc::new(Activity::new(limits));
        assert_eq!(activity.over(None).await, Over::Stuck);
        drop(UnderWay::begin(&activity, false));
        let kept = Instant::now();
        assert_eq!(activity.over(None).await, Over::Silent);
        assert!(kept.elapsed() >= limits.idle);
        let heard = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            activity.read();
        };
        let (over, ()) = tokio::join!(activity.over(Some(Instant::now())), heard);
        assert_eq!(over, Over::Stuck);
    }

    #[test]
    fn what_begins_is_looked_at_in_time_and_wakes_nobody_who_looks_before() {
        let mut activity = Activity::new(Limits::default());
        activity.stall = Duration::from_millis(1);
        let (activity, limits) = (Arc::new(activity), Limits::default());
        let first = activity.look(None).unwrap();
        let woken = || activity.changed.notified().now_or_never().is_some();
        drop(UnderWay::begin(&activity, false));
        let begun = Instant::now();
        activity.read();
        assert!(!woken(), "its end is behind the first look");
        let next = activity.look(None).unwrap();
        assert!(next >= begun + limits.header_time && next > first);
        activity.wrote(true);
        assert!(woken(), "that ends before");
        drop(UnderWay::begin(&activity, false));
        activity.wrote(false);
        assert!(activity.look(None).unwrap() > next, "only silence is left");
        activity.read();
        assert!(woken(), "nobody would look before the silence is over");
    }

    #[tokio::test]
    async fn a_head_has_its_own_time_whatever_was_looked_at_before() {
        let limits = Limits {
            header_time: Duration::from_millis(50),
            ..Limits::default()
        };
        let activity = Arc::new(Activity::new(limits));
        let mut over = pin!(activity.over(None));
        assert!(over.as_mut().now_or_never().is_none());
        drop(UnderWay::begin(&activity, false));
        let begun = Instant::now();
        activity.read();
        assert_eq!(over.await, Over::Stuck);
        assert!(begun.elapsed() >= limits.header_time);
    }

    #[tokio::test]
    async fn silence_is_noticed_behind_a_later_look() {
        let limits = Limits {
            idle: Duration::from_millis(50),
            ..Limits::default()
        };
        let activity = Arc::new(Activity::new(limits));
        let mut own = UnderWay::begin(&activity, false);
        own.is_own();
        let mut over = pin!(activity.over(None));
        assert!(over.as_mut().now_or_never().is_none());
        drop(own);
        assert_eq!(over.await, Over::Silent);
    }

    #[tokio::test]
    async fn whoever_was_told_to_end_is_not_waited_for_again_and_again() {
        let limits = Limits {
            idle: Duration::from_millis(50),
            ..Limits::default()
        };
        let activity = Arc::new(Activity::new(limits));
        activity.begun();
        assert_eq!(activity.over(None).await, Over::Silent);
        let told = Instant::now();
        assert_eq!(activity.over(Some(told)).await, Over::Silent);
        assert!(told.elapsed() >= limits.idle);
    }

    #[tokio::test]
    async fn an_answer_of_our_own_has_to_be_taken() {
        let mut activity = Activity::new(Limits::default());
        activity.stall = Duration::from_millis(50);
        let activity = Arc::new(activity);
        let relayed = UnderWay::begin(&activity, false);
        let mut taken = UnderWay::begin(&activity, false);
        taken.is_own();
        drop(taken);
        let mut left = UnderWay::begin(&activity, false);
        left.is_own();
        let begun = Instant::now();
        assert_eq!(activity.over(None).await, Over::Stuck);
        assert!(begun.elapsed() >= activity.stall / 2);
        drop((left, relayed));
        assert!(activity.state.lock().own.is_empty());
    }

    #[tokio::test]
    async fn whoever_reads_nothing_is_stuck_and_a_slow_reader_is_not() {
        let mut activity = Activity::new(Limits::default());
        activity.stall = Duration::from_millis(50);
        let activity = Arc::new(activity);
        let _under_way = UnderWay::begin(&activity, false);
        let (mut peer, ours) = tokio::io::duplex(16);
        let mut io = Watched {
            activity: activity.clone(),
            heads: true,
            io: ours,
            linger: None,
            preface: 0,
        };
        let over = activity.over(None);
        tokio::select! {
            written = io.write_all(&[b'x'; 64]) => assert!(written.is_err(), "it does not fit"),
            over = over => assert_eq!(over, Over::Stuck),
        }
        // The peer reads after all, and nothing is held against it any more.
        let mut read = [0; 32];
        let (written, read) = tokio::join!(io.write_all(&[b'y'; 16]), peer.read_exact(&mut read));
        assert!(written.is_ok() && read.is_ok());
        assert_eq!(activity.state.lock().blocked, None);
    }
}
