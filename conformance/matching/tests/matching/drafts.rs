//! Configurations, as files: few names, so that everything meets everything.

use countersign_core::config::Config;
use countersign_core::config::Options;
use countersign_core::config::load_text;
use countersign_core::vocabulary::OperationPattern;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

pub(crate) const WORKLOADS: [&str; 4] = ["api", "shop", "job", "bot"];
pub(crate) const SERVICES: [&str; 2] = ["api", "shop"];
pub(crate) const SECRETS: [&str; 2] = ["mail", "key"];
/// Browser doors, each with the one service that its edges lead to.
pub(crate) const DOORS: [(&str, &str); 2] = [("front", "api"), ("desk", "shop")];
pub(crate) const PERMISSIONS: [&str; 9] = [
    "it:a",
    "it:b",
    "it:c",
    "mail:read",
    "secret:read",
    "secret:write",
    "identity:revoke",
    "audit:read",
    "decision:explain",
];
const MEMBERS: [&str; 7] = [
    "api",
    "shop",
    "job",
    "user:ann",
    "user:ben",
    "group:staff",
    "group:other",
];
const HOURS: [&str; 4] = [
    "mon-fri 08:00-18:00",
    "fri-mon 22:00-06:00",
    "tue-tue 23:00-01:00",
    "sat-sun 00:00-12:00",
];

#[derive(Clone, Debug)]
struct Rule {
    pattern: String,
    needs: &'static str,
    except: Vec<String>,
    person: bool,
    body: Option<u32>,
    models: bool,
    hours: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Service {
    fold: bool,
    /// Everything needs this, and there are no operations.
    whole: Option<&'static str>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Role {
    members: Vec<&'static str>,
    includes: Vec<bool>,
    may: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct Edge {
    from: &'static str,
    to: &'static str,
    operations: Vec<String>,
}

/// An operation of an edge.
#[derive(Clone, Debug)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) operation: String,
}

/// A file to be written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    services: Vec<Service>,
    edges: Vec<Edge>,
    roles: Vec<Role>,
    readers: Vec<(&'static str, Vec<&'static str>)>,
    injected: bool,
}

pub(crate) fn draft() -> impl Strategy<Value = Draft> {
    (
        prop::collection::vec(service(), SERVICES.len()),
        prop::collection::vec(edge(), 6..20),
        prop::collection::vec(role(), 4),
        prop::collection::vec(reader(), SECRETS.len()),
        any::<bool>(),
    )
        .prop_map(|(services, edges, roles, readers, injected)| Draft {
            services,
            edges,
            roles,
            readers,
            injected,
        })
}

/// Some of a list, in its order.
fn some<T: Copy + std::fmt::Debug>(
    all: &'static [T],
    count: RangeInclusive<usize>,
) -> impl Strategy<Value = Vec<T>> {
    prop::sample::subsequence(all, count)
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("B"), 3 => Just("*")]
}

fn verb() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("GET"), 2 => Just("POST"), 1 => Just("HEAD")]
}

fn pattern() -> impl Strategy<Value = String> {
    let end = prop_oneof![4 => Just(""), 1 => Just("/"), 4 => Just("/**")];
    let path =
        (verb(), prop::collection::vec(segment(), 0..4), end).prop_map(|(verb, segments, end)| {
            match (segments.is_empty(), end) {
                (true, "/**") => format!("{verb} /**"),
                (true, _) => format!("{verb} /"),
                (false, end) => format!("{verb} /{}{end}", segments.join("/")),
            }
        });
    prop_oneof![19 => path, 1 => Just("connect".to_owned())]
}

fn needs() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("it:a"), 3 => Just("it:b"), 2 => Just("it:c"), 6 => Just("edge")]
}

fn rule() -> impl Strategy<Value = Rule> {
    (
        pattern(),
        needs(),
        prop::collection::vec(pattern(), 0..3),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.25, 1_u32..4),
        prop::bool::weighted(0.4),
        prop::option::weighted(0.15, prop::sample::select(&HOURS[..])),
    )
        .prop_map(
            |(pattern, needs, except, person, body, models, hours)| Rule {
                pattern,
                needs,
                except,
                person,
                body,
                models,
                hours,
            },
        )
}

