//! `errors.md`: every code of the checker, and every code of a refusal.

use super::MADE;
use countersign_client::remedy;
use countersign_core::config::codes::PAGES;
use countersign_core::vocabulary::Code;
use countersign_core::vocabulary::Pillar;

const INTRODUCTION: &str = "\
Codes that begin with `CS0` come from `countersign check` and whatever else reads a configuration; \
codes that begin with `CSD` come with a refusal. `countersign explain <code>` prints the same. A \
code is never given a second meaning.";

const REFUSALS: &str = "\
The digit behind `CSD` is the pillar that refused. A caller learns the pillar and the code, no more; \
`countersign explain <receipt>` says to those who may read the record why.";

/// The series of the checker, by what their codes start with.
const SERIES: [(&str, &str); 6] = [
    ("CS01", "The form of the file"),
    ("CS02", "Names"),
    ("CS03", "Insecure or impossible"),
    ("CS04", "Secrets"),
    ("CS05", "Files"),
    ("CS09", "Tests"),
];

pub(super) fn page() -> String {
    let mut lines = vec![
        MADE.to_owned(),
        "# Errors".to_owned(),
        INTRODUCTION.to_owned(),
    ];
    for (series, title) in SERIES {
        lines.push(format!("## {title}"));
        let mut pages: Vec<_> = PAGES
            .iter()
            .filter(|page| page.code.as_str().starts_with(series))
            .collect();
        pages.sort_by_key(|page| page.code);
        lines.extend(
            pages
                .iter()
                .map(|page| format!("### {}\n\n**{}**\n\n{}", page.code, page.title, page.text)),
        );
    }
    lines.push(format!("## Refusals\n\n{REFUSALS}"));
    for pillar in Pillar::ALL {
        let codes = Code::ALL.iter().filter(|code| code.pillar() == pillar);
        lines.extend(codes.map(|code| refusal(*code)));
    }
    lines.join("\n\n") + "\n"
}

fn refusal(code: Code) -> String {
    let (pillar, status, title) = (code.pillar(), code.status(), code.title());
    let fix = remedy(pillar, Some(code));
    format!("### {code}\n\n**{title}**\n\nPillar `{pillar}`, status {status}. What helps: {fix}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_it_once() {
        let page = page();
        let heading = |code: &str| page.matches(&format!("### {code}\n")).count();
        for it in PAGES {
            assert_eq!(heading(it.code.as_str()), 1, "{}", it.code);
        }
        for code in Code::ALL {
            assert_eq!(heading(&code.to_string()), 1, "{code}");
        }
    }
}
