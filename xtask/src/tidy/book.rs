//! The documentation is a book in which nothing leads nowhere.
//!
//! `docs/SUMMARY.md` names every page below `docs/` once, every relative link and every anchor of
//! every document leads somewhere, and the `type` of a refusal, `<book>/errors/<code>`, is led on to
//! what the book says of the code. Anchors are those that mdBook makes, which are GitHub's too.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::Violation;
use super::tree::{File, Tree};

const BOOK: &str = "docs/";
const SUMMARY: &str = "docs/SUMMARY.md";
const SETTINGS: &str = "docs/book.toml";
/// A heading for each code.
const CODES: &str = "docs/reference/errors.md";

/// How a page of the book names a file that is not in it.
const REPOSITORY: &[&str] = &[
    "https://github.com/countersign/countersign/blob/main/",
    "https://github.com/countersign/countersign/tree/main/",
];

/// Every page that the summary lacks or has twice, every link to nowhere, and every code of a
/// refusal whose `type` leads nowhere.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let documents = tree.files.iter().filter(|file| file.path.ends_with(".md"));
    let pages: Pages<'_> = documents
        .map(|file| (file.path.as_str(), Page::read(file)))
        .collect();
    let mut violations = contents(&pages);
    for (path, page) in &pages {
        let wrong = page.links.iter().filter_map(|link| {
            let message = nowhere(tree, &pages, path, &link.to)?;
            Some(Violation::new(path, link.line, message))
        });
        violations.extend(wrong);
    }
    violations.extend(codes(tree, &pages));
    violations
}

type Pages<'t> = BTreeMap<&'t str, Page>;

/// What a document has that others lead to, and where it leads.
#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<Link>,
}

struct Link {
    line: usize,
    to: String,
}

impl Page {
    fn read(file: &File) -> Self {
        let options = Options::ENABLE_TABLES
            | Options::ENABLE_FOOTNOTES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS
            | Options::ENABLE_HEADING_ATTRIBUTES;
        let mut page = Self::default();
        let mut heading: Option<(Option<String>, String)> = None;
        for (event, place) in Parser::new_ext(&file.text, options).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { id, .. }) => {
                    heading = Some((id.map(|id| id.to_string()), String::new()));
                }
                Event::End(TagEnd::Heading(_)) => {
                    if let Some((id, text)) = heading.take() {
                        page.add(&id.unwrap_or_else(|| anchor(&text)));
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    let before = file.text.get(..place.start).unwrap_or_default();
                    page.links.push(Link {
                        line: before.matches('\n').count() + 1,
                        to: dest_url.to_string(),
                    });
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some((_, heading)) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    let ids = html.split("id=\"").skip(1);
                    let ids = ids.filter_map(|rest| rest.split('"').next());
                    page.anchors.extend(ids.map(str::to_owned));
                }
                _ => {}
            }
        }
        page
    }

    /// A heading that is there before gets a number.
    fn add(&mut self, anchor: &str) {
        let mut unique = anchor.to_owned();
        for number in 1.. {
            if self.anchors.insert(unique) {
                return;
            }
            unique = format!("{anchor}-{number}");
        }
    }
}

/// Letters, digits, `-` and `_` in lower case, `-` for a blank, nothing for anything else.
fn anchor(heading: &str) -> String {
    let heading = heading.trim().to_lowercase();
    let kept = heading.chars().filter_map(|c| match c {
        c if c.is_whitespace() => Some('-'),
        c => (c.is_alphanumeric() || matches!(c, '-' | '_')).then_some(c),
    });
    kept.collect()
}

/// Pages that the summary does not name exactly once.
fn contents(pages: &Pages<'_>) -> Vec<Violation> {
    let links = pages.get(SUMMARY).map(|page| page.links.as_slice());
    let mut first = BTreeMap::new();
    let mut violations = Vec::new();
    for link in links.unwrap_or_default() {
        if let Some(line) = first.insert(link.to.as_str(), link.line) {
            let message = format!("names `{}` again, see line {line}", link.to);
            violations.push(Violation::new(SUMMARY, link.line, message));
        }
    }
    let unnamed = pages.keys().filter(|path| {
        let named = path.strip_prefix(BOOK).map(|page| first.contains_key(page));
        named == Some(false) && **path != SUMMARY
    });
    violations.extend(unnamed.map(|path| {
        let message = format!("is not in `{SUMMARY}`, so nobody finds it in the book");
        Violation::new(path, 1, message)
    }));
    violations
}

/// Why a link leads nowhere, if it does.
fn nowhere(tree: &Tree, pages: &Pages<'_>, from: &str, to: &str) -> Option<String> {
    let (path, anchor) = match to.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (to, None),
    };
    let ours = REPOSITORY.iter().find_map(|it| path.strip_prefix(it));
    let target = match ours {
        Some(path) => Some(path.to_owned()),
        None if path.contains("://") || path.starts_with("mailto:") => return None,
        None if path.is_empty() => Some(from.to_owned()),
        None => joined(from, path),
    };
    let Some(target) = target.map(|it| it.trim_end_matches('/').to_owned()) else {
        return Some(format!("`{to}` leads out of the repository"));
    };
    let in_book = from.starts_with(BOOK);
    if ours.is_none() && in_book && !target.starts_with(BOOK) {
        let base = REPOSITORY.first().unwrap_or(&"");
        return Some(format!(
            "`{to}` leads out of the book: write `{base}{target}`"
        ));
    }
    let folder = tree.files.iter().any(|file| {
        let below = file.path.strip_prefix(target.as_str());
        below.is_some_and(|it| it.starts_with('/'))
    });
    let linkable = ours.is_some() || !in_book;
    if tree.file(&target).is_none() && !(folder && linkable) {
        return Some(format!("`{to}` leads nowhere: there is no `{target}`"));
    }
    let anchor = anchor?;
    let page = pages.get(target.as_str());
    let there = page.is_some_and(|page| page.anchors.contains(anchor));
    (!there).then(|| format!("`{to}` leads nowhere: `{target}` has no heading `#{anchor}`"))
}

