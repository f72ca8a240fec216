//! `schema`: the configuration language as JSON Schema.

use super::args::Output;
use super::ui::Ui;
use crate::operate::Failure;
use countersign_core::config::schema;

/// `schema`: the document itself in every form but `short`, which is its name.
pub(crate) fn run(ui: &mut Ui<'_>) -> Result<(), Failure> {
    let document = schema::json();
    let text = match ui.output {
        Output::Short => return ui.print(schema::ID),
        Output::Yaml => serde_saphyr::to_string(&document).map_err(|it| it.to_string()),
        Output::Table | Output::Json | Output::Svg | Output::File(_) => {
            serde_json::to_string_pretty(&document).map_err(|it| it.to_string())
        }
    };
    let text = text.map_err(Failure::failed)?;
    let Output::File(file) = ui.output.clone() else {
        return ui.print(&text);
    };
    let shown = file.display();
    std::fs::write(&file, format!("{text}\n"))
        .map_err(|error| Failure::failed(format!("can't write `{shown}`: {error}")))?;
    ui.note(&format!(
        "wrote `{shown}`; editors read it if the configuration begins with\n\
         # yaml-language-server: $schema=./{shown}"
    ));
    Ok(())
}
