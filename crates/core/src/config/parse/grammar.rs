//! The small grammars: what is written inside one text.
// long: one small grammar after the other, each with its own words for what is wrong

use super::reader::Wrong;
use super::reader::listed;
use super::reader::shortened;
use crate::config::CredentialForm;
use crate::config::Grant;
use crate::config::Hours;
use crate::config::Needs;
use crate::config::Owner;
use crate::config::Rate;
use crate::config::Screen;
use crate::config::ServiceAccount;
use crate::config::Window;
use crate::config::codes;
use crate::config::suggest::closest;
use crate::vocabulary::CanonicalPath;
use crate::vocabulary::Digest;
use crate::vocabulary::Name;
use crate::vocabulary::OperationPattern;
use crate::vocabulary::PatternError;
use crate::vocabulary::Permission;
use crate::vocabulary::TrustDomain;
use std::time::Duration;

pub(super) type Parsed<T> = Result<T, Wrong>;

pub(super) fn name(text: &str) -> Parsed<Name> {
    Name::new(text).map_err(|error| {
        let usable = usable_name(text);
        let help = match Name::new(&usable) {
            Ok(name) => format!("write `{name}`"),
            Err(_) => "write a name such as `hms-api`".to_owned(),
        };
        Wrong::all(
            codes::NAME,
            text,
            format!("`{}` is not a name", shortened(text)),
            help,
        )
        .label(error.to_string())
    })
}

/// The name that was probably meant.
fn usable_name(text: &str) -> String {
    let fold = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
        _ => '-',
    };
    let folded: String = text.chars().take(63).map(fold).collect();
    folded
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

pub(super) fn permission(text: &str) -> Parsed<Permission> {
    Permission::new(text).map_err(|error| {
        let help = if text.contains('*') {
            "list the permissions one by one, such as `report:read`".to_owned()
        } else {
            format!("write `{}`", usable_permission(text))
        };
        let message = format!("`{}` is not a permission", shortened(text));
        Wrong::all(codes::PERMISSION, text, message, help).label(error.to_string())
    })
}

fn usable_permission(text: &str) -> String {
    let fold = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
        _ => ':',
    };
    let folded: String = text.chars().take(60).map(fold).collect();
    let words: Vec<_> = folded.split(':').filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [] => "report:read".to_owned(),
        [word] => format!("{word}:use"),
        words => words.join(":"),
    }
}

pub(super) fn needs(text: &str) -> Parsed<Needs> {
    if text == "edge" {
        Ok(Needs::Edge)
    } else {
        permission(text).map(Needs::Permission)
    }
}

pub(super) fn trust_domain(text: &str) -> Parsed<TrustDomain> {
    TrustDomain::new(text).map_err(|error| {
        let bare = text
            .strip_prefix("spiffe://")
            .unwrap_or(text)
            .trim_end_matches('/')
            .to_lowercase();
        let help = match TrustDomain::new(&bare) {
            Ok(domain) => format!("write `{domain}`"),
            Err(_) => "write a domain such as `acme.internal`".to_owned(),
        };
        Wrong::all(codes::TRUST_DOMAIN, text, error.to_string(), help)
    })
}

/// `15m`, `30d`, `7y`, `500ms`.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    millis(text).map(Duration::from_millis).ok_or_else(|| {
        let help = match beyond(text, |unit| millis_of(unit).is_some()) {
            Some(Beyond::Nothing) => "write a duration above 0, such as `30s`",
            Some(Beyond::Most) => "write at most `500000000y`",
            None => "write a whole number and `ms`, `s`, `m`, `h`, `d`, `w` or `y`, such as `30s`",
        };
        Wrong::all(
            codes::QUANTITY,
            text,
            format!("`{}` is not a duration", shortened(text)),
            help,
        )
    })
}

fn millis(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let total = number.checked_mul(millis_of(unit)?)?;
    Some(total).filter(|millis| *millis > 0)
}

fn millis_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        // Seven years end no earlier than on the calendar.
        "y" => 366 * 86_400_000,
        _ => return None,
    })
}

/// How a number with a known unit can be wrong all the same.
#[derive(Clone, Copy)]
enum Beyond {
    /// It is not above 0.
    Nothing,
    /// It is above the most.
    Most,
}

