//! What the design says about matching and deciding, as plainly as it can be written: every list is
//! gone through from one end to the other, and nothing is prepared or remembered.
//!
//! It knows the configuration and the words it is made of. It shares nothing with the matcher and
//! the pillars of `core`, so that a mistake there is not made here too.

mod matching;

use countersign_core::config::Config;
use countersign_core::config::Hours;
use countersign_core::config::Member;
use countersign_core::config::Needs;
use countersign_core::config::OperationRule;
use countersign_core::config::Service;
use countersign_core::vocabulary::Code;
use matching::covers;
use matching::glob;

/// A question: who asks what of which service, and what they show for it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) sender: Sender,
    /// The door it comes in by; a person's is the sender's.
    pub(crate) door: String,
    /// What a workload shows, or a door draws from a session; nothing where there is none.
    pub(crate) token: Option<Shown>,
    pub(crate) service: String,
    pub(crate) verb: String,
    pub(crate) object: String,
    /// The service a token is asked for.
    pub(crate) wanted: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) body: Option<u64>,
    /// Days since a Monday.
    pub(crate) day: u8,
    /// Minutes since midnight, UTC.
    pub(crate) minute: u16,
}

/// The other end of the connection.
#[derive(Clone, Debug)]
pub(crate) enum Sender {
    /// A workload, by its certificate.
    Workload(String),
    /// A gateway of ours, by its certificate.
    Gateway,
    /// A browser door, for who is signed in there.
    Door(String),
}

/// What a token says.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) subject: Subject,
    pub(crate) scope: Vec<String>,
    /// The service it is for.
    pub(crate) audience: String,
    /// Whether it is bound to what the sender shows.
    pub(crate) bound: bool,
}

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Workload(String),
    Person {
        login: String,
        sub: String,
        /// Of the same login.
        groups: Vec<String>,
    },
    /// One of our own processes; it holds nothing.
    Process,
}

/// Why the question is answered with no, as far as the first pillar that says so; nothing if it is
/// answered with yes. The order in a pillar is nobody's business, so all its reasons are here.
pub(crate) fn reasons(config: &Config, ask: &Ask) -> Vec<Code> {
    if !is_door(config, &ask.door) {
        return vec![Code::TLS_ABSENT];
    }
    let unproved = identity(config, ask);
    if !unproved.is_empty() {
        return unproved;
    }
    if !edge(config, ask) {
        return vec![Code::NO_EDGE];
    }
    privilege(config, ask)
}

/// Pillar 1: there is such a door; the server's own port is one too. Who is asked about here comes
/// with TLS 1.3.
fn is_door(config: &Config, door: &str) -> bool {
    door == "control" || config.listeners.keys().any(|it| it.as_str() == door)
}

/// Pillar 2: the certificate names a configured workload; the token is for this service, bound to
/// that certificate, and about somebody who is known.
fn identity(config: &Config, ask: &Ask) -> Vec<Code> {
    let mut wrong = Vec::new();
    if let Sender::Workload(name) = &ask.sender
        && !is_identity(config, name)
    {
        wrong.push(Code::IDENTITY_UNKNOWN);
    }
    let Some(token) = &ask.token else {
        match ask.sender {
            Sender::Door(_) => wrong.push(Code::SESSION_ABSENT),
            // The issuer knows its clients by certificate alone, and our own processes act for
            // themselves.
            Sender::Workload(_) if ask.service != "issuer" => wrong.push(Code::TOKEN_ABSENT),
            Sender::Workload(_) | Sender::Gateway => {}
        }
        return wrong;
    };
    if token.audience != ask.service {
        wrong.push(Code::TOKEN_AUDIENCE);
    }
    if !token.bound {
        wrong.push(Code::TOKEN_BINDING);
    }
    let known = match &token.subject {
        Subject::Workload(name) => is_identity(config, name),
        Subject::Person { login, .. } => config.listeners.values().any(|listener| {
            let at_door = listener.login.as_ref();
            at_door.is_some_and(|it| it.name() == login)
        }),
        Subject::Process => false,
    };
    if !known {
        wrong.push(Code::IDENTITY_UNKNOWN);
    }
    wrong
}

