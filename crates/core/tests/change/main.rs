//! What a change of the configuration is said to do, against what it does.

#![expect(
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod flips;
mod matrix;
mod remedy;
mod table;

use countersign_core::change::Difference;
use countersign_core::change::difference;
use countersign_core::config::Config;
use countersign_core::config::Options;
use countersign_core::config::load_text;

const HMS: &str = include_str!("../../../../examples/hms/countersign.yaml");

fn config(text: &str) -> Config {
    let options = Options {
        dev: true,
        strict: false,
    };
    let loaded = load_text("countersign.yaml", text, &options);
    let errors: Vec<_> = loaded.errors().map(|it| it.message.clone()).collect();
    assert_eq!(errors, Vec::<String>::new(), "{text}");
    loaded.config.unwrap()
}

/// The difference that replacing one text by another in the clinic's file makes.
fn edit(from: &str, to: &str) -> Difference {
    let edited = HMS.replace(from, to);
    assert_ne!(edited, HMS, "there is no {from}");
    difference(&config(HMS), &config(&edited))
}
