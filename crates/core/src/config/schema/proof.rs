//! `tests`: sentences about who can do what.

use super::CALL;
use super::EXPECTATION;
use super::Form;
use super::MEMBER;
use super::Shape;
use super::VIA;
use super::may;
use super::must;
use super::shape;

/// An entry of `tests`.
pub static TEST: Shape = shape(
    "a test",
    "A sentence that must hold.",
    &[
        must("as", Form::Text(&MEMBER), "Who asks."),
        may(
            "via",
            Form::Text(&VIA),
            "directly",
            "The door and the workloads it comes by.",
        ),
        must("call", Form::Text(&CALL), "What is asked."),
        may(
            "with",
            Form::Any,
            "nothing",
            "What the request says: `model` for a model, members of the input otherwise.",
        ),
        must(
            "expect",
            Form::Text(&EXPECTATION),
            "`allow`, `deny <pillar>` or `needs-approval`.",
        ),
    ],
);