fn is_identity(config: &Config, name: &str) -> bool {
    config.identities.keys().any(|it| it.as_str() == name)
}

/// Pillar 4: the sender's own arrow leads to this operation of this service, and there is such an
/// operation. Built in are a token for what an arrow leads to, revoking one's own, and the secrets
/// that a gateway puts into calls.
fn edge(config: &Config, ask: &Ask) -> bool {
    let sender = match &ask.sender {
        Sender::Workload(name) | Sender::Door(name) => name,
        Sender::Gateway => {
            return ask.service == "vault"
                && ask.verb == "inject"
                && config.services.values().any(|service| {
                    let used = service.credential.as_ref();
                    used.is_some_and(|it| it.secret.as_str() == ask.object)
                });
        }
    };
    let workload = matches!(ask.sender, Sender::Workload(_));
    if ask.service == "issuer" && ask.verb == "token" {
        let mut edges = config.edges.iter();
        let wanted = ask.wanted.as_deref();
        return workload
            && edges.any(|it| it.from.as_str() == sender && Some(it.to.as_str()) == wanted);
    }
    if ask.service == "issuer" && ask.verb == "revoke" && ask.object == "own" && workload {
        return true;
    }
    let Some(service) = service(config, &ask.service) else {
        return false;
    };
    let has_operation = is_built_in(ask) || !applying(service, ask).is_empty();
    has_operation
        && config.edges.iter().any(|edge| {
            edge.from.as_str() == sender
                && edge.to.as_str() == ask.service
                && edge
                    .operations
                    .iter()
                    .any(|it| covers(it, &ask.verb, &ask.object, service.fold_case))
        })
}

fn service<'c>(config: &'c Config, name: &str) -> Option<&'c Service> {
    let mut services = config.services.iter();
    let (_, service) = services.find(|(it, _)| it.as_str() == name)?;
    Some(service)
}

fn is_built_in(ask: &Ask) -> bool {
    matches!(
        (ask.service.as_str(), ask.verb.as_str()),
        ("issuer", "revoke") | ("vault", "read" | "write" | "inject") | ("audit", "read")
    )
}

/// Every operation that matches and does not carve this out.
fn applying<'c>(service: &'c Service, ask: &Ask) -> Vec<&'c OperationRule> {
    let mut all = Vec::new();
    for rule in &service.operations {
        let fits = |it| covers(it, &ask.verb, &ask.object, service.fold_case);
        let matches = match &rule.pattern {
            Some(pattern) => fits(pattern),
            None => true,
        };
        if matches && !rule.except.iter().any(fits) {
            all.push(rule);
        }
    }
    all
}

/// Pillar 5: every operation that matches gets what it needs, from the scope **and** a role.
fn privilege(config: &Config, ask: &Ask) -> Vec<Code> {
    let mut wrong = Vec::new();
    if is_built_in(ask) || ask.service == "issuer" {
        let name = match (ask.service.as_str(), ask.verb.as_str()) {
            ("vault", "read") => return secret(config, ask),
            ("vault", "write") => "secret:write",
            ("audit", _) if ask.object == "explain" => "decision:explain",
            ("audit", _) => "audit:read",
            ("issuer", "revoke") if ask.object != "own" => "identity:revoke",
            _ => return wrong,
        };
        needs(config, ask, name, &mut wrong);
        return wrong;
    }
    let Some(service) = service(config, &ask.service) else {
        return vec![Code::NO_EDGE];
    };
    let doors = config.listeners.iter();
    let mut most: Vec<u64> = doors
        .filter(|(name, _)| name.as_str() == ask.door)
        .map(|(_, door)| door.limits.body)
        .collect();
    for rule in applying(service, ask) {
        if let Needs::Permission(permission) = &rule.needs {
            needs(config, ask, permission.as_str(), &mut wrong);
        }
        if rule.person && !matches!(subject(ask), Subject::Person { .. }) {
            wrong.push(Code::PERSON_REQUIRED);
        }
        match &ask.model {
            _ if rule.models.is_empty() => {}
            None => wrong.push(Code::BODY_UNREADABLE),
            Some(model) if rule.models.iter().any(|it| glob(it, model)) => {}
            Some(_) => wrong.push(Code::MODEL_REFUSED),
        }
        if rule.hours.is_some_and(|it| !open(it, ask.day, ask.minute)) {
            wrong.push(Code::HOURS);
        }
        most.extend(rule.body_max);
    }
    if ask
        .body
        .is_some_and(|body| most.iter().any(|most| body > *most))
    {
        wrong.push(Code::BODY_TOO_LARGE);
    }
    wrong
}