fn beyond(text: &str, known: impl Fn(&str) -> bool) -> Option<Beyond> {
    let number = text.strip_prefix('-').unwrap_or(text);
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = number.split_at_checked(digits)?;
    if digits.is_empty() || !known(unit) {
        return None;
    }
    let nothing = number.len() < text.len() || digits.bytes().all(|b| b == b'0');
    Some(if nothing {
        Beyond::Nothing
    } else {
        Beyond::Most
    })
}

/// `64KiB`.
pub(super) fn size(text: &str) -> Parsed<u64> {
    bytes(text).ok_or_else(|| {
        let help = match beyond(text, |unit| bytes_of(unit).is_some()) {
            Some(Beyond::Nothing) => "write a size above 0, such as `64KiB`",
            Some(Beyond::Most) => "write at most `17179869183GiB`",
            None => "write a whole number and `B`, `KiB`, `MiB` or `GiB`, such as `64KiB`",
        };
        Wrong::all(
            codes::QUANTITY,
            text,
            format!("`{}` is not a size", shortened(text)),
            help,
        )
    })
}

fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let total = number.checked_mul(bytes_of(unit)?)?;
    Some(total).filter(|bytes| *bytes > 0)
}

fn bytes_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    })
}

/// A positive whole number.
pub(super) fn count(text: &str) -> Parsed<u32> {
    count_of(text).ok_or_else(|| {
        let message = format!("`{}` is not a count", shortened(text));
        Wrong::all(
            codes::QUANTITY,
            text,
            message,
            "write a whole number above 0, such as `100`",
        )
    })
}

fn count_of(text: &str) -> Option<u32> {
    let (number, _) = number_and_unit(text).filter(|(_, unit)| unit.is_empty())?;
    u32::try_from(number).ok().filter(|number| *number > 0)
}

pub(super) fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// `$2.50`, in micro-dollars.
pub(super) fn dollars(text: &str) -> Parsed<u64> {
    micro_dollars(text).ok_or_else(|| {
        let message = format!("`{}` is not an amount", shortened(text));
        let bare = micro_dollars(&format!("${text}")).map(|_| format!("write `${text}`"));
        Wrong::all(
            codes::QUANTITY,
            text,
            message,
            bare.unwrap_or_else(|| "write an amount such as `$2.50`".to_owned()),
        )
    })
}

fn micro_dollars(text: &str) -> Option<u64> {
    let amount = text.strip_prefix('$')?;
    let (whole, cents) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(cents) || cents.len() > 6 {
        return None;
    }
    let micros: u64 = format!("{cents:0<6}").parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros)
}

