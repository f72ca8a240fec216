//! From the return of the command to the end of each stream at its caller, while the same gateway
//! has other things to do.

use crate::caller::Door;
use crate::ending::jti;
use crate::load::Caller;
use crate::load::Does;
use crate::load::Token;
use crate::place::Place;
use crate::place::Roles;
use crate::stream::ALL;
use crate::stream::Stream;
use crate::upstream::Upstream;
use std::time::Duration;

/// Each round has one stream of each kind, and one revocation for all of them.
const ROUNDS: usize = 10;
/// Half of all streams end within this, and nearly all within the other. On a machine with nothing
/// else to do it is a few milliseconds; what these find on any machine is something that looks
/// again every second, or every few.
const HALF: Duration = Duration::from_millis(500);
const NEARLY_ALL: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_one_process() {
    measure(Roles::Together).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_gateway_apart() {
    measure(Roles::Apart).await;
}

async fn measure(roles: Roles) {
    let upstream = Upstream::start().await;
    let place = Place::new(roles);
    place.configure(
        "",
        &format!(
            "identities: {{ loader: {{}}, caller: {{}} }}
roles: {{ reader: {{ members: [loader, caller], may: [\"item:read\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /**: {{ needs: \"item:read\" }}, POST /**: {{ needs: \"item:read\" }}, connect: {{ needs: \"item:read\" }} }}
edges:
  loader -> api: [GET /**, POST /**, connect]
  caller -> api: [GET /**, POST /**, connect]
",
            upstream.port
        ),
    );
    let running = place.start();
    let (loader, _) = place.issue("loader");
    let (caller, _) = place.issue("caller");
    let token = Token::new(place.token(&loader).await);
    let door = Door::mesh(&loader, place.mesh);
    let load = [Does::Asks(false), Does::Asks(true), Does::Calls]
        .map(|does| Caller::start(does, &door, vec![place.mesh], &token));
    load[0].gets(5).await;
    let door = Door::mesh(&caller, place.mesh);
    let (mut after, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        token.set(place.token(&loader).await);
        let shown = place.token(&caller).await;
        let bearer = format!("Bearer {shown}");
        let mut streams = Vec::new();
        for kind in ALL {
            let fields = [("authorization", bearer.as_str())];
            streams.push(Stream::open(kind, &door, &fields, &upstream).await);
        }
        let jti = jti(&shown);
        let revoke = ["identity", "revoke", "token", &jti];
        let (asked, _, returned) = place.timed(&revoke).await;
        for stream in streams {
            let (kind, ended) = stream.ended().await;
            kind.check(&ended.how, &["CSD301"]);
            assert!(ended.at > asked, "{kind:?} ended before it was revoked");
            after.push(ended.at.saturating_duration_since(returned));
            whole.push(ended.at - asked);
        }
    }
    assert!(after.len() >= 100, "{}", after.len());
    let mut calls = 0;
    for caller in load {
        calls += caller.lost_nothing().await;
    }
    assert!(calls > 100, "a load of nothing: {calls}");
    for running in running.into_iter().rev() {
        running.stop().await;
    }
    let [half, nearly, last] = [50, 99, 100].map(|share| percentile(&mut after, share));
    let [h, n, l] = [50, 99, 100].map(|share| percentile(&mut whole, share));
    println!(
        "{roles:?}: {} streams under a load of {calls} calls: p50 {half:.1?}, p99 {nearly:.1?}, last \
         {last:.1?} after the return of the command; since its beginning p50 {h:.1?}, p99 {n:.1?}, \
         last {l:.1?}",
        after.len()
    );
    assert!(half < HALF, "{half:?}");
    assert!(nearly < NEARLY_ALL, "{nearly:?}");
}

fn percentile(times: &mut [Duration], share: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * share).div_ceil(100) - 1]
}
