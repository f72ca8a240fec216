//! The configuration: its model, and the language it is read from.
//!
//! [`Config`] is what a checked file means: names are resolved, small strings are parsed, defaults
//! are filled in, and every entry remembers the [`Place`] it was written at, because explanations
//! name lines.

mod model;

pub use model::*;
