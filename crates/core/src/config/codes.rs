//! Every code of the configuration checker, with the page `countersign explain CS0203` prints.
//!
//! `CS01xx` grammar, `CS02xx` names, `CS03xx` insecure or impossible, `CS04xx` secrets, `CS05xx`
//! files, `CS09xx` tests. A code is never given a second meaning.

use std::fmt;

/// The stable code of a diagnostic, such as `CS0203`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigCode(&'static str);

impl ConfigCode {
    /// The text of the code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ConfigCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for ConfigCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What there is to read about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The code.
    pub code: ConfigCode,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// Why it is checked and what to do.
    pub text: &'static str,
}

/// The page of a code, in either case.
#[must_use]
pub fn page(code: &str) -> Option<&'static Page> {
    PAGES
        .iter()
        .find(|page| page.code.as_str().eq_ignore_ascii_case(code))
}

macro_rules! pages {
    ($($name:ident = $code:literal, $title:literal, $text:literal;)*) => {
        $(#[doc = $title] pub const $name: ConfigCode = ConfigCode($code);)*

        /// Every page, in the order of the codes.
        pub const PAGES: &[Page] = &[$(Page { code: $name, title: $title, text: $text }),*];
    };
}

pages! {
GRAMMAR = "CS0100", "not yaml",
"The file breaks the grammar of YAML at this place, so what follows may not be what it looks like. \
Most often a bracket or quote is not closed, entries of one map are indented differently, or a \
value holds `: ` or starts with a special character without being quoted.";
CHARACTER = "CS0101", "a character that is not allowed",
"Control characters and byte order marks can hide text from a reader of the file. Remove them; \
inside double quotes YAML has escapes such as `\\n`.";
TAB = "CS0102", "a tab",
"Editors show tabs at different widths, so that indentation means one thing to the eye and another \
to the parser. Use spaces. Inside double quotes write `\\t`.";
DOCUMENTS = "CS0103", "not exactly one document",
"A configuration is one YAML document: neither an empty file nor several separated by `---`.";
TAG = "CS0104", "a yaml tag",
"Tags such as `!!str` choose a type from within the file. Here the key decides how its value is \
read. Remove the tag, or quote the text if the `!` belongs to it.";
ALIAS = "CS0105", "a yaml anchor or alias",
"`&name` and `*name` copy one part of a file to another, so that a line means something that is \
written elsewhere. A host pattern that starts with `*` must be quoted: `\"*.acme.example\"`.";
MERGE_KEY = "CS0106", "a yaml merge key",
"`<<` pulls entries in from elsewhere, and which of two values wins differs between parsers. Write \
the entries out.";
DUPLICATE_KEY = "CS0107", "a key that is there twice",
"Parsers disagree on which of two equal keys counts. Edges and operations are compared after \
squeezing spaces. Remove one of the two or merge them.";
TOO_BIG = "CS0108", "too big",
"At most 1 MiB, 64 levels and 200,000 values are read from a file, roles may include each other 32 \
levels deep, and at most 1,000 problems are reported. This bounds what a hostile or generated file \
can cost.";
UNKNOWN_KEY = "CS0109", "an unknown key",
"A key that is not known would be ignored, and with it perhaps a restriction. Check the spelling; \
the message lists the keys of this place.";
MISSING_KEY = "CS0110", "a required key is missing",
"This entry can't be understood without the key. Nothing that matters to security has a silent \
default.";
SHAPE = "CS0111", "a map, list or text where another is needed",
"The value has the wrong form. Two traps: `- a: b` inside a list is a map, not the text `a: b`, \
which must be quoted; and a key with nothing behind it has the value nothing, write `{}` for an \
empty map.";
NOT_YET = "CS0112", "not in this build",
"The language has this, but this build does not enforce it. Such a configuration is checked, and \
`up` and `reload` refuse it: a restriction that is read and not enforced is worse than none. Remove \
it, or use a build that has it.";
NAME = "CS0113", "not a name",
"A name has 1 to 63 lower-case letters, digits, `-`, `_` and `.`, the first and last a letter or a \
digit. Names appear in records, metrics, SPIFFE IDs and host names, hence the small alphabet.";
PERMISSION = "CS0114", "not a permission",
"A permission is words of lower-case letters, digits, `-`, `_` and `.` joined by `:`, such as \
`report:read`. There are no wildcards: what a role may do is readable from the file.";
QUANTITY = "CS0115", "not a quantity",
"Durations are a whole number with `ms`, `s`, `m`, `h`, `d`, `w` or `y` (a year is 366 days), sizes \
a whole number with `B`, `KiB`, `MiB` or `GiB`, amounts `$2.50`, limits `$50/day`, hours \
`mon-fri 08:00-18:00` in UTC, counts a whole number.";
OPERATION = "CS0116", "not an operation",
"An operation is `VERB /path`, `verb name` or `connect`. Methods are upper case. In a path `*` is \
one whole segment and `**` only the end; the path is in canonical form, without query, `//`, `.` \
or `..`.";
ARROW = "CS0117", "not an arrow",
"The key of an edge is `a -> b`: one listener or identity, an arrow, one service.";
URL = "CS0118", "not a url",
"A service has one `https://host:port/base`, or `http://` to loopback. Host names are lower case; \
user names, passwords, queries and fragments are refused. A base path has no trailing slash.";
ADDRESS = "CS0119", "not an address to listen on",
"Write a literal address and a port, such as `127.0.0.1:8443` or `[::1]:8443`, or `:8443` for all \
addresses. Names are not resolved, so that where a door stands does not depend on DNS.";
HOST = "CS0120", "not a host or header name",
"Host names are lower case, without port, scheme or trailing dot. Header names are letters, digits \
and `-`; those that carry proof or steer the connection can't be chosen.";
CHOICE = "CS0121", "not one of the choices",
"Only the listed words mean something here.";
MEMBER = "CS0123", "not a member",
"Write the name of an identity, `group:<login>/<name>`, `user:<login>/<sub>`, or `group:<name>` \
and `user:<sub>` while there is one login.";
SOURCE = "CS0124", "not a secret source",
"A secret comes from `store:<name>` (the built-in vault), `env:<VARIABLE>` or `file:<path>`.";
SENTENCE = "CS0125", "not a test sentence",
"A test says `as` whom, `via` which door and workloads (`web > frontend`), which `call` \
(`GET hms-api/v1/reports/42`, `read mailer`, `connect reports-db`), and `expect`s `allow` or \
`deny <pillar>`.";
TRUST_DOMAIN = "CS0126", "not a trust domain",
"A trust domain is lower-case letters, digits, `-`, `_` and `.`, at most 255 of them, without \
`spiffe://`.";
FILE_PATH = "CS0127", "not a path of a file",
"Paths are relative to the file that names them, with `/` between their parts. `*` stands for any \
part of the name of a file, in `include` only, and never for a folder.";
BAD_SCHEMA = "CS0140", "a file that is no json schema",
"The file that `schema` or `input` names is JSON Schema 2020-12, complete in itself: nothing is \
fetched. The message says where it is wrong. Patterns are regular expressions without look-around \
and back references, so that no body can make them run long.";
BAD_MODULE = "CS0141", "a file that is no rego module",
"A module starts with its `package`, behind comments at most. An empty one would agree to nothing \
or to everything, depending on who asks.";
NAME_TAKEN = "CS0201", "a name that means two things",
"Listeners and identities share one namespace, because an edge starts at either. A service may \
share a name only with the identity it is. Rename one of the two.";
RESERVED_NAME = "CS0202", "a reserved name",
"`vault`, `issuer`, `audit` and `console` are services built into countersign. They obey the same \
rules and can't be declared or replaced. Choose another name.";
EDGE_NOWHERE = "CS0203", "an edge to or from nowhere",
"An edge leads from a listener or an identity to a service. One of its ends names nothing of that \
kind.";
UNKNOWN_ROLE = "CS0204", "an unknown role",
"`includes` or `approve` names a role that is not in `roles`.";
UNKNOWN_MEMBER = "CS0205", "an unknown identity",
"A member, reader or speaker names a workload that is not in `identities`. People are written \
`user:` and `group:`.";
UNKNOWN_SECRET = "CS0206", "an unknown secret",
"The name is not in `secrets`.";
UNKNOWN_BUDGET = "CS0207", "an unknown budget",
"The name is not in `budgets`.";
UNKNOWN_IDENTITY = "CS0208", "an unknown identity of a service",
"`identity` says which workload a service must prove to be; the name is not in `identities`.";
UNKNOWN_SERVICE = "CS0209", "an unknown service",
"The name is neither in `services` nor built in.";
UNKNOWN_LOGIN = "CS0210", "a person or group without a login",
"Groups and people exist only as far as a login vouches for them. Give a browser listener a \
`login`, and name it (`group:<login>/<name>`) where there are several.";
UNKNOWN_VIA = "CS0211", "an unknown stop on the way",
"`via` starts at a listener and goes on through identities, in the order of the call.";
OWN_NAME = "CS0212", "an identity, listener or login with a name of countersign itself",
"`control` and `admin` are countersign's own doors, `operator` is whom development lets administer, \
`dev` is the login of development, and `vault`, `issuer`, `audit` and `console` are built in. Rules \
and records tell doors and callers apart by these names. Choose another name.";
UNKNOWN_SIGN_IN = "CS0213", "an unknown login",
"A browser door, the owner of an AI agent or a pipeline names a login that is not in `login`. Only \
`dev` is built in, and lets nobody but people in.";
NO_GROUPS = "CS0214", "a group of a login that tells no groups",
"Whether somebody is in a group is what the login says about them, in the claim that `roles_from` \
names. Without it, everybody is in no group.";
UNKNOWN_TIER = "CS0215", "an unknown tier",
"The name is not in `tiers`.";
UNKNOWN_POLICY = "CS0220", "an unknown policy",
"The name is not in `policies`.";
HTTP_UPSTREAM = "CS0301", "plain http beyond loopback",
"Whatever crosses a network is encrypted. `http://` is for the local application behind its own \
agent; everything else is `https://`.";
NO_CREDENTIAL = "CS0302", "a third party without a credential",
"A third-party service is called with a credential that countersign injects, so that callers never \
hold it. Without one, every caller would bring its own, past every rule here.";
THIRD_PARTY_HTTP = "CS0303", "a third party without https",
"The credential would travel in the clear, and on loopback there is no third party. Use \
`https://`.";
NO_NEEDS = "CS0304", "an operation that needs nothing",
"Every operation says which permission it `needs`, or says aloud that the edge is enough with \
`needs: edge`. A service without operations says it for the whole service.";
NEVER_GRANTED = "CS0305", "a permission that nobody has",
"No role grants what the operation needs, so nobody can make the call. Usually one of the two is \
misspelt; else add it to a role's `may`.";
UNREACHABLE = "CS0306", "an edge to an operation that does not exist",
"No operation of the service overlaps with this pattern, so the edge opens nothing. `/a/**` is \
anything under `/a/`, not `/a` itself.";
NO_LOGIN = "CS0307", "a browser door without a login",
"At a browser door the caller is a person, who must be able to sign in.";
DEV_LOGIN = "CS0308", "the development login outside development",
"`login: dev` lets anybody be anybody. It works with `environment: dev` or `--dev` only.";
NOT_LOOPBACK = "CS0309", "a development door that others can reach",
"In development every socket is on loopback, since its logins and keys prove nothing.";
WRONG_DOMAIN = "CS0310", "a trust domain of the wrong environment",
"Development uses `*.dev.invalid`, which no production process accepts; production uses anything \
else and must name it. So a development certificate never works in production.";
PROD_WITH_DEV = "CS0311", "a production file with --dev",
"The file says `environment: prod`. Remove `--dev`, or make a file for development.";
NO_ROUTE = "CS0312", "a browser door that leads to no single service",
"Without `routes` a browser listener must have edges to exactly one service. Otherwise the file \
has to say which host and path lead where.";
ROUTE_WITHOUT_EDGE = "CS0313", "a route without an edge",
"A route says where a request goes; only an edge allows it to.";
ROLE_CYCLE = "CS0314", "roles that include each other in a circle",
"Break the circle: the roles in it would all be the same.";
NO_IDENTITY = "CS0315", "a service that proves nothing",
"A `service` is dialled only if its certificate carries the SPIFFE ID of the identity with the \
service's name, or of its `identity:`. Declare one. Loopback `http://` is excepted.";
WRONG_PEER = "CS0316", "a peer kind in the wrong place",
"A listener takes `service`, `browser`, `partner` or `third-party`. A service takes anything but \
`browser`.";
TWO_NEEDS = "CS0317", "needs beside operations",
"A service says either what each operation needs or what all of it needs. With both, one would \
quietly widen or void the other.";
KEY_NOT_HERE = "CS0318", "a key that does not apply here",
"The key exists, but not for this kind of peer. Left in place it would look like a restriction \
that is not enforced.";
SAME_ADDRESS = "CS0319", "two doors at one address",
"Two listeners can't share an address and port.";
TLS_OFF = "CS0325", "tls switched off",
"No door is without TLS, in development neither.";
INCOMPLETE_LOGIN = "CS0326", "a login that lacks what it is used for",
"Where people sign in, `client_id` is our name at the issuer. Where pipelines bring their own \
tokens, `audience` is what these must be for: without it a token made for anybody else would do.";
ATTEST_ANYWHERE = "CS0327", "attestation without a place",
"A system user of the same name exists on every machine, and whoever administers one of them could \
become this identity. Outside development, name the `nodes` on which it runs.";
SHARED_AUDIENCE = "CS0328", "people and pipelines with one audience",
"The tokens with which people sign in are for `client_id`. If those of pipelines were for the same, \
the one could be passed off as the other. Give the login another `audience`, or use two logins.";
NO_CLIENT_CA = "CS0329", "a partner door without an authority",
"A partner proves itself with a certificate of its own authority. Without `client_ca` nobody could, \
or anybody.";
OWN_CA = "CS0330", "our own authority where a partner's is needed",
"Every certificate of our trust domain would open the partners' door, and whoever can have one \
issued here would be the partner. Name the authority that the partner runs.";
PARTNER_WITHOUT_DOOR = "CS0331", "a partner that has no door",
"A partner comes in by a listener of `peer: partner` whose `client_ca` holds its authority. There \
is none, so its certificate is refused everywhere.";
SHARED_DOOR = "CS0332", "an edge from a door of several partners",
"The edge would hold for each of them. Where a door serves more than one partner, edges start at \
the partner's identity.";
SAME_PROOF = "CS0333", "two identities with one proof",
"Both are recognised by the same thing, so that which one a caller is would be chance. Tell them \
apart, or make them one.";
NO_SIGNATURE = "CS0334", "a webhook door without a signature",
"Whoever knows the address could send. The sender signs each message with a secret; `signature` \
says how, and how old a message may be.";
WRONG_URL = "CS0335", "no address, or one of another kind",
"Each kind of peer has its own address: `https://` (or, on this machine, `http://` and `unix:`) for \
a `service`, `https://` for `third-party` and `partner`, `postgres://` for a `database`, `nats://` \
for a `broker`, none for a `provisioner`.";
NO_LEASE = "CS0336", "a database without leased users",
"A user that lives forever is known to everybody who ever saw it. With `lease` each caller gets \
one of its own, for minutes, with the grants that are listed.";
LONG_LEASE = "CS0337", "a leased user that lives too long",
"A lease lives for minutes, at most an hour: it bounds what a leaked one is worth. It is renewed by \
asking for another.";
EMPTY_LEASE = "CS0338", "a lease that opens nothing",
"`grants` lists what a leased user may do. An empty list makes users that can do nothing, which is \
never what is meant.";
OPEN_TOPIC = "CS0339", "a wildcard topic without a role",
"On a broker an edge alone opens no wildcard: whoever subscribes to `*` reads what everybody else \
writes, topics that do not exist yet included. Name the topics, or the permission it needs.";
PRIVATE_ADDRESS = "CS0340", "an address inside the network",
"Private, loopback, link-local and cloud metadata addresses are not dialled unless the service says \
`network: private`, so that nobody is led inside by mistake. Metadata services hand out the \
machine's own credentials to whoever asks.";
NO_CERTIFICATE = "CS0341", "a partner to whom we prove nothing",
"A partner recognises us by the certificate it issued. `certificate` names its chain, and the \
secret that holds its key.";
NO_POLICY = "CS0342", "a provisioning without a policy",
"Whatever provisions can build anything its own credentials allow. A Rego policy looks at each \
input and at each plan and must agree.";
LONG_TOKEN = "CS0343", "a run whose token is not bounded",
"Each run gets a token of its own, revoked when the run ends. `token` bounds it in case it does not \
end: minutes, at most an hour.";
WRONG_OPERATION = "CS0344", "an operation that such a peer does not have",
"HTTP services have methods and paths (and `connect`, a tunnel), databases have `connect`, brokers \
`publish` and `subscribe` with a topic, provisioners `create`. Anything else could never be asked.";
NO_APPROVERS = "CS0345", "an approval that nobody can give",
"An approver is a person. None of the members of the role is one, so that every call would wait \
forever.";
NO_ENGINE = "CS0346", "a provisioner that provisions nothing",
"`engine` names what provisions: a Terraform or OpenTofu module, a Calm blueprint or an Infoblox \
view.";
THIRD_PARTY_TUNNEL = "CS0347", "a tunnel to a third party",
"What goes through a tunnel is not seen: no credential is put in, no model is compared, and nothing \
is searched for secrets. The caller would have to hold the credential that countersign keeps from \
it. Write the methods and paths that are called.";
NO_HOSTS = "CS0324", "a door without a host",
"Outside development a browser door answers only to the host names it lists, so that cookies and \
origins can't be confused; and `tls: acme` gets certificates for those names.";
EMPTY_EXCEPT = "CS0322", "an exception that excepts nothing",
"`except` carves paths out of the operation's own pattern; this one is not within it.";
IMPOSSIBLE_TEST = "CS0323", "a test of a call that can't be made",
"A person comes by a browser door, so the sentence needs `via`, and its first stop is that door. A \
workload on its own has none, or is itself the last stop.";
UNREACHED_SERVICE = "CS0351", "a service that no edge reaches",
"Deny is the default, so nobody can call it. Add an edge or remove the service.";
EMPTY_ROLE = "CS0352", "a role without members",
"Nobody has the role, neither directly nor through a role that includes it.";
NEVER_NEEDED = "CS0353", "a permission that nothing asks for",
"A role grants a permission that no operation and no secret needs. Perhaps an operation asks for \
another spelling, and is open to fewer or more people than you think.";
DEPUTY = "CS0354", "a workload that can act without its user",
"A workload holds by its own role a permission that people need for the same operation, so that it \
could drop its user and go on by itself. Take the permission from the workload, or say `subject: \
person` on the operation.";
OPEN_THIRD_PARTY = "CS0355", "an edge to everything of a third party",
"The credential you inject opens whatever the third party offers, administration included. List \
the paths that are called.";
UNREACHED_OPERATION = "CS0356", "an operation that no request can reach",
"No edge to this service overlaps with the operation.";
SAID_TWICE = "CS0357", "said twice",
"The list has this entry already.";
UNUSED_AUTHORITY = "CS0358", "an authority of no partner",
"The door accepts certificates of this authority, but no identity of `kind: partner` has it, so \
every call ends in a refusal.";
NO_TIER = "CS0359", "people without a limit",
"Nothing bounds how often these people may call by this door. Give the role a `tier`, or the door a \
`rate`.";
NAMES_ALONE = "CS0361", "a pipeline known by names alone",
"A repository can be renamed or deleted, and its name taken by somebody else. Match what is never \
given out again: `repository_id`, `project_id`, `job_workflow_ref`, `sub`.";
SHARED_ORIGIN = "CS0362", "applications of different owners on one host",
"A browser keeps applications apart by host and port, not by path: each could read the pages of the \
other with the person's session. Give each a host of its own.";
PASSWORD_LEASE = "CS0364", "leased users with passwords",
"A leased user of a database has a password, which the application would hold. With `through: \
agent` the agent beside the application logs in, and the application holds nothing.";
UNTESTED_POLICY = "CS0365", "a policy without a test",
"Rego is code, and code that nothing tests says what nobody meant. A sentence in `tests` whose call \
asks the policy will do, or rules that start with `test_` in one of its modules.";
UNUSED = "CS0366", "an entry that nothing uses",
"The policy or budget is defined and no operation names it, so it restricts nothing. Perhaps an \
operation should.";
READER_WITHOUT_EDGE = "CS0367", "a reader that can not ask",
"Reading a secret takes a place among its `readers` and an edge to `vault`. The edge is missing, so \
the reader is refused.";
LITERAL_CREDENTIAL = "CS0401", "a literal credential",
"The file holds what looks like a credential. Files end up in repositories, backups and tickets. \
Store it with `countersign secret put <name>`, refer to it as `from: \"store:<name>\"`, and rotate \
it: it has been on disk in the clear.";
INJECTED_AND_READ = "CS0402", "a secret both injected and readable",
"An injected secret is one that no application ever sees. This one can also be read, which undoes \
that. Use two secrets.";
UNUSED_SECRET = "CS0403", "a secret that nobody uses",
"No service injects it and nobody may read it.";
NOT_A_READER = "CS0404", "an edge for somebody who is no reader",
"The edge lets the workload ask the vault for the secret, but neither it nor any person is among \
the `readers`, so the answer is always no.";
NO_FILE = "CS0501", "a file that can't be read",
"The file does not exist, may not be read by this user, or is not UTF-8 text.";
NOT_A_CERTIFICATE = "CS0502", "not a certificate",
"The file has to hold certificates in PEM form: base64 between `-----BEGIN CERTIFICATE-----` and \
`-----END CERTIFICATE-----`. What stands around the blocks is ignored.";
KEY_IN_FILE = "CS0503", "a private key in a file",
"Files that the configuration names go to every gateway and are kept with each revision. A private \
key in one is not private. Remove it, rotate it, and keep the new one as a secret.";
INCLUDE = "CS0504", "an include that goes in circles or deeper",
"Only the first file includes others, so that reading it tells which files there are.";
NOTHING_INCLUDED = "CS0505", "an include that finds nothing",
"No file matches the pattern. What you expect to be in force is not.";
TEST_FAILED = "CS0900", "a test failed",
"The policy decides otherwise than a sentence of `tests` expects. The same evaluator decides at \
run time, so this is what would happen. Correct the rule or the sentence.";
TEST_UNDECIDED = "CS0901", "a test that can't be decided",
"The sentence needs a part that is not in this build. It never counts as passed.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_has_one_page() {
        let codes: BTreeSet<_> = PAGES.iter().map(|page| page.code).collect();
        assert_eq!(codes.len(), PAGES.len());
        for it in PAGES {
            assert!(
                it.code.as_str().starts_with("CS0") && it.code.as_str().len() == 6,
                "{}",
                it.code
            );
            assert!(
                !it.title.ends_with('.') && it.text.ends_with('.'),
                "{}",
                it.code
            );
        }
        assert_eq!(page("cs0203").map(|it| it.code), Some(EDGE_NOWHERE));
        assert_eq!(page("CS9999"), None);
    }
}
