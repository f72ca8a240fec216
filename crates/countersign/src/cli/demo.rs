//! `demo`: the tour, and its parts as processes of their own.

use super::args::DemoArgs;
use super::args::DemoPart;
use super::ui::Answer;
use super::ui::Style;
use super::ui::Ui;
use crate::demo;
use crate::operate::Failure;

pub(crate) async fn run(args: &DemoArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    match &args.part {
        None => tour(args, ui).await,
        Some(DemoPart::Serve(part)) => {
            let served = match &part.what {
                super::args::ServedPart::HmsApi { listen, identity } => {
                    demo::serve_hms_api(*listen, identity).await
                }
                super::args::ServedPart::Model {
                    listen,
                    folder,
                    key_file,
                } => demo::serve_model(*listen, folder, key_file).await,
            };
            served.map_err(|error| Failure::failed(format!("{error:#}")))
        }
    }
}

async fn tour(args: &DemoArgs, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let failed = |error: anyhow::Error| Failure::failed(format!("{error:#}"));
    let temporary = match &args.keep {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(|error| Failure::failed(error.to_string()))?),
    };
    let folder = match (&args.keep, &temporary) {
        (Some(keep), _) => keep.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Failure::failed("no folder for the tour")),
    };
    let report = demo::take(&folder).await.map_err(failed)?;
    let mut document = report.document();
    let next = report.receipts().get(4).cloned().unwrap_or_default();
    let mut text =
        report.text(&|good, word| ui.paint(if good { Style::Good } else { Style::Bad }, word));
    match &args.keep {
        Some(keep) => {
            if let serde_json::Value::Object(members) = &mut document {
                members.insert("schema".to_owned(), demo::SCHEMA.into());
            }
            let json = serde_json::to_string_pretty(&document).unwrap_or_default();
            std::fs::write(keep.join("demo.json"), json + "\n").map_err(|error| {
                Failure::failed(format!("can't write to `{}`: {error}", keep.display()))
            })?;
            let keep = keep.display();
            text.push_str(&format!(
                "\nkept in {keep}\nnext:  countersign audit verify {keep}/proof.json --key '{}'\n",
                report.log_key()
            ));
        }
        None => text.push_str("\nnext:  countersign init      countersign demo --keep DIR\n"),
    }
    ui.answer(Answer {
        document,
        schema: demo::SCHEMA,
        short: &next,
        text: &text,
    })?;
    if report.holds() {
        Ok(())
    } else {
        Err(Failure::Check(
            "the tour did not come out as it should".to_owned(),
        ))
    }
}
