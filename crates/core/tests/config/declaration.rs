//! The declaration and the parser agree: every declared key is read, required keys are missed.

use countersign_core::config::Diagnostic;
use countersign_core::config::Loaded;
use countersign_core::config::Options;
use countersign_core::config::codes;
use countersign_core::config::load_text;
use countersign_core::config::schema;
use countersign_core::config::schema::Form;
use countersign_core::config::schema::Presence;
use countersign_core::config::schema::Shape;

/// No key takes a list of lists.
const NONSENSE: &str = "[[0]]";

struct Walk {
    keys: usize,
}

impl Walk {
    /// Tries each key of a shape that is written between `before` and `after`.
    fn shape(&mut self, shape: &Shape, before: &str, after: &str) {
        for key in shape.keys {
            self.keys += 1;
            let start = format!("{before}{{ \"{}\": ", key.name);
            let text = format!("{start}{NONSENSE} }}{after}");
            let loaded = load_text("a.yaml", text.as_str(), &Options::default());
            let there = |from: usize, to: usize| {
                let span = |it: &Diagnostic| it.span().start as usize;
                let inside = move |it: &&Diagnostic| (from..to).contains(&span(it));
                loaded
                    .errors()
                    .filter(inside)
                    .map(|it| it.code)
                    .collect::<Vec<_>>()
            };
            let found = there(start.len(), start.len() + NONSENSE.len());
            assert!(!found.is_empty(), "nothing reads {text}");
            let close = format!(" }}{after}");
            match key.form {
                Form::Map(inner) | Form::ChoiceOr(_, inner) => self.shape(inner, &start, &close),
                Form::Entries(grammar, inner) => {
                    let example = grammar.example;
                    self.shape(
                        inner,
                        &format!("{start}{{ \"{example}\": "),
                        &format!(" }}{close}"),
                    );
                }
                _ => {}
            }
        }
        self.required(shape, before, after);
    }

    fn required(&self, shape: &Shape, before: &str, after: &str) {
        let loaded = load_text(
            "a.yaml",
            format!("{before}{{}}{after}"),
            &Options::default(),
        );
        for key in shape
            .keys
            .iter()
            .filter(|key| key.presence == Presence::Required)
        {
            assert!(
                says(&loaded, &format!("needs `{}`", key.name)),
                "{} without {}",
                shape.name,
                key.name
            );
        }
    }
}

fn says(loaded: &Loaded, words: &str) -> bool {
    loaded
        .errors()
        .any(|it| it.code == codes::MISSING_KEY && it.message.contains(words))
}

#[test]
fn every_declared_key_is_read() {
    let mut walk = Walk { keys: 0 };
    walk.shape(&schema::FILE, "", "");
    assert!(walk.keys > 90, "{}", walk.keys);
}

#[test]
fn every_key_is_explained() {
    fn check(shape: &Shape) {
        assert!(shape.doc.ends_with('.'), "{}", shape.name);
        for key in shape.keys {
            assert!(key.doc.ends_with('.'), "{} {}", shape.name, key.name);
            if let Form::Map(inner) | Form::Entries(_, inner) | Form::ChoiceOr(_, inner) = key.form
            {
                check(inner);
            }
        }
    }
    check(&schema::FILE);
}