/// `$50/day`.
pub(super) fn spending(text: &str) -> Parsed<(u64, Window)> {
    let Some((amount, window)) = text.split_once('/') else {
        let help = format!("say per what time, such as `{}/day`", shortened(text));
        return Err(Wrong::all(
            codes::QUANTITY,
            text,
            "a limit without a time",
            help,
        ));
    };
    let limit = dollars(amount).map_err(|wrong| match micro_dollars(&format!("${amount}")) {
        Some(_) => Wrong {
            help: format!("write `${}`", shortened(text)),
            ..wrong
        },
        None => wrong,
    })?;
    let window = match window {
        "hour" => Window::Hour,
        "day" => Window::Day,
        "week" => Window::Week,
        "month" => Window::Month,
        other => {
            let at = amount.len() + 1..text.len();
            let help = "write `hour`, `day`, `week` or `month`";
            return Err(Wrong::at(
                codes::QUANTITY,
                at,
                format!("`{}` is not a window", shortened(other)),
                help,
            ));
        }
    };
    Ok((limit, window))
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `mon-fri 08:00-18:00` or `08:00-18:00`, in UTC.
pub(super) fn hours(text: &str) -> Parsed<Hours> {
    window_of_week(text).ok_or_else(|| {
        let message = format!("`{}` is not a weekly window", shortened(text));
        Wrong::all(
            codes::QUANTITY,
            text,
            message,
            "write days and times in UTC, such as `mon-fri 08:00-18:00`",
        )
    })
}

fn window_of_week(text: &str) -> Option<Hours> {
    let (days, times) = text
        .split_once(' ')
        .map_or(("mon-sun", text), |(days, times)| {
            (days, times.trim_start())
        });
    let day = |word: &str| {
        DAYS.iter()
            .position(|it| *it == word)
            .and_then(|it| u8::try_from(it).ok())
    };
    let (first, last) = days.split_once('-').unwrap_or((days, days));
    let (from, to) = times.split_once('-')?;
    let hours = Hours {
        first_day: day(first)?,
        last_day: day(last)?,
        from: minute(from)?,
        to: minute(to)?,
    };
    (hours.from != hours.to && hours.from < 24 * 60).then_some(hours)
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |part: &str| {
        (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let (hour, minute): (u16, u16) = (two(hour)?, two(minute)?);
    (hour < 24 && minute < 60 || hour == 24 && minute == 0).then_some(hour * 60 + minute)
}

/// An operation or a pattern of them.
pub(super) fn operation(text: &str) -> Parsed<OperationPattern> {
    OperationPattern::parse(text).map_err(|error| {
        let verb = text.split_whitespace().next().unwrap_or_default();
        let start = text.find(verb).unwrap_or_default();
        let object = text
            .get(start + verb.len()..)
            .map_or(text.len(), |rest| text.len() - rest.trim_start().len());
        let whole = 0..text.len();
        let (at, help) = match &error {
            PatternError::Form => (
                whole,
                "write `VERB /path`, such as `GET /v1/reports/**`".to_owned(),
            ),
            PatternError::Verb(_) => (start..start + verb.len(), verb_help(text, verb)),
            PatternError::Trace => (whole, "remove it".to_owned()),
            PatternError::Path if object >= text.len() => {
                (whole, format!("add a path, such as `{verb} /**`"))
            }
            PatternError::Path => (
                object..text.len(),
                path_help(text.get(object..).unwrap_or_default()),
            ),
            PatternError::Name => (
                object..text.len(),
                "write a name such as `mailer`".to_owned(),
            ),
        };
        Wrong::at(codes::OPERATION, at, error.to_string(), help)
    })
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

fn verb_help(text: &str, verb: &str) -> String {
    if verb.starts_with('/') {
        return format!("write the method first: `GET {}`", shortened(text));
    }
    match closest(verb, METHODS)
        .or_else(|| METHODS.into_iter().find(|it| it.eq_ignore_ascii_case(verb)))
    {
        Some(method) => format!("did you mean `{method}`?"),
        None => format!("use one of {}", listed(METHODS)),
    }
}

fn path_help(path: &str) -> String {
    if path.contains('?') {
        return "remove the query: it is forwarded but never matched".to_owned();
    }
    if path.starts_with("**") || path.starts_with('*') {
        return format!("write `/{}`", shortened(path));
    }
    if !path.starts_with('/') {
        return format!("start the path with a slash: `/{}`", shortened(path));
    }
    "write the path as it is sent, `*` for one whole segment, `/**` at the end for anything below"
        .to_owned()
}

/// `bearer` or `header:<name>`.
pub(super) fn credential_form(text: &str) -> Parsed<CredentialForm> {
    if text == "bearer" {
        return Ok(CredentialForm::Bearer);
    }
    let Some(name) = text.strip_prefix("header:") else {
        let message = format!("`{}` is no way to put in a credential", shortened(text));
        return Err(Wrong::all(
            codes::CHOICE,
            text,
            message,
            "write `bearer` or `header:<name>`",
        ));
    };
    let folded = name.to_ascii_lowercase();
    let steering = STEERING.contains(&folded.as_str()) || folded == "cookie";
    match header_name(name) {
        _ if steering => Err(Wrong::all(
            codes::HOST,
            name,
            format!("a credential can't travel as `{name}`"),
            "use `bearer`",
        )),
        Some(name) => Ok(CredentialForm::Header(name)),
        None => Err(not_a_header(name)),
    }
    .map_err(|wrong| wrong.shifted("header:".len()))
}

/// Headers that steer the connection or say who is calling.
const STEERING: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const PROOF: [&str; 6] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
    "dpop",
];

/// A header that may travel to a third party.
pub(super) fn forwarded_header(text: &str) -> Parsed<String> {
    let Some(name) = header_name(text) else {
        return Err(not_a_header(text));
    };
    if STEERING.contains(&name.as_str())
        || PROOF.contains(&name.as_str())
        || name.starts_with("countersign-")
    {
        let message = format!("`{name}` can't be passed on to a third party");
        let help = "remove it; what a caller proves itself with stays here";
        return Err(Wrong::all(codes::HOST, text, message, help));
    }
    Ok(name)
}

/// RFC 9110 section 5.1, folded to lower case.
fn header_name(text: &str) -> Option<String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(fine))
        .then(|| text.to_ascii_lowercase())
}

fn not_a_header(text: &str) -> Wrong {
    let message = format!("`{}` is not a header name", shortened(text));
    Wrong::all(
        codes::HOST,
        text,
        message,
        "write a name such as `x-request-id`",
    )
}

/// A model, with `*` as a wildcard.
pub(super) fn model(text: &str) -> Parsed<String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.:/@*+".contains(c);
    if !text.is_empty() && text.len() <= 128 && text.chars().all(fine) {
        return Ok(text.to_owned());
    }
    let message = format!("`{}` is not a model", shortened(text));
    Err(Wrong::all(
        codes::CHOICE,
        text,
        message,
        "write a model such as `gpt-4o`, or a pattern such as `gpt-*`",
    ))
}

