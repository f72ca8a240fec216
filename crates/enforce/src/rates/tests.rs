use super::*;
use countersign_core::config::Rate;
use countersign_core::vocabulary::Name;
use proptest::prelude::*;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

fn tier(name: &str, count: u32, per: u64, burst: u32, key: &str) -> Charge {
    let per = Duration::from_secs(per);
    let limit = Limit::Tier(Name::new(name).unwrap());
    Charge::new(limit, Rate { count, per, burst }, key.into())
}

fn listener(name: &str, count: u32, key: &str) -> Charge {
    let limit = Limit::Listener(Name::new(name).unwrap());
    Charge {
        limit,
        ..tier("x", count, 60, count, key)
    }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn all(rates: &Rates, charges: &[Charge], now: Duration) -> Vec<Charged> {
    rates.charge(charges, now, |granted| (granted, ())).0
}

fn one(rates: &Rates, charge: &Charge, now: Duration) -> Charged {
    all(rates, std::slice::from_ref(charge), now).remove(0)
}

fn granted(rates: &Rates, charge: &Charge, now: Duration) -> bool {
    one(rates, charge, now).is_granted()
}

#[test]
fn a_burst_then_the_average() {
    let (rates, charge) = (Rates::default(), tier("pro", 60, 60, 3, "a"));
    for left in [2, 1, 0] {
        let charged = one(&rates, &charge, at(0));
        assert_eq!((charged.is_granted(), charged.remaining), (true, left));
        assert_eq!(charged.reset_ms, u64::from(3 - left) * 1_000);
    }
    let refused = one(&rates, &charge, at(100));
    assert_eq!(refused.result, RateResult::Exceeded);
    assert_eq!((refused.remaining, refused.reset_ms), (0, 900));
    assert!(!granted(&rates, &charge, at(999)));
    assert!(granted(&rates, &charge, at(1_000)));
    assert!(!granted(&rates, &charge, at(1_999)));
    // What was refused was not counted.
    assert!(granted(&rates, &charge, at(2_000)));
    assert!(!granted(&rates, &charge, at(2_001)));
}

#[test]
fn each_key_and_each_limit_is_its_own() {
    let rates = Rates::default();
    let (mine, theirs) = (tier("free", 1, 60, 1, "a"), tier("free", 1, 60, 1, "b"));
    assert!(granted(&rates, &mine, at(0)) && granted(&rates, &theirs, at(0)));
    assert!(!granted(&rates, &mine, at(0)));
    assert!(granted(&rates, &listener("web", 1, "a"), at(0)));
    assert!(granted(&rates, &listener("mesh", 1, "a"), at(0)));
    assert!(!granted(&rates, &listener("web", 1, "a"), at(0)));
    assert!(granted(&rates, &tier("other", 1, 60, 1, "a"), at(0)));
    let operation = |pattern: &str| Charge {
        limit: Limit::Operation {
            pattern: pattern.into(),
            service: Name::new("api").unwrap(),
        },
        ..mine.clone()
    };
    assert!(granted(&rates, &operation("GET /a"), at(0)));
    assert!(granted(&rates, &operation("GET /b"), at(0)));
    assert!(!granted(&rates, &operation("GET /a"), at(0)));
}

#[test]
fn all_or_nothing() {
    let rates = Rates::default();
    let (wide, narrow) = (listener("web", 10, "a"), tier("free", 1, 60, 1, "a"));
    let both = [wide.clone(), narrow.clone()];
    assert!(all(&rates, &both, at(0)).iter().all(Charged::is_granted));
    for _ in 0..20 {
        let charged = all(&rates, &both, at(0));
        let results: Vec<_> = charged.iter().map(|it| it.result).collect();
        assert_eq!(results, [RateResult::Granted, RateResult::Exceeded]);
    }
    assert_eq!(one(&rates, &wide, at(0)).remaining, 8);
    // The same where something else refuses.
    for _ in 0..20 {
        let (charged, seen) = rates.charge(std::slice::from_ref(&wide), at(0), |granted| {
            (false, granted)
        });
        assert!(seen && charged.iter().all(Charged::is_granted));
    }
    assert_eq!(one(&rates, &wide, at(0)).remaining, 7);
    // One limit twice counts twice, or not at all.
    let twice = [tier("free", 1, 60, 1, "b"), tier("free", 1, 60, 1, "b")];
    assert!(!all(&rates, &twice, at(0)).iter().all(Charged::is_granted));
    assert!(granted(&rates, &tier("free", 1, 60, 1, "b"), at(0)));
}

#[test]
fn what_is_taken_back_is_never_more_than_there_was() {
    let rates = Rates::default();
    let charge = tier("free", 60, 60, 2, "a");
    let back = |at: Duration, now: Duration| {
        rates.take_back(std::slice::from_ref(&charge), at, now);
    };
    assert!(granted(&rates, &charge, at(0)) && granted(&rates, &charge, at(0)));
    back(at(0), at(0));
    assert!(granted(&rates, &charge, at(0)) && !granted(&rates, &charge, at(0)));
    // A second later the first call has leaked away by itself.
    let later = at(1_000);
    assert!(granted(&rates, &charge, later));
    back(at(0), later);
    assert!(!granted(&rates, &charge, later));
    // Nobody's call is nothing to take back.
    rates.take_back(&[tier("free", 60, 60, 2, "nobody")], at(0), later);
    assert!(rates.table.lock().buckets.len() == 1);
}

#[test]
fn another_pace_keeps_what_was_used_in_proportion() {
    let rates = Rates::default();
    let (free, pro) = (tier("t", 10, 60, 10, "a"), tier("t", 100, 60, 150, "a"));
    for _ in 0..10 {
        assert!(granted(&rates, &free, at(0)));
    }
    // Used up stays used up, whichever way and however often it changes.
    for _ in 0..5 {
        assert!(!granted(&rates, &free, at(0)) && !granted(&rates, &pro, at(0)));
    }
    // From here on it is the new pace's: 100 a minute.
    assert!(!granted(&rates, &pro, at(599)));
    assert!(granted(&rates, &pro, at(601)));
    // Half used is half used.
    let (small, large) = (tier("t", 10, 60, 10, "b"), tier("t", 40, 60, 40, "b"));
    for _ in 0..5 {
        assert!(granted(&rates, &small, at(0)));
    }
    assert_eq!(one(&rates, &large, at(0)).remaining, 19);
    // Nobody waits longer than the new limit takes to be whole again.
    let (fast, slow) = (tier("t", 1000, 1, 1000, "c"), tier("t", 10, 60, 10, "c"));
    for _ in 0..1000 {
        assert!(granted(&rates, &fast, at(0)));
    }
    let refused = one(&rates, &slow, at(0));
    assert_eq!((refused.is_granted(), refused.reset_ms), (false, 6_000));
}

#[test]
fn who_is_whole_again_is_forgotten_and_nobody_else() {
    let rates = Rates::with_room(100);
    let key = |number: u32| tier("free", 1, 60, 1, &number.to_string());
    for number in 0..100 {
        assert!(granted(&rates, &key(number), at(u64::from(number))));
    }
    // There is no room, and nobody that was counted gets through by it.
    let refused = one(&rates, &key(1_000), at(200));
    assert_eq!(
        (refused.result, refused.reset_ms),
        (RateResult::Crowded, 1_000)
    );
    for number in 0..100 {
        assert_eq!(
            one(&rates, &key(number), at(200)).result,
            RateResult::Exceeded
        );
    }
    // The first is whole again after a minute, and makes room; it is found within one turn.
    let mut turns = 0..2;
    assert!(turns.any(|_| granted(&rates, &key(1_000), at(60_000))));
    assert_eq!(rates.table.lock().buckets.len(), 100);
    assert!(!granted(&rates, &key(1_000), at(60_000)));
    assert!(!granted(&rates, &key(99), at(60_000)));
    // When all are, a few calls later nothing is left of them.
    for _ in 0..60 {
        one(&rates, &key(5_000), at(1_000_000));
    }
    let table = rates.table.lock();
    assert_eq!((table.buckets.len(), table.places.len()), (1, 1));
}

#[test]
fn concurrent_calls_never_overdraw() {
    let rates = Arc::new(Rates::default());
    let count = Arc::new(AtomicU32::new(0));
    let both = [listener("web", 500, "a"), tier("pro", 300, 60, 300, "b")];
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (rates, count, both) = (rates.clone(), count.clone(), both.clone());
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let charged = all(&rates, &both, at(0));
                    let granted = charged.iter().all(Charged::is_granted);
                    count.fetch_add(u32::from(granted), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 300);
    assert_eq!(one(&rates, &both[0], at(0)).remaining, 199);
}

#[test]
fn the_longest_and_shortest_limits_count() {
    let rates = Rates::default();
    let slow = tier("t", 1, 86_400, u32::MAX, "a");
    let charged = one(&rates, &slow, at(0));
    assert_eq!(
        (charged.remaining, charged.reset_ms),
        (u32::MAX - 1, 86_400_000)
    );
    let fast = tier("t", u32::MAX, 1, 1, "b");
    assert!(granted(&rates, &fast, at(0)) && !granted(&rates, &fast, at(0)));
    assert!(granted(&rates, &fast, Duration::from_nanos(1)));
    // From one to the other and back.
    assert!(granted(&rates, &tier("t", 1, 86_400, u32::MAX, "b"), at(1)));
    assert!(granted(
        &rates,
        &tier("t", u32::MAX, 1, 1, "a"),
        Duration::MAX
    ));
}

/// The definition: a call conforms if for every call that was let through before, no more than the
/// burst and what the average allows since then were let through, this one included.
fn naive(through: &[u64], now: u64, charge: &Charge) -> bool {
    (0..=through.len()).all(|from| {
        let (first, calls) = match through.get(from) {
            Some(first) => (*first, through.len() - from + 1),
            None => (now, 1),
        };
        let per = u128::from(charge.window) * 1_000_000_000;
        let allowed =
            u128::from(charge.burst) * per + u128::from(now - first) * u128::from(charge.count);
        calls as u128 * per <= allowed
    })
}

proptest! {
    #[test]
    fn as_the_definition_says(
        count in 1_u32..200,
        window in proptest::sample::select(vec![1_u64, 60, 3_600]),
        burst in 1_u32..20,
        steps in proptest::collection::vec((0_u64..4, 0_u64..1_000_000_000), 1..120),
    ) {
        let (rates, charge) = (Rates::default(), tier("t", count, window, burst, "a"));
        let interval = window * 1_000_000_000 / u64::from(count);
        let (mut now, mut through) = (0_u64, Vec::new());
        for (kind, step) in steps {
            now += match kind {
                0 => 0,
                1 => step % interval.max(1),
                2 => interval,
                _ => step,
            };
            let expected = naive(&through, now, &charge);
            let charged = one(&rates, &charge, Duration::from_nanos(now));
            prop_assert_eq!(charged.is_granted(), expected);
            if expected {
                through.push(now);
                // And as many more as it says could follow at once do, and no more.
                let mut more = through.clone();
                while more.len() < through.len() + 30 && naive(&more, now, &charge) {
                    more.push(now);
                }
                let more = u32::try_from(more.len() - through.len()).unwrap();
                prop_assert_eq!(charged.remaining, more);
            } else {
                let soon = now + charged.reset_ms * 1_000_000;
                prop_assert!(naive(&through, soon, &charge));
                let early = soon.saturating_sub(2_000_000).max(now);
                prop_assert!(early == now || !naive(&through, early, &charge));
            }
        }
    }

    #[test]
    fn no_change_of_a_limit_is_worth_a_call(
        paces in proptest::collection::vec((1_u32..100, 1_u32..20), 1..6),
        steps in proptest::collection::vec((0_usize..6, 0_u64..200_000_000), 1..200),
    ) {
        let rates = Rates::default();
        let charges: Vec<_> = paces.iter().map(|(count, burst)| tier("t", *count, 1, *burst, "a")).collect();
        // In shares of a whole burst: what was used, and what time gave back by the pace in force.
        let (mut now, mut used, mut given) = (Duration::ZERO, 0.0, 0.0);
        let mut pace: Option<&Charge> = None;
        for (index, step) in steps {
            let step = Duration::from_nanos(step);
            now += step;
            if let Some(pace) = pace {
                given += step.as_secs_f64() * f64::from(pace.count) / f64::from(pace.burst);
            }
            let charge = charges.get(index % charges.len()).unwrap();
            if granted(&rates, charge, now) {
                used += 1.0 / f64::from(charge.burst);
            }
            pace = Some(charge);
            prop_assert!(used <= 1.0 + given + 1e-6, "{used} of {given}");
        }
    }
}
