//! How long to wait before the server is asked again.

use aws_lc_rs::rand::SecureRandom as _;
use aws_lc_rs::rand::SystemRandom;
use std::time::Duration;

/// Waits that grow while the server is not believed. One that is merely gone is asked again about
/// each second: every moment without it counts against what is known.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    disbelieved: u32,
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

impl Backoff {
    /// The wait after another failure.
    pub(super) fn after(&mut self, disbelief: bool) -> Duration {
        let doublings = if disbelief {
            let before = self.disbelieved;
            self.disbelieved = before.saturating_add(1);
            before.min(6)
        } else {
            0
        };
        let whole = LONGEST.min(FIRST * (1 << doublings));
        spread(whole, share())
    }

    /// The server is believed again.
    pub(super) fn over(&mut self) {
        self.disbelieved = 0;
    }
}

/// Between three quarters and all of it, so that gateways that lost one server don't come back at
/// one moment.
fn spread(whole: Duration, share: u8) -> Duration {
    whole - whole / 1024 * u32::from(share)
}

/// A random part of 256; none where there is no randomness.
fn share() -> u8 {
    let mut byte = [0];
    // A pause needs no secret; without randomness it is the longest.
    let _ = SystemRandom::new().fill(&mut byte);
    let [share] = byte;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_the_server_is_not_believed_and_begins_anew_after() {
        let mut backoff = Backoff::default();
        let mut bounds = Vec::new();
        for _ in 0..9 {
            bounds.push(backoff.after(true));
        }
        for (wait, whole) in bounds.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
            let whole = Duration::from_secs(whole);
            assert!(
                *wait <= whole && *wait >= whole * 3 / 4,
                "{wait:?} {whole:?}"
            );
        }
        // Gone in between is no reason to forget it.
        assert!(backoff.after(false) <= FIRST);
        assert!(backoff.after(true) > FIRST * 40);
        backoff.over();
        assert!(backoff.after(true) <= FIRST);
    }

    #[test]
    fn pauses_are_spread_over_a_quarter() {
        let whole = Duration::from_secs(64);
        assert_eq!(spread(whole, 0), whole);
        assert_eq!(spread(whole, 128), Duration::from_secs(56));
        assert!(spread(whole, 255) > Duration::from_secs(48));
    }
}
