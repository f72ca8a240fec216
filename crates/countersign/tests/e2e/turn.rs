//! Turns for tests that start processes of their own.
//!
//! `cargo test` runs as many tests at once as the machine says it has cores. In a container that is
//! often more than it gets, and each of these tests keeps a core or two busy by itself.

use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;

/// How many take their turn at once.
const AT_ONCE: usize = 2;

static TAKEN: Mutex<usize> = Mutex::new(0);
static RETURNED: Condvar = Condvar::new();

/// A turn; the next one begins when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(());

impl Turn {
    /// Waits for a turn, however long that takes.
    pub(crate) fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = RETURNED
            .wait_while(taken, |taken| *taken >= AT_ONCE)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self(())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RETURNED.notify_one();
    }
}
