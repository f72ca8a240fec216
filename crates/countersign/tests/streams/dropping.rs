//! Reloads, restarts and the end of a process under callers who send everything once.

use crate::caller::Door;
use crate::load::Caller;
use crate::load::Does;
use crate::load::Token;
use crate::place::PATIENCE;
use crate::place::Place;
use crate::place::Roles;
use crate::upstream::Upstream;
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;
use std::time::Instant;

const RELOADS: usize = 20;

/// The configuration of a round: a door that comes and goes, one that moves, and an application
/// that moves.
fn configure(place: &Place, upstreams: &[Upstream; 2], round: usize) {
    let [moving, moved, extra] = place.spare;
    let second = if round.is_multiple_of(2) {
        moving
    } else {
        moved
    };
    let mut listeners = format!("  second: {{ bind: \"127.0.0.1:{second}\", peer: service }}\n");
    if round % 3 == 1 {
        let extra = format!("  extra: {{ bind: \"127.0.0.1:{extra}\", peer: service }}\n");
        listeners.push_str(&extra);
    }
    place.configure(
        &listeners,
        &format!(
            "staleness: {{ revocations: 60s }}
identities: {{ loader: {{}} }}
roles: {{ reader: {{ members: [loader], may: [\"item:read\"] }} }}
services:
  api:
    peer: service
    url: \"http://127.0.0.1:{}\"
    operations: {{ GET /**: {{ needs: \"item:read\" }}, POST /**: {{ needs: \"item:read\" }} }}
edges:
  loader -> api: [GET /**, POST /**]
",
            upstreams[round / 2 % 2].port
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_dropped_in_one_process() {
    drops_nothing(Roles::Together).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_dropped_at_a_gateway_apart() {
    drops_nothing(Roles::Apart).await;
}

async fn drops_nothing(roles: Roles) {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let place = Place::new(roles);
    configure(&place, &upstreams, 0);
    let mut running = place.start();
    let (identity, _) = place.issue("loader");
    let token = Token::new(place.token(&identity).await);
    let door = Door::mesh(&identity, place.mesh);
    let (still, [one, other, _]) = (vec![place.mesh], place.spare);
    let moving = vec![one, other];
    let load = [
        (Does::Asks(false), &still),
        (Does::Asks(true), &still),
        (Does::Calls, &still),
        (Does::Echoes, &still),
        (Does::Asks(false), &moving),
        (Does::Asks(true), &moving),
    ];
    let load = load.map(|(does, ports)| Caller::start(does, &door, ports.clone(), &token));
    for caller in &load {
        caller.gets(2).await;
    }
    for round in 1..=RELOADS {
        configure(&place, &upstreams, round);
        reload(&place, &running[0], round).await;
        token.set(place.token(&identity).await);
        // Each of them gets through between two changes.
        for caller in &load {
            caller.gets(2).await;
        }
    }
    for caller in &load[..4] {
        // Nothing changed for those at the door that stays.
        assert_eq!(caller.connections(), 1, "{}", caller.what);
    }
    for caller in &load[4..] {
        assert!(caller.connections() > RELOADS / 2, "{}", caller.what);
    }
    if roles == Roles::Apart {
        let server = running.remove(0);
        server.stop().await;
        for caller in &load {
            caller.gets(5).await;
        }
        running.insert(0, place.server());
        token.set(place.token(&identity).await);
        for caller in &load {
            caller.gets(5).await;
        }
    }
    let before: Vec<_> = load.iter().map(Caller::answers).collect();
    let doors = running.pop().unwrap();
    doors.signal(Signal::TERM);
    // A WebSocket goes on until its caller ends it.
    load[3].gets(20).await;
    for caller in &load {
        caller.stop();
    }
    let stopping = Instant::now();
    doors.ended().await;
    let took = stopping.elapsed();
    let mut answers = Vec::new();
    for (caller, before) in load.into_iter().zip(before) {
        let what = caller.what.clone();
        let all = caller.lost_nothing().await;
        answers.push(format!("{what}: {before}, then {}", all - before));
    }
    for running in running {
        running.stop().await;
    }
    println!("{roles:?}: nothing lost of {answers:?}; the last process ended in {took:.1?}");
}

/// Reloads by command or by signal, and waits until it is in force.
async fn reload(place: &Place, server: &crate::place::Running, round: usize) {
    if round.is_multiple_of(2) {
        place.told(&["reload"]).await;
        return;
    }
    server.signal(Signal::HUP);
    let until = Instant::now() + PATIENCE;
    loop {
        let status: Value = place.told(&["status"]).await;
        if status["file"]["drift"] == "none" {
            return;
        }
        assert!(
            Instant::now() < until,
            "not reloaded: {status}\n{}",
            place.said()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