/// A path as seen from a file, from the root of the repository; nothing above that.
fn joined(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Codes of refusals that the book does not lead to.
fn codes(tree: &Tree, pages: &Pages<'_>) -> Vec<Violation> {
    let settings = tree.file(SETTINGS).map_or("", |file| file.text.as_str());
    let anchors = pages.get(CODES).map(|page| page.anchors.iter());
    let refusals = anchors.into_iter().flatten().filter(|anchor| {
        let digits = anchor.strip_prefix("csd").unwrap_or_default();
        digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let lines = refusals.map(|anchor| {
        let code = anchor.to_uppercase();
        format!("\"/errors/{code}.html\" = \"../reference/errors.html#{anchor}\"")
    });
    lines
        .filter(|line| !settings.lines().any(|it| it == line))
        .map(|line| {
            let message = format!("the `type` of a refusal leads nowhere without `{line}`");
            Violation::new(SETTINGS, 1, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::reported;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        reported(check, files)
    }

    #[test]
    fn pages_that_the_summary_lacks_or_has_twice_or_without_being_are_found() {
        let summary = "# Summary\n\n- [A](a.md)\n  - [B](b/c.md)\n- [A](a.md)\n- [D](d.md)\n";
        let files = [
            (SUMMARY, summary),
            ("docs/a.md", "# A"),
            ("docs/b/c.md", "# C"),
            ("docs/e.md", "# E"),
            ("README.md", "# not of the book"),
        ];
        assert_eq!(
            of(&files),
            [
                "docs/SUMMARY.md:5: names `a.md` again, see line 3",
                "docs/e.md:1: is not in `docs/SUMMARY.md`, so nobody finds it in the book",
                "docs/SUMMARY.md:6: `d.md` leads nowhere: there is no `docs/d.md`",
            ]
        );
    }

    #[test]
    fn pages_without_a_summary_are_found() {
        assert_eq!(of(&[("docs/a.md", "# A")]).len(), 1);
    }

    #[test]
    fn links_to_nowhere_are_found() {
        let text = "[a](gone.md)\n[b](other.md#no)\n[c](#no)\n\n![d](gone.svg)\n[e](../../x)\n\
                    [f]\n\n[f]: gone/f.md\n";
        assert_eq!(
            of(&[("a/README.md", text), ("a/other.md", "# Yes")]),
            [
                "a/README.md:1: `gone.md` leads nowhere: there is no `a/gone.md`",
                "a/README.md:2: `other.md#no` leads nowhere: `a/other.md` has no heading `#no`",
                "a/README.md:3: `#no` leads nowhere: `a/README.md` has no heading `#no`",
                "a/README.md:5: `gone.svg` leads nowhere: there is no `a/gone.svg`",
                "a/README.md:6: `../../x` leads out of the repository",
                "a/README.md:7: `gone/f.md` leads nowhere: there is no `a/gone/f.md`",
            ]
        );
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let text = "# A `listeners.<name>` key, [linked](b.md)\n\
                    [1](#a-listenersname-key-linked) [2](b.md#b-1) [3](b.md#own) [4](../src/) [5](b.md#at)\n\
                    [6](https://example.org/x#y) <mailto:a@example.org> `[7](gone.md)`\n\n\
                    ```\n[8](gone.md)\n```\n";
        let files = [
            ("a/a.md", text),
            ("a/b.md", "# B\n# B\n# C {#own}\n<a id=\"at\"></a>\n"),
            ("src/lib.rs", ""),
        ];
        assert_eq!(of(&files), [""; 0]);
    }

    #[test]
    fn a_page_of_the_book_names_other_files_by_their_address() {
        let text = "[1](../README.md)\n\
                    [2](https://github.com/countersign/countersign/blob/main/README.md#a)\n\
                    [3](https://github.com/countersign/countersign/tree/main/src)\n\
                    [4](https://github.com/countersign/countersign/blob/main/README.md#b)\n\
                    [5](folder)\n";
        let files = [
            (SUMMARY, "[A](a.md) [B](folder/b.md)"),
            ("docs/a.md", text),
            ("docs/folder/b.md", ""),
            ("README.md", "# A"),
            ("src/lib.rs", ""),
        ];
        let address = "https://github.com/countersign/countersign/blob/main/README.md";
        assert_eq!(
            of(&files),
            [
                format!("docs/a.md:1: `../README.md` leads out of the book: write `{address}`"),
                format!(
                    "docs/a.md:4: `{address}#b` leads nowhere: `README.md` has no heading `#b`"
                ),
                "docs/a.md:5: `folder` leads nowhere: there is no `docs/folder`".to_owned(),
            ]
        );
    }

    #[test]
    fn a_code_that_the_book_does_not_lead_to_is_found() {
        let codes = (CODES, "# Errors\n### CS0100\n### CSD401\n### CSD402\n");
        let line = "\"/errors/CSD401.html\" = \"../reference/errors.html#csd401\"";
        let files = [
            (SUMMARY, "[E](reference/errors.md)"),
            codes,
            (SETTINGS, line),
        ];
        assert_eq!(
            of(&files),
            [
                "docs/book.toml:1: the `type` of a refusal leads nowhere without \
                 `\"/errors/CSD402.html\" = \"../reference/errors.html#csd402\"`"
            ]
        );
    }
}
