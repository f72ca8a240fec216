/// One mistake in a copy of the decision.
struct Mutation {
    /// What is wrong with the copy.
    name: &'static str,
    /// The file, below `crates/core/src`.
    file: &'static str,
    /// What is written there, exactly once.
    right: &'static str,
    /// What stands in its place.
    wrong: &'static str,
}

const INDEX: &str = "snapshot/index.rs";
const COMPILE: &str = "snapshot/compile.rs";
const GRANTS: &str = "snapshot/grants.rs";
const IDENTITY: &str = "pillars/identity/mod.rs";
const SEGMENTATION: &str = "pillars/micro-segmentation/mod.rs";
const BUILT_IN: &str = "pillars/micro-segmentation/builtin.rs";
const PRIVILEGE: &str = "pillars/least-privilege/mod.rs";
const LIMITS: &str = "pillars/least-privilege/limits.rs";

const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "GET does not cover HEAD",
        file: INDEX,
        right: r#"(operation.verb == "HEAD").then_some("GET")"#,
        wrong: r#"(operation.verb == "HEAD").then_some("HEAD")"#,
    },
    Mutation {
        name: "GET covers every method",
        file: INDEX,
        right: r#"(operation.verb == "HEAD").then_some("GET")"#,
        wrong: r#"Some("GET")"#,
    },
    Mutation {
        name: "/a/** also matches /a",
        file: INDEX,
        right: "found.extend_from_slice(&node.here);",
        wrong: "found.extend_from_slice(&node.here); found.extend_from_slice(&node.below);",
    },
    Mutation {
        name: "* matches an empty segment",
        file: INDEX,
        right: ".filter(|_| !part.is_empty())",
        wrong: "",
    },
    Mutation {
        name: "paths are always compared without case",
        file: INDEX,
        right: "            fold,\n",
        wrong: "            fold: true,\n",
    },
    Mutation {
        name: "paths are never compared without case",
        file: INDEX,
        right: "            fold,\n",
        wrong: "            fold: false,\n",
    },
    Mutation {
        name: "only the first operation that matches applies",
        file: COMPILE,
        right: "places.into_iter().filter_map(",
        wrong: "places.into_iter().take(1).filter_map(",
    },
    Mutation {
        name: "except is ignored",
        file: COMPILE,
        right: "(!excepted).then_some(",
        wrong: "(!excepted || true).then_some(",
    },
    Mutation {
        name: "what one operation excepts, all except",
        file: COMPILE,
        right: "let excepted = rule.except.iter().any(",
        wrong: "let excepted = service.operations.iter().flat_map(|it| &it.except).any(",
    },
    Mutation {
        name: "the edges of the door count",
        file: SEGMENTATION,
        right: "let name = caller.name().unwrap_or_default();",
        wrong: "let name = case.hop.door.as_str();",
    },
    Mutation {
        name: "an edge opens the whole service",
        file: SEGMENTATION,
        right: "match snapshot.edge(name, &hop.service, &hop.operation) {",
        wrong: "match snapshot.edges(name, &hop.service).next().map(|(at, _)| at) {",
    },
    Mutation {
        name: "everybody revokes",
        file: BUILT_IN,
        right: "Self::RevokeOwn => caller.is_identity(),",
        wrong: "Self::RevokeOwn | Self::Revoke => caller.is_identity(),",
    },
    Mutation {
        name: "a token for a service that no edge leads to",
        file: BUILT_IN,
        right: "if !edge(from) && !caller.partner_door().is_some_and(edge) {",
        wrong: "if case.state.snapshot.service(to).is_none() {",
    },
    Mutation {
        name: "includes is not followed",
        file: GRANTS,
        right: "for included in &role.includes {",
        wrong: "for included in role.includes.iter().take(0) {",
    },
    Mutation {
        name: "groups have no roles",
        file: GRANTS,
        right: "(self.users.get(user), groups)",
        wrong: "(self.users.get(user), groups.get(..0).unwrap_or_default())",
    },
    Mutation {
        name: "a token for another service opens this one",
        file: IDENTITY,
        right: "if snapshot.config().trust_domain.service_of(&claims.aud) == Some(service) {",
        wrong: "if snapshot.config().trust_domain.service_of(&claims.aud).is_some() {",
    },
    Mutation {
        name: "who acts for a person needs the role itself",
        file: PRIVILEGE,
        right: "let Some(holder) = subject.holder() else {",
        wrong: "let sender = case.hop.evidence.certificate();
            let sender = sender.and_then(|it| snapshot.identity(&it.spiffe_id));
            let sender = sender.map(|it| crate::snapshot::Holder::Identity(it.as_str()));
            let Some(holder) = sender.or(subject.holder()) else {",
    },
    Mutation {
        name: "the scope is enough",
        file: PRIVILEGE,
        right: "if snapshot.grants().role(holder, permission).is_none() {",
        wrong: "if false {",
    },
    Mutation {
        name: "the role is enough",
        file: PRIVILEGE,
        right: "in_scope(case, permission)\n",
        wrong: "Ok(())\n",
    },
    Mutation {
        name: "readers are ignored",
        file: PRIVILEGE,
        right: "!may_read(secret, subject)",
        wrong: "false",
    },
    Mutation {
        name: "a reader needs no scope",
        file: PRIVILEGE,
        right: "in_scope(case, secret.needs.as_str())",
        wrong: "Ok(())",
    },
    Mutation {
        name: "subject: person is ignored",
        file: PRIVILEGE,
        right: "if rule.person && !subject.is_person() {",
        wrong: "if false {",
    },
    Mutation {
        name: "the last limit of a body counts, not the smallest",
        file: PRIVILEGE,
        right: "found.body_max = found.body_max.min(",
        wrong: "found.body_max = (",
    },
    Mutation {
        name: "hours end a day early past midnight",
        file: LIMITS,
        right: "((day + 6) % 7, true)",
        wrong: "(day, true)",
    },
];