/// The name of a system user.
pub(super) fn unix_user(text: &str) -> Parsed<String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= 32 && !text.starts_with('-') && text.bytes().all(fine) {
        return Ok(text.to_owned());
    }
    let message = format!("`{}` is not a user name", shortened(text));
    Err(Wrong::all(
        codes::NAME,
        text,
        message,
        "write the name of a system user, such as `hms`",
    ))
}

/// `100/min burst 150`.
pub(super) fn rate(text: &str) -> Parsed<Rate> {
    rate_parts(text).ok_or_else(|| {
        let message = format!("`{}` is not a rate", shortened(text));
        let help = match number_and_unit(text) {
            Some((number, "")) if number > 0 => {
                format!("say per what time, such as `{number}/min`")
            }
            _ => match beyond(text, is_rate_unit) {
                Some(Beyond::Nothing) => "write a count above 0, such as `100/min`".to_owned(),
                Some(Beyond::Most) => format!("write a count of at most `{}`", u32::MAX),
                None => {
                    "write a count and `/s`, `/min`, `/h` or `/day`, such as `100/min burst 150`"
                        .to_owned()
                }
            },
        };
        Wrong::all(codes::QUANTITY, text, message, help)
    })
}

fn rate_parts(text: &str) -> Option<Rate> {
    let (average, burst) = match text.split_once(' ') {
        Some((average, rest)) => (average, Some(rest.trim_start().strip_prefix("burst ")?)),
        None => (text, None),
    };
    let (count, per) = average.split_once('/')?;
    let seconds = seconds_of(per)?;
    let count = count_of(count)?;
    let burst = burst.map_or(Some(count), |text| count_of(text.trim_start()))?;
    Some(Rate {
        count,
        per: Duration::from_secs(seconds),
        burst,
    })
}

fn seconds_of(per: &str) -> Option<u64> {
    Some(match per {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "day" => 86_400,
        _ => return None,
    })
}

/// Whether it is what follows the count of a rate without burst.
fn is_rate_unit(text: &str) -> bool {
    text.strip_prefix('/')
        .is_some_and(|per| seconds_of(per).is_some())
}

/// `80%`.
pub(super) fn percent(text: &str) -> Parsed<u8> {
    let number =
        number_and_unit(text).filter(|(number, unit)| *unit == "%" && (1..=100).contains(number));
    number
        .and_then(|(number, _)| u8::try_from(number).ok())
        .ok_or_else(|| {
            let message = format!("`{}` is not a share", shortened(text));
            Wrong::all(
                codes::QUANTITY,
                text,
                message,
                "write a share from `1%` to `100%`, such as `80%`",
            )
        })
}

/// `SELECT on reports`.
pub(super) fn grant(text: &str) -> Parsed<Grant> {
    const PRIVILEGES: [&str; 8] = [
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "USAGE",
        "EXECUTE",
    ];
    let words: Vec<_> = text.split_whitespace().collect();
    let table = |it: &str| {
        let part = |it: &str| {
            let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            !it.is_empty() && it.len() <= 63 && it.bytes().all(fine)
        };
        it.split('.').count() <= 2 && it.split('.').all(part)
    };
    if let [privilege, "on", object] = words.as_slice()
        && PRIVILEGES.contains(privilege)
        && table(object)
    {
        return Ok(Grant {
            privilege: (*privilege).to_owned(),
            object: (*object).to_owned(),
        });
    }
    let message = format!("`{}` is not a grant", shortened(text));
    let upper = words
        .first()
        .map(|it| it.to_ascii_uppercase())
        .unwrap_or_default();
    let help = match (closest(&upper, PRIVILEGES), words.last()) {
        (Some(privilege), Some(object)) if words.len() == 3 && table(object) => {
            format!("write `{privilege} on {object}`")
        }
        _ => "write a privilege and a table, such as `SELECT on reports`".to_owned(),
    };
    Err(Wrong::all(codes::CHOICE, text, message, help))
}