fn service() -> impl Strategy<Value = Service> {
    (
        prop::bool::weighted(0.4),
        prop::option::weighted(0.1, needs()),
        prop::collection::vec(rule(), 1..9),
    )
        .prop_map(|(fold, whole, rules)| Service { fold, whole, rules })
}

fn edge() -> impl Strategy<Value = Edge> {
    let own = prop_oneof![
        (
            prop::sample::select(&WORKLOADS[..]),
            prop::sample::select(&SERVICES[..])
        ),
        prop::sample::select(&DOORS[..]),
    ];
    let services = (own, prop::collection::vec(pattern(), 1..5));
    let services = services.prop_map(|((from, to), mut operations)| {
        // Or else most edges lead past most operations.
        if operations.len() > 2 {
            operations.push("GET /**".to_owned());
        }
        Edge {
            from,
            to,
            operations,
        }
    });
    let built_in = prop_oneof![
        4 => some(&["read mail", "read key", "read *", "write mail", "write *"], 1..=3)
            .prop_map(|it| ("vault", it)),
        1 => some(&["revoke *", "revoke lift/*"], 1..=2).prop_map(|it| ("issuer", it)),
        1 => some(&["read explain", "read records", "read *"], 1..=2).prop_map(|it| ("audit", it)),
    ];
    let from = prop::sample::select(&["api", "shop", "job", "bot", "front"][..]);
    let built_in = (from, built_in).prop_map(|(from, (to, operations))| Edge {
        from,
        to,
        operations: operations.into_iter().map(str::to_owned).collect(),
    });
    prop_oneof![3 => services, 2 => built_in]
}

fn role() -> impl Strategy<Value = Role> {
    (
        some(&MEMBERS, 1..=4),
        prop::collection::vec(prop::bool::weighted(0.4), 4),
        some(&PERMISSIONS, 1..=6),
    )
        .prop_map(|(members, includes, may)| Role {
            members,
            includes,
            may,
        })
}

fn reader() -> impl Strategy<Value = (&'static str, Vec<&'static str>)> {
    let needs = prop_oneof![Just("mail:read"), Just("secret:read")];
    (needs, some(&MEMBERS, 0..=3))
}

