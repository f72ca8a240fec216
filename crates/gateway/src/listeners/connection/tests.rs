use super::*;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn a_kept_connection_is_idle_and_a_slow_head_is_stuck() {
    let limits = Limits {
        header_time: Duration::from_millis(50),
        idle: Duration::from_millis(300),
        ..Limits::default()
    };
    let activity = Arc::new(Activity::new());
    assert_eq!(activity.over(limits, None).await, Over::Stuck);
    drop(UnderWay::begin(&activity, false));
    let kept = Instant::now();
    assert_eq!(activity.over(limits, None).await, Over::Silent);
    assert!(kept.elapsed() >= limits.idle);
    let heard = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        activity.read();
    };
    let (over, ()) = tokio::join!(activity.over(limits, Some(Instant::now())), heard);
    assert_eq!(over, Over::Stuck);
}

#[tokio::test]
async fn whoever_was_told_to_end_is_not_waited_for_again_and_again() {
    let limits = Limits {
        idle: Duration::from_millis(50),
        ..Limits::default()
    };
    let activity = Arc::new(Activity::new());
    activity.begun();
    assert_eq!(activity.over(limits, None).await, Over::Silent);
    let told = Instant::now();
    assert_eq!(activity.over(limits, Some(told)).await, Over::Silent);
    assert!(told.elapsed() >= limits.idle);
}

#[tokio::test]
async fn an_answer_of_our_own_has_to_be_taken() {
    let mut activity = Activity::new();
    activity.stall = Duration::from_millis(50);
    let activity = Arc::new(activity);
    let relayed = UnderWay::begin(&activity, false);
    let mut taken = UnderWay::begin(&activity, false);
    taken.is_own();
    drop(taken);
    let mut left = UnderWay::begin(&activity, false);
    left.is_own();
    let begun = Instant::now();
    assert_eq!(activity.over(Limits::default(), None).await, Over::Stuck);
    assert!(begun.elapsed() >= activity.stall / 2);
    drop((left, relayed));
    assert!(activity.state.lock().own.is_empty());
}

#[tokio::test]
async fn whoever_reads_nothing_is_stuck_and_a_slow_reader_is_not() {
    let mut activity = Activity::new();
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
    let over = activity.over(Limits::default(), None);
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