/// What a body is searched for.
pub(super) fn screen(text: &str) -> Parsed<Screen> {
    const WORDS: [(&str, Screen); 4] = [
        ("prompt-injection", Screen::PromptInjection),
        ("secrets", Screen::Secrets),
        ("pii", Screen::Pii),
        ("html", Screen::Html),
    ];
    let known = WORDS.iter().map(|(word, _)| *word);
    let found = WORDS.iter().find(|(word, _)| *word == text);
    found.map(|(_, screen)| *screen).ok_or_else(|| {
        let help = match closest(text, known.clone()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("use {}", listed(known)),
        };
        let message = format!("`{}` is not a screen", shortened(text));
        Wrong::all(codes::CHOICE, text, message, help)
    })
}

/// `corp:alice@acme.example`.
pub(super) fn owner(text: &str) -> Parsed<Owner> {
    let fine = |c: char| !c.is_control() && !c.is_whitespace();
    if let Some((login, person)) = text.split_once(':')
        && Name::new(login).is_ok()
        && !person.is_empty()
        && person.len() <= 255
        && person.chars().all(fine)
    {
        return Ok(Owner {
            login: login.to_owned(),
            person: person.to_owned(),
        });
    }
    let message = format!("`{}` is not a person", shortened(text));
    let help = "write the login and the person there, such as `corp:alice@acme.example`";
    Err(Wrong::all(codes::MEMBER, text, message, help))
}

/// `cluster/namespace/service-account`.
pub(super) fn service_account(text: &str) -> Parsed<ServiceAccount> {
    let part = |it: &str| {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        !it.is_empty() && it.len() <= 253 && it.bytes().all(fine)
    };
    let parts: Vec<_> = text.split('/').collect();
    if let [cluster, namespace, name] = parts.as_slice()
        && parts.iter().all(|it| part(it))
    {
        return Ok(ServiceAccount {
            cluster: (*cluster).to_owned(),
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
        });
    }
    let message = format!("`{}` is not a service account", shortened(text));
    let help = match parts.as_slice() {
        [namespace, name] => format!("put the cluster first: `main/{namespace}/{name}`"),
        _ => "write cluster, namespace and service account, such as `main/hms/api`".to_owned(),
    };
    Err(Wrong::all(codes::NAME, text, message, help))
}

/// The name of a node.
pub(super) fn node(text: &str) -> Parsed<String> {
    name(text).map(|name| name.to_string())
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(text: &str) -> Parsed<Digest> {
    Digest::from_hex(text).map_err(|_| {
        let message = format!("`{}` is not a hash", shortened(text));
        let help = "write the 64 lower-case hexadecimal digits that `sha256sum` prints";
        Wrong::all(codes::QUANTITY, text, message, help)
    })
}

/// A text on one line.
pub(super) fn word(text: &str) -> Parsed<String> {
    let fine = !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control);
    if fine && text.trim() == text {
        return Ok(text.to_owned());
    }
    let message = "this is empty, too long, or has blanks around it";
    Err(Wrong::all(
        codes::SHAPE,
        text,
        message,
        "write a text of at most 255 characters on one line",
    ))
}

/// A path of a file or folder.
pub(super) fn path(text: &str) -> Parsed<String> {
    let fine = !text.is_empty() && text.len() <= 1_024 && !text.chars().any(char::is_control);
    if fine && !text.contains(['\\', '*']) && !text.contains("://") {
        return Ok(text.to_owned());
    }
    let message = format!("`{}` is not a path", shortened(text));
    let help = "write a path relative to this file, with `/` between its parts";
    Err(Wrong::all(codes::FILE_PATH, text, message, help))
}

/// Paths of files: `*` stands for any part of the name of a file.
pub(super) fn pattern_of_files(text: &str) -> Parsed<String> {
    let folder = text.rsplit_once('/').map_or("", |(folder, _)| folder);
    if text.contains("**") || folder.contains('*') {
        let message = "`*` stands in the name of a file only, not for folders";
        let help = "name one folder: `conf.d/*.yaml`";
        return Err(Wrong::all(codes::FILE_PATH, text, message, help));
    }
    path(&text.replace('*', "_"))
        .map(|_| text.to_owned())
        .map_err(|wrong| Wrong {
            at: 0..text.len(),
            ..wrong
        })
}

