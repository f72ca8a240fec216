//! `tests`: sentences about who can do what.

use super::Call;
use super::Spanned;
use super::Test;
use super::grammar;
use super::reader::Reader;
use super::reader::Wrong;
use super::reader::listed;
use super::reader::shortened;
use super::roles;
use crate::config::Expectation;
use crate::config::codes;
use crate::config::schema;
use crate::config::suggest::closest;
use crate::config::yaml::Node;
use crate::vocabulary::CanonicalPath;
use crate::vocabulary::Name;
use crate::vocabulary::Operation;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::Pillar;

pub(super) fn tests(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Test>> {
    let mut tests = Vec::new();
    for (key, value) in reader.entries(node)? {
        let Some(name) = reader.text(key) else {
            continue;
        };
        let name = name.to_owned();
        let Some(fields) = reader.fields(value, &schema::TEST, key.span) else {
            continue;
        };
        tests.push(Test {
            span: key.span,
            name,
            subject: fields.text(reader, "as", roles::member),
            via: fields.read(reader, "via", via),
            call: fields.read(reader, "call", call),
            with: fields.read(reader, "with", |reader, node| reader.object(node)),
            expect: fields.text(reader, "expect", expectation),
        });
    }
    Some(tests)
}

/// `web > frontend`.
fn via(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<Spanned<Name>>> {
    let text = reader.text(node)?;
    let mut stops = Vec::new();
    let mut start = 0;
    for part in text.split('>') {
        let word = part.trim();
        let from = start + part.len() - part.trim_start().len();
        let span = reader.inside(node, from..from + word.len());
        start += part.len() + 1;
        match grammar::name(word) {
            Ok(value) => stops.push(Spanned { value, span }),
            Err(_) => {
                let message = format!("`{}` is no stop on the way", shortened(word));
                reader.error(
                    codes::SENTENCE,
                    span,
                    message,
                    "write names with `>` between them: `web > frontend`",
                );
                return None;
            }
        }
    }
    Some(stops)
}

/// `GET hms-api/v1/reports/42`, `read mailer`, `connect reports-db`.
fn call(reader: &mut Reader<'_>, node: &Node) -> Option<Call> {
    let (service, at, operation) = reader.grammar(node, split_call)?;
    let span = reader.inside(node, at);
    Some(Call {
        service: Spanned {
            value: service,
            span,
        },
        operation,
    })
}

fn split_call(text: &str) -> Result<(String, std::ops::Range<usize>, Operation), Wrong> {
    let wrong = |message: String| {
        let help = "write `GET hms-api/v1/reports/42`, `read mailer` or `connect reports-db`";
        Wrong::all(codes::SENTENCE, text, message, help)
    };
    let Some((verb, rest)) = text.trim_end().split_once(' ') else {
        return Err(wrong(format!("`{}` is not a call", shortened(text))));
    };
    let rest = rest.trim_start();
    let start = text.trim_end().len() - rest.len();
    let http = verb.bytes().all(|b| b.is_ascii_uppercase());
    let (service, object) = match verb {
        _ if http => rest
            .find('/')
            .and_then(|at| rest.split_at_checked(at))
            .unwrap_or((rest, "/")),
        // Secrets live in the built-in vault and have no other place.
        "read" | "write" | "lease" if !rest.contains(' ') => ("vault", rest),
        _ => rest.split_once(' ').unwrap_or((rest, "")),
    };
    let at = if service == "vault" && !http {
        0..text.len()
    } else {
        start..start + service.len()
    };
    // The path is compared as a request's would be, so it has to be one.
    let object = if http {
        let path = object.split_once('?').map_or(object, |(path, _)| path);
        let canonical = CanonicalPath::new(path).map_err(|error| wrong(error.to_string()))?;
        canonical.as_str().to_owned()
    } else {
        object.to_owned()
    };
    let pattern = if http {
        format!("{verb} /")
    } else {
        format!("{verb} {object}")
    };
    OperationPattern::parse(&pattern).map_err(|error| wrong(error.to_string()))?;
    Ok((
        service.to_owned(),
        at,
        Operation {
            verb: verb.to_owned(),
            object,
        },
    ))
}

fn expectation(text: &str) -> Result<Expectation, Wrong> {
    let words = Pillar::ALL.map(Pillar::word);
    if text == "allow" {
        return Ok(Expectation::Allow);
    }
    if text == "needs-approval" {
        return Ok(Expectation::NeedsApproval);
    }
    let Some(pillar) = text.strip_prefix("deny").map(str::trim_start) else {
        let message = format!("`{}` is nothing a test can expect", shortened(text));
        let help = match closest(text, ["allow", "deny"]) {
            Some(word) => format!("did you mean `{word}`?"),
            None => "write `allow` or `deny <pillar>`".to_owned(),
        };
        return Err(Wrong::all(codes::SENTENCE, text, message, help));
    };
    Pillar::from_word(pillar)
        .map(Expectation::Deny)
        .ok_or_else(|| {
            let help = match closest(pillar, words) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("name one of the pillars {}", listed(words)),
            };
            let at = text.len() - pillar.len()..text.len();
            let message = if pillar.is_empty() {
                "deny by which pillar?".to_owned()
            } else {
                format!("`{}` is no pillar", shortened(pillar))
            };
            Wrong::at(codes::SENTENCE, at, message, help)
        })
}
