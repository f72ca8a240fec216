use super::activity::Over;
use super::*;
use futures_util::FutureExt;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

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
