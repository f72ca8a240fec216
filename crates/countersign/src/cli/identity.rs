//! `identity`: who there is, certificates for them, and taking them back.

use super::args::Globals;
use super::args::IdentityArgs;
use super::args::IdentityCommand;
use super::args::IssueArgs;
use super::args::RevokeArgs;
use super::args::RevokeKind;
use super::ui::Answer;
use super::ui::Ui;
use super::ui::table;
use crate::operate::Admin;
use crate::operate::Failure;
use crate::operate::issue_into;
use countersign_client::BUNDLE_FILE;
use countersign_client::CHAIN_FILE;
use countersign_client::ENDPOINTS_FILE;
use countersign_client::KEY_FILE;
use countersign_core::snapshot::Revoked;
use countersign_core::vocabulary::Digest;
use countersign_core::vocabulary::Name;
use countersign_core::vocabulary::SpiffeId;
use countersign_core::vocabulary::TrustDomain;
use countersign_server::admin::IdentityEntry;
use countersign_wire::admin::Revoke;
use countersign_wire::admin::RevokedNow;
use countersign_wire::admin::Status;
use serde_json::json;

/// `identity`.
pub(crate) async fn run(
    args: IdentityArgs,
    globals: &Globals,
    ui: &mut Ui<'_>,
) -> Result<(), Failure> {
    match args.command {
        IdentityCommand::Ls => list(globals, ui).await,
        IdentityCommand::Issue(args) => issue(&args, globals, ui).await,
        IdentityCommand::Revoke(args) => revoke(&args, globals, ui).await,
    }
}

async fn list(globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let entries: Vec<IdentityEntry> = globals.admin().get("/v1/admin/identity").await?;
    let rows = entries.iter().map(|it| {
        let user = it
            .unix_user
            .as_ref()
            .map_or_else(|| "-".to_owned(), |user| format!("unix:{user}"));
        vec![
            it.name.clone(),
            it.spiffe_id.clone(),
            it.certificates.to_string(),
            user,
        ]
    });
    let rows: Vec<_> = rows.collect();
    let names: Vec<_> = entries.iter().map(|it| it.name.as_str()).collect();
    ui.answer(Answer {
        document: json!({ "identities": entries }),
        schema: "countersign.identities/v1",
        short: &names.join("\n"),
        text: &table(&["NAME", "SPIFFE ID", "CERTIFICATES", "LOCAL USER"], &rows),
    })
}

async fn issue(args: &IssueArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let folder = &args.out;
    let issued = issue_into(&globals.admin(), &args.name, args.gateway, folder).await?;
    let (id, out) = (&issued.spiffe_id, folder.display());
    let text = format!(
        "{id}\n  certificate {} until {}\n  wrote {out}/{CHAIN_FILE} {KEY_FILE} {BUNDLE_FILE} \
         {ENDPOINTS_FILE}\nnext:  COUNTERSIGN_IDENTITY={out} countersign call GET SERVICE/PATH",
        issued.leaf, issued.not_after
    );
    let document = json!({
        "folder": folder, "leaf": issued.leaf, "not_after": issued.not_after, "spiffe_id": id,
    });
    ui.answer(Answer {
        document,
        schema: "countersign.identity/v1",
        short: id,
        text: &text,
    })
}

async fn revoke(args: &RevokeArgs, globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let admin = globals.admin();
    let what = revoked(args, &admin).await?;
    let message = Revoke {
        lift: args.lift,
        what,
    };
    let now: RevokedNow = admin.post("/v1/admin/revoke", &message).await?;
    let done = if args.lift {
        "no longer revoked"
    } else {
        "revoked"
    };
    let kind = clap::ValueEnum::to_possible_value(&args.kind);
    let kind = kind.as_ref().map_or("", |it| it.get_name());
    let mut text = format!(
        "{kind} {} is {done} (epoch {}), {} open streams ended",
        args.value, now.revocation.epoch, now.ended
    );
    if now.known == Some(false) {
        text.push_str(match now.revocation.what {
            Revoked::Certificate(_) => "\nnote   no such certificate was issued here",
            _ => "\nnote   no such identity is configured, and none has a certificate: a typo?",
        });
    }
    let document = json!({ "ended": now.ended, "known": now.known, "revocation": now.revocation });
    let epoch = now.revocation.epoch.to_string();
    ui.answer(Answer {
        document,
        schema: "countersign.revocation/v1",
        short: &epoch,
        text: &text,
    })
}

async fn revoked(args: &RevokeArgs, admin: &Admin) -> Result<Revoked, Failure> {
    let value = args.value.as_str();
    let digest = || {
        Digest::from_hex(value)
            .map_err(|_| Failure::usage(format!("`{value}` is no SHA-256 in hex")))
    };
    Ok(match args.kind {
        RevokeKind::Certificate => Revoked::Certificate(digest()?),
        RevokeKind::Session => Revoked::Session(digest()?),
        RevokeKind::Issuer => Revoked::Issuer(digest()?),
        RevokeKind::Token => Revoked::Token(value.to_owned()),
        RevokeKind::Subject => Revoked::Subject(value.to_owned()),
        RevokeKind::Identity if value.starts_with("spiffe://") => {
            let id = SpiffeId::parse(value);
            Revoked::Identity(id.map_err(|error| Failure::usage(error.to_string()))?)
        }
        RevokeKind::Identity => {
            let name = Name::new(value).map_err(|error| Failure::usage(error.to_string()))?;
            let status: Status = admin.get("/v1/admin/status").await?;
            let domain = TrustDomain::new(&status.trust_domain)
                .map_err(|error| Failure::failed(error.to_string()))?;
            Revoked::Identity(SpiffeId::of_identity(&domain, &name))
        }
    })
}
