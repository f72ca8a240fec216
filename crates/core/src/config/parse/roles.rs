//! `roles`, `tiers`, and who can be a member of one.

use super::Member;
use super::Role;
use super::Tier;
use super::grammar;
use super::reader::Reader;
use super::reader::Wrong;
use super::reader::shortened;
use crate::config::codes;
use crate::config::schema;
use crate::config::sources::Span;
use crate::config::yaml::Node;

pub(super) fn role(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Role> {
    let fields = reader.fields(node, &schema::ROLE, name)?;
    Some(Role {
        name,
        members: fields.texts(reader, "members", member),
        includes: fields.texts(reader, "includes", grammar::name),
        may: fields.texts(reader, "may", grammar::permission),
        tier: fields.text(reader, "tier", grammar::name),
    })
}

/// An entry of `tiers`.
pub(super) fn tier(reader: &mut Reader<'_>, node: &Node, name: Span) -> Option<Tier> {
    let rate = reader.grammar(node, grammar::rate)?;
    Some(Tier { name, rate })
}

/// A name, `group:<login>/<name>`, `user:<login>/<sub>`, or the short forms without a login.
pub(super) fn member(text: &str) -> Result<Member, Wrong> {
    let Some((kind, rest)) = text.split_once(':') else {
        return grammar::name(text).map(Member::Identity);
    };
    let (login, who) = match rest.split_once('/') {
        Some((login, who)) => (Some(login), who),
        None => (None, rest),
    };
    let start = kind.len() + 1;
    if let Some(login) = login {
        grammar::name(login).map_err(|wrong| Wrong {
            code: codes::MEMBER,
            ..wrong.shifted(start)
        })?;
    }
    let fine = |c: char| !c.is_control() && !c.is_whitespace();
    if who.is_empty() || who.len() > 255 || !who.chars().all(fine) {
        let help = "write `group:<login>/<name>` or `user:<login>/<sub>`, without spaces";
        let message = format!("`{}` names nobody", shortened(text));
        return Err(Wrong::all(codes::MEMBER, text, message, help));
    }
    let login = login.map(str::to_owned);
    match kind {
        "group" => Ok(Member::Group {
            login,
            name: who.to_owned(),
        }),
        "user" => Ok(Member::User {
            login,
            sub: who.to_owned(),
        }),
        other => {
            let message = format!("`{}:` is no kind of member", shortened(other));
            let help = format!(
                "write `group:{0}`, `user:{0}`, or the name of an identity",
                shortened(rest)
            );
            Err(Wrong::at(codes::MEMBER, 0..other.len(), message, help))
        }
    }
}
