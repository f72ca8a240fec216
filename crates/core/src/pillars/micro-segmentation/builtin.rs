use super::super::Case;
use super::super::identity::Caller;
use crate::snapshot::AUDIT;
use crate::snapshot::CONSOLE;
use crate::snapshot::ISSUER;
use crate::snapshot::JOIN;
use crate::snapshot::VAULT;
use crate::vocabulary::Operation;

/// An operation of one of our own services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    /// A token for a service, for oneself or by exchange, or drawn from a session.
    Token,
    /// Revoke something of one's own.
    RevokeOwn,
    /// Revoke somebody else's, or take a revocation back (`lift/KIND`).
    Revoke,
    /// Ask about a token.
    Introspect,
    /// Issue an identity's certificate by hand.
    IssueIdentity,
    /// Issue a gateway's certificate by hand: who holds one speaks for every listener.
    IssueGateway,
    /// Get a gateway's first certificate, by a join token made for it.
    Join,
    /// Read a secret.
    ReadSecret,
    /// Write a secret.
    WriteSecret,
    /// Read a secret to put it into a call.
    Inject,
    /// Read the records, proofs included.
    ReadAudit,
    /// Ask why.
    Explain,
    /// Change or look at the running process.
    Administer,
    /// Be told of policy and revocations, and deliver records.
    Control,
}

impl BuiltIn {
    /// The built-in operation this is, if the service is ours and has it.
    pub(crate) fn of(service: &str, operation: &Operation) -> Option<Self> {
        Some(
            match (service, operation.verb.as_str(), operation.object.as_str()) {
                (ISSUER, "token", _) => Self::Token,
                (ISSUER, "revoke", "own") => Self::RevokeOwn,
                (ISSUER, "revoke", _) => Self::Revoke,
                (ISSUER, "introspect", _) => Self::Introspect,
                (ISSUER, "issue", object) if object.starts_with("gateway/") => Self::IssueGateway,
                (ISSUER, "issue", _) => Self::IssueIdentity,
                (ISSUER, "join", _) => Self::Join,
                (VAULT, "read", _) => Self::ReadSecret,
                (VAULT, "write", _) => Self::WriteSecret,
                (VAULT, "inject", _) => Self::Inject,
                (AUDIT, "read", "explain") => Self::Explain,
                (AUDIT, "read", _) => Self::ReadAudit,
                (CONSOLE, "admin", _) => Self::Administer,
                (CONSOLE, "connect", _) => Self::Control,
                _ => return None,
            },
        )
    }

    /// The permission it takes when no role-less rule covers it.
    pub(crate) const fn permission(self) -> Option<&'static str> {
        match self {
            Self::Revoke => Some("identity:revoke"),
            Self::IssueIdentity => Some("identity:issue"),
            Self::IssueGateway => Some("gateway:issue"),
            Self::WriteSecret => Some("secret:write"),
            Self::ReadAudit => Some("audit:read"),
            Self::Explain => Some("decision:explain"),
            Self::Administer => Some("config:admin"),
            Self::Introspect => Some("token:introspect"),
            Self::Token
            | Self::RevokeOwn
            | Self::Join
            | Self::ReadSecret
            | Self::Inject
            | Self::Control => None,
        }
    }

    /// Whether the edge is built in for this caller.
    pub(super) fn is_implicit(self, case: &Case, caller: &Caller) -> bool {
        let gateway = caller.is_gateway();
        // A join token is for this and nothing else, and nothing else gets a first certificate.
        if self == Self::Join || case.hop.door.as_str() == JOIN {
            let own = matches!(caller, Caller::Process { name, .. } if *name == case.hop.operation.object);
            return self == Self::Join && case.hop.door.as_str() == JOIN && gateway && own;
        }
        match self {
            Self::Token => caller.is_identity() || gateway,
            Self::RevokeOwn => caller.is_identity(),
            Self::Control => gateway,
            Self::Inject => gateway && case.state.snapshot.is_injected(&case.hop.operation.object),
            _ => caller
                .identity()
                .is_some_and(|name| case.state.snapshot.is_dev_operator(name)),
        }
    }

    /// A token is handed out only for a service that an edge leads to: from the workload that
    /// asks, or from the door whose session a gateway shows.
    pub(super) fn beyond(self, case: &Case, caller: &Caller) -> Result<(), String> {
        if self != Self::Token {
            return Ok(());
        }
        let facts = &case.hop.facts;
        let from = match caller {
            Caller::Process { .. } => facts
                .requested_door
                .as_ref()
                .map(crate::vocabulary::Name::as_str),
            _ => caller.name(),
        };
        let (Some(from), Some(to)) = (from, facts.requested_service.as_deref()) else {
            return Err("a token is for one service".to_owned());
        };
        let edge = |from: &str| case.state.snapshot.edges(from, to).next().is_some();
        if !edge(from) && !caller.partner_door().is_some_and(edge) {
            return Err(format!("no edge `{from} -> {to}`"));
        }
        Ok(())
    }
}