/// Whose roles count: whom the token speaks for, or the sender itself.
fn subject(ask: &Ask) -> Subject {
    match (&ask.token, &ask.sender) {
        (Some(token), _) => token.subject.clone(),
        (None, Sender::Workload(name)) => Subject::Workload(name.clone()),
        (None, _) => Subject::Process,
    }
}

fn needs(config: &Config, ask: &Ask, permission: &str, wrong: &mut Vec<Code>) {
    let subject = subject(ask);
    let mut roles = config.roles.values();
    let held = roles.any(|role| {
        role.members.iter().any(|it| is(it, &subject)) && gives(config, role, permission)
    });
    if !held {
        wrong.push(Code::ROLE_LACKS);
    }
    in_scope(ask, permission, wrong);
}

fn in_scope(ask: &Ask, permission: &str, wrong: &mut Vec<Code>) {
    if let Some(token) = &ask.token
        && !token.scope.iter().any(|it| it == permission)
    {
        wrong.push(Code::SCOPE_LACKS);
    }
}

/// Whether a role gives a permission, by itself or by what it includes; roles include each other in
/// no circle.
fn gives(config: &Config, role: &countersign_core::config::Role, permission: &str) -> bool {
    if role.may.iter().any(|it| it.as_str() == permission) {
        return true;
    }
    config
        .roles
        .iter()
        .any(|(name, other)| role.includes.contains(name) && gives(config, other, permission))
}

fn is(member: &Member, subject: &Subject) -> bool {
    match (member, subject) {
        (Member::Identity(name), Subject::Workload(workload)) => name.as_str() == workload,
        (
            Member::Group { login, name },
            Subject::Person {
                login: at, groups, ..
            },
        ) => login == at && groups.contains(name),
        (
            Member::User { login, sub },
            Subject::Person {
                login: at,
                sub: who,
                ..
            },
        ) => login == at && sub == who,
        _ => false,
    }
}

/// A secret is read by its readers alone, with its permission in the scope; no role opens one.
fn secret(config: &Config, ask: &Ask) -> Vec<Code> {
    let mut wrong = Vec::new();
    let mut secrets = config.secrets.iter();
    let Some((_, secret)) = secrets.find(|(name, _)| name.as_str() == ask.object) else {
        return vec![Code::NOT_A_READER];
    };
    let subject = subject(ask);
    if !secret.readers.iter().any(|it| is(it, &subject)) {
        wrong.push(Code::NOT_A_READER);
    }
    in_scope(ask, secret.needs.as_str(), &mut wrong);
    wrong
}

/// Walks through the minutes of the window that each of its days opens.
fn open(hours: Hours, day: u8, minute: u16) -> bool {
    let mut first = hours.first_day;
    loop {
        let length = (1_440 + hours.to - hours.from) % 1_440;
        let length = if length == 0 { 1_440 } else { length };
        for passed in 0..length {
            let at = hours.from + passed;
            let (on, at) = (first + u8::from(at >= 1_440), at % 1_440);
            if on % 7 == day % 7 && at == minute {
                return true;
            }
        }
        if first == hours.last_day {
            return false;
        }
        first = (first + 1) % 7;
    }
}
