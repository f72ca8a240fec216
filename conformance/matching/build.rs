//! Copies the matcher and the decision out of `core`, each copy with one mistake.
//!
//! What is copied is what decides: the snapshot, the pillars but the last, and `decide`. The
//! configuration, the hop and the vocabulary are those of `core`, so that all copies are asked the
//! same. Where a mutation's text is no longer found, the build stops: mutations are kept in step.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

include!("mutations.rs");

const COPIED: [&str; 3] = ["decide.rs", "pillars", "snapshot"];

/// What a copy does without, because it decides nothing and reaches into the rest of `core`: the
/// file, the text, and what stands there instead.
const APART: [(&str, &str, &str); 3] = [
    // The last pillar is the ledger's.
    ("pillars/mod.rs", "pub mod audit;", ""),
    (
        "snapshot/project.rs",
        "use crate::config::project::Keep;",
        "",
    ),
    (
        "snapshot/compile.rs",
        "config::load_part(&bundle, &bundle.entry, &options, logins)",
        "config::load(&bundle, &bundle.entry, &options)",
    ),
];

/// The same, from a text to the end of the file: how the part for a gateway is made.
const CUT: [(&str, &str); 1] = [("snapshot/project.rs", "impl Snapshot {")];

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let core = here.join("../../crates/core/src");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=mutations.rs");
    let mut modules = String::new();
    let mut list = String::new();
    for (number, mutation) in MUTATIONS.iter().enumerate() {
        let module = format!("m{number}");
        let folder = out.join(&module);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut copy = Copy {
            mutation,
            module: &module,
            applied: 0,
        };
        for part in COPIED {
            let from = core.join(part);
            println!("cargo::rerun-if-changed={}", from.display());
            copy.tree(&from, &folder.join(part), part)?;
        }
        if copy.applied != 1 {
            let Mutation { name, file, .. } = mutation;
            return Err(
                format!("the mutation `{name}` finds nothing to change in `{file}`").into(),
            );
        }
        modules.push_str(&declared(&module, &folder));
        list.push_str(&format!(
            "    Mutant {{ name: {:?}, compile: {module} }},\n",
            mutation.name
        ));
    }
    let all =
        format!("{modules}\n/// Every wrong copy.\npub const MUTANTS: &[Mutant] = &[\n{list}];\n");
    fs::write(out.join("mutants.rs"), all)?;
    Ok(())
}

struct Copy<'a> {
    mutation: &'a Mutation,
    module: &'a str,
    applied: usize,
}

impl Copy<'_> {
    /// Copies a file or a folder; `path` is where it is below `crates/core/src`.
    fn tree(&mut self, from: &Path, to: &Path, path: &str) -> Result<(), Box<dyn Error>> {
        if !from.is_dir() {
            let text = self.changed(path, fs::read_to_string(from)?)?;
            return Ok(fs::write(to, text)?);
        }
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let name = entry.file_name();
            let path = format!("{path}/{}", name.to_string_lossy());
            self.tree(&entry.path(), &to.join(&name), &path)?;
        }
        Ok(())
    }

    fn changed(&mut self, path: &str, mut text: String) -> Result<String, Box<dyn Error>> {
        let Mutation {
            name,
            file,
            right,
            wrong,
        } = self.mutation;
        if path == *file {
            text = once(file, &text, right)
                .map_err(|error| format!("the mutation `{name}`: {error}"))?
                .replace(right, wrong);
            self.applied += 1;
        }
        for (_, given, instead) in APART.iter().filter(|(file, ..)| *file == path) {
            text = once(path, &text, given)?.replace(given, instead);
        }
        for (_, from) in CUT.iter().filter(|(file, _)| *file == path) {
            let (kept, _) = once(path, &text, from)?
                .split_once(from)
                .unwrap_or_default();
            text = kept.to_owned();
        }
        Ok(text.replace("crate::", &format!("crate::mutants::{}::", self.module)))
    }
}

/// The text, if it has the other in it exactly once.
fn once<'t>(file: &str, text: &'t str, given: &str) -> Result<&'t str, String> {
    match text.matches(given).count() {
        1 => Ok(text),
        found => Err(format!("`{given}` is written {found} times in `{file}`")),
    }
}

fn declared(module: &str, folder: &Path) -> String {
    let part = |name: &str, file: &str| {
        let path = folder.join(file).display().to_string();
        format!("    #[path = {path:?}]\n    pub mod {name};\n")
    };
    format!(
        "#[allow(warnings)]\npub mod {module} {{\n    \
             pub use countersign_core::{{config, hop, record, vocabulary}};\n{}{}{}}}\n\
         compile!({module});\n",
        part("decide", "decide.rs"),
        part("pillars", "pillars/mod.rs"),
        part("snapshot", "snapshot/mod.rs"),
    )
}