impl Draft {
    /// The configuration, if it is one: not every draft is.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let text = self.text();
        let options = Options {
            dev: true,
            strict: false,
        };
        let loaded = load_text("draft.yaml", text.clone(), &options);
        let errors: Vec<_> = loaded.errors().map(|it| it.message.clone()).collect();
        loaded.config.ok_or_else(|| format!("{errors:?}\n{text}"))
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "environment: dev\ntrust_domain: maze.dev.invalid\nlisteners:\n  \
             mesh: { bind: \"127.0.0.1:9443\", peer: service, limits: { body: 3KiB } }\n",
        );
        let mut line = |it: String| writeln!(text, "{it}").unwrap();
        let edges = self.edges();
        for (at, (door, service)) in DOORS.iter().enumerate() {
            let route = match edges.keys().any(|(from, to)| from == door && to == service) {
                true => format!(", routes: {{ \"localhost/**\": {service} }}"),
                false => continue,
            };
            line(format!(
                "  {door}: {{ bind: \"127.0.0.1:{}\", peer: browser, login: dev{route} }}",
                8443 + at
            ));
        }
        line("identities:".to_owned());
        for name in WORKLOADS.iter().chain(&["keeper"]) {
            line(format!("  {name}: {{}}"));
        }
        line("roles:".to_owned());
        // Somebody holds each permission, or the file is refused.
        line(format!(
            "  keeper: {{ members: [keeper], may: {PERMISSIONS:?} }}"
        ));
        for (at, role) in self.roles.iter().enumerate() {
            let includes = (0..at).filter(|other| role.includes[*other]);
            let includes: Vec<_> = includes.map(|other| format!("role-{other}")).collect();
            let members = &role.members;
            let may = &role.may;
            line(format!(
                "  role-{at}: {{ members: {members:?}, includes: {includes:?}, may: {may:?} }}"
            ));
        }
        line("services:".to_owned());
        for (name, service) in SERVICES.iter().zip(&self.services) {
            service.lines(name, &mut line);
        }
        if self.injected {
            line(
                "  far: { peer: third-party, url: \"https://far.example\", needs: edge, \
                 credential: { secret: key, as: bearer } }"
                    .to_owned(),
            );
        }
        line("edges:".to_owned());
        for ((from, to), operations) in &edges {
            line(format!("  {from} -> {to}: {operations:?}"));
        }
        line("secrets:".to_owned());
        for (name, (needs, readers)) in SECRETS.iter().zip(&self.readers) {
            line(format!(
                "  {name}: {{ from: \"store:{name}\", needs: \"{needs}\", readers: {readers:?} }}"
            ));
        }
        text
    }

    /// What the file allows at all.
    pub(crate) fn arrows(&self) -> Vec<Arrow> {
        let edges = self.edges().into_iter();
        let arrows = edges.flat_map(|((from, to), operations)| {
            operations.into_iter().map(move |operation| Arrow {
                from: from.to_owned(),
                to: to.to_owned(),
                operation: operation.to_owned(),
            })
        });
        arrows.collect()
    }

    /// The edges that lead somewhere: others are refused. Two between the same ends are one.
    fn edges(&self) -> BTreeMap<(&str, &str), Vec<&str>> {
        let mut edges: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for edge in &self.edges {
            let named = SERVICES.iter().zip(&self.services);
            let service = named.clone().find(|(name, _)| **name == edge.to);
            for operation in &edge.operations {
                let leads = service.is_none_or(|(_, it)| it.has(operation));
                let answered = self
                    .readers
                    .iter()
                    .zip(SECRETS)
                    .all(|((_, readers), secret)| {
                        let people = readers.iter().any(|it| it.contains(':'));
                        *operation != format!("read {secret}")
                            || people
                            || readers.contains(&edge.from)
                    });
                let list = edges.entry((edge.from, edge.to)).or_default();
                if leads && answered && !list.contains(&operation.as_str()) {
                    list.push(operation);
                }
            }
        }
        edges.retain(|_, operations| !operations.is_empty());
        let doors: Vec<_> = edges.keys().copied().collect();
        // A door is there for the service behind it.
        edges.retain(|(from, _), _| {
            let door = DOORS.iter().find(|(door, _)| door == from);
            door.is_none_or(|door| doors.contains(door))
        });
        edges
    }
}

impl Service {
    fn has(&self, operation: &str) -> bool {
        let lower = |text: &str| match (self.fold, text.split_once(' ')) {
            (true, Some((verb, path))) => format!("{verb} {}", path.to_ascii_lowercase()),
            _ => text.to_owned(),
        };
        let parse = |text: &str| OperationPattern::parse(&lower(text)).unwrap();
        let wanted = parse(operation);
        let mut rules = self.rules.iter();
        self.whole.is_some() || rules.any(|rule| parse(&rule.pattern).overlaps(&wanted))
    }

    fn lines(&self, name: &str, line: &mut impl FnMut(String)) {
        line(format!("  {name}:"));
        line("    peer: service".to_owned());
        line("    url: \"https://localhost:7001\"".to_owned());
        if self.fold {
            line("    case: insensitive".to_owned());
        }
        if let Some(needs) = self.whole {
            return line(format!("    needs: \"{needs}\""));
        }
        line("    operations:".to_owned());
        let mut written = Vec::new();
        for rule in &self.rules {
            if !written.contains(&&rule.pattern) {
                written.push(&rule.pattern);
                line(format!("      {:?}: {{ {} }}", rule.pattern, rule.text()));
            }
        }
    }
}

impl Rule {
    fn text(&self) -> String {
        let parse = |text: &str| OperationPattern::parse(text).unwrap();
        let mut text = format!("needs: \"{}\"", self.needs);
        let own = parse(&self.pattern);
        let except = self.except.iter().filter(|it| own.overlaps(&parse(it)));
        let except: Vec<_> = except.collect();
        if !except.is_empty() {
            write!(text, ", except: {except:?}").unwrap();
        }
        if self.person {
            text.push_str(", subject: person");
        }
        if let Some(size) = self.body {
            write!(text, ", body: {{ max: {size}KiB }}").unwrap();
        }
        if self.models && own.verb() == "POST" {
            text.push_str(", models: [\"big-*\", small]");
        }
        if let Some(hours) = self.hours {
            write!(text, ", hours: \"{hours}\"").unwrap();
        }
        text
    }
}