/// The path of a request.
pub(super) fn path_of_request(text: &str) -> Parsed<String> {
    let canonical = CanonicalPath::new(text)
        .ok()
        .filter(|path| path.as_str() == text);
    canonical
        .map(|path| path.as_str().to_owned())
        .ok_or_else(|| {
            let message = format!("`{}` is not a path", shortened(text));
            Wrong::all(codes::OPERATION, text, message, path_help(text))
        })
}

/// A method that another origin may use.
pub(super) fn method(text: &str) -> Parsed<String> {
    operation(&format!("{text} /"))
        .map(|_| text.to_owned())
        .map_err(|wrong| Wrong {
            at: 0..text.len(),
            ..wrong
        })
}

/// A request header that another origin may send.
pub(super) fn header(text: &str) -> Parsed<String> {
    header_name(text).ok_or_else(|| not_a_header(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("15m").unwrap(), Duration::from_secs(900));
        assert_eq!(
            duration("7y").unwrap(),
            Duration::from_secs(7 * 366 * 86_400)
        );
        assert_eq!(size("64KiB").unwrap(), 65_536);
        assert_eq!(count("100").unwrap(), 100);
        assert_eq!(dollars("$2.50").unwrap(), 2_500_000);
        assert_eq!(dollars("$0.000001").unwrap(), 1);
        assert_eq!(spending("$50/day").unwrap(), (50_000_000, Window::Day));
        for text in [
            "",
            "15",
            "m",
            "-1s",
            "1.5h",
            "15 m",
            "0s",
            "99999999999999999999y",
            "9999999999999999y",
            "1M",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "64", "64KB", "64kib", "0B", "18446744073709551615GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["0", "-1", "1.0", "4294967296", "x"] {
            assert!(count(text).is_err(), "{text}");
        }
        for text in [
            "",
            "$",
            "2",
            "$-1",
            "$1.",
            "$.5",
            "$1.0000001",
            "$1e3",
            "€1",
            "$99999999999999999999",
        ] {
            assert!(dollars(text).is_err(), "{text}");
        }
    }

    #[test]
    fn weekly_windows() {
        let window = |text| {
            hours(text)
                .map(|it| (it.first_day, it.last_day, it.from, it.to))
                .ok()
        };
        assert_eq!(window("mon-fri 08:00-18:00"), Some((0, 4, 480, 1080)));
        assert_eq!(window("sat-mon 22:00-06:00"), Some((5, 0, 1320, 360)));
        assert_eq!(window("sun 00:00-24:00"), Some((6, 6, 0, 1440)));
        assert_eq!(window("09:00-17:00"), Some((0, 6, 540, 1020)));
        for text in [
            "",
            "mon",
            "mon-fri",
            "8:00-18:00",
            "mon 08:00-08:00",
            "mon 24:00-01:00",
            "mon 08:60-09:00",
            "Mon 08:00-09:00",
        ] {
            assert_eq!(window(text), None, "{text}");
        }
    }

    #[test]
    fn places_within_an_operation() {
        for (text, part) in [
            ("get /x", "get"),
            ("GET  x", "x"),
            ("GET /a//b", "/a//b"),
            ("read a b", "a b"),
            ("GET", "GET"),
        ] {
            let wrong = operation(text).unwrap_err();
            assert_eq!(text.get(wrong.at), Some(part), "{text}");
        }
    }

    #[test]
    fn headers_that_carry_proof_stay_here() {
        assert_eq!(forwarded_header("X-Request-Id").unwrap(), "x-request-id");
        for text in [
            "Authorization",
            "cookie",
            "Host",
            "countersign-receipt",
            "a b",
            "",
            "x:y",
        ] {
            assert!(forwarded_header(text).is_err(), "{text}");
        }
        assert_eq!(
            credential_form("header:X-Api-Key").unwrap(),
            CredentialForm::Header("x-api-key".into())
        );
        for text in [
            "basic",
            "header:",
            "header:host",
            "header:Transfer-Encoding",
            "header:cookie",
            "header:a b",
        ] {
            assert!(credential_form(text).is_err(), "{text}");
        }
    }
}
