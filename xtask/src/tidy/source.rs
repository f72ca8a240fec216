//! Rust source as a flat list of tokens: comments are gone, a string is one token, and every
//! token knows its line and whether only a test build sees it.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// The tokens of one file.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) tokens: Vec<Token>,
}

/// One token; a group is its opening token, what is in it, and its closing token.
pub(crate) struct Token {
    /// As written; `::`, `==` and `!=` are one token.
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
    /// Inside an item that only a test build compiles.
    pub(crate) test: bool,
    /// How many `mod x { .. }` of this file it is in.
    pub(crate) inline_modules: usize,
}

/// One name that a `use` brings in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The whole path, groups multiplied out.
    pub(crate) path: Vec<String>,
    /// The name after `as`.
    pub(crate) alias: Option<String>,
    pub(crate) line: usize,
    pub(crate) public: bool,
    pub(crate) test: bool,
}

impl Source {
    /// The tokens of `text`, or none where it is not Rust (the compiler says so better).
    pub(crate) fn parse(text: &str) -> Self {
        let mut tokens = Vec::new();
        if let Ok(stream) = text.parse::<TokenStream>() {
            flatten(stream, false, 0, &mut tokens);
        }
        Self { tokens }
    }

    /// Where these tokens follow one another: index of the first.
    pub(crate) fn find<'a>(&'a self, pattern: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
        self.tokens
            .windows(pattern.len().max(1))
            .enumerate()
            .filter(|(_, window)| {
                window
                    .iter()
                    .map(|token| token.text.as_str())
                    .eq(pattern.iter().copied())
            })
            .map(|(index, _)| index)
    }

    /// The text of the token at `index`, or nothing beyond the end.
    pub(crate) fn text(&self, index: usize) -> &str {
        self.tokens
            .get(index)
            .map_or("", |token| token.text.as_str())
    }

    /// Every name that a `use` item brings in.
    pub(crate) fn uses(&self) -> Vec<Use> {
        let mut found = Vec::new();
        for start in self.find(&["use"]) {
            // `use<'a>` is a capture list, not an import.
            if self.text(start + 1) == "<" {
                continue;
            }
            let before = start.checked_sub(1).map_or("", |index| self.text(index));
            let public = before == "pub" || before == ")";
            let mut names = Vec::new();
            self.use_tree(start + 1, &[], &mut names);
            let test = self.tokens.get(start).is_some_and(|token| token.test);
            found.extend(names.into_iter().map(|(path, alias, line)| Use {
                path,
                alias,
                line,
                public,
                test,
            }));
        }
        found
    }

    /// Reads one branch of a `use` tree from `at`; returns the index after it.
    fn use_tree(&self, mut at: usize, prefix: &[String], names: &mut Vec<Name>) -> usize {
        let mut path = prefix.to_vec();
        loop {
            match self.text(at) {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | "") {
                        at = self.use_tree(at, &path, names);
                        if self.text(at) == "," {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "," | "}" | ";" | "as" | "" => break,
                name => {
                    path.push(name.to_owned());
                    at += 1;
                }
            }
        }
        let line = at
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last))
            .map_or(0, |token| token.line);
        let alias = (self.text(at) == "as").then(|| self.text(at + 1).to_owned());
        at += if alias.is_some() { 2 } else { 0 };
        names.push((path, alias, line));
        at
    }
}

type Name = (Vec<String>, Option<String>, usize);

fn flatten(stream: TokenStream, test: bool, inline_modules: usize, tokens: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut whole_test = test;
    // An attribute that says "tests only" holds until the end of the item it stands before.
    let mut item_test = false;
    let mut index = 0;
    while let Some(tree) = trees.get(index) {
        if let Some((attribute, inner)) = attribute(&trees, index) {
            whole_test |= inner && is_test_attribute(attribute);
            item_test |= !inner && is_test_attribute(attribute);
            if first_word(attribute).as_deref() == Some("doc") {
                index += if inner { 3 } else { 2 };
                continue;
            }
        }
        let here = whole_test || item_test;
        let line = tree.span().start().line;
        let mut push = |text: String, line: usize| {
            tokens.push(Token {
                text,
                line,
                test: here,
                inline_modules,
            });
        };
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = delimiters(group);
                push(open.to_owned(), line);
                let module = group.delimiter() == Delimiter::Brace && after_mod(&trees, index);
                let inside = inline_modules + usize::from(module);
                flatten(group.stream(), here, inside, tokens);
                let line = group.span_close().start().line;
                tokens.push(Token {
                    text: close.to_owned(),
                    line,
                    test: here,
                    inline_modules,
                });
                let brace = group.delimiter() == Delimiter::Brace;
                item_test = item_test && !brace;
            }
            TokenTree::Punct(punct) => {
                let pair = match (punct.spacing(), trees.get(index + 1)) {
                    (Spacing::Joint, Some(TokenTree::Punct(next))) => {
                        format!("{}{}", punct.as_char(), next.as_char())
                    }
                    _ => String::new(),
                };
                if matches!(pair.as_str(), "::" | "==" | "!=") {
                    push(pair, line);
                    index += 1;
                } else {
                    push(punct.to_string(), line);
                    item_test = item_test && punct.as_char() != ';';
                }
            }
            other => push(other.to_string(), line),
        }
        index += 1;
    }
}

/// The brackets of an attribute that starts at `index`, and whether it is an inner one.
fn attribute(trees: &[TokenTree], index: usize) -> Option<(&Group, bool)> {
    let is = |at: usize, sign: char| matches!(trees.get(at), Some(TokenTree::Punct(p)) if p.as_char() == sign);
    if !is(index, '#') {
        return None;
    }
    let inner = is(index + 1, '!');
    match trees.get(index + 1 + usize::from(inner)) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some((group, inner))
        }
        _ => None,
    }
}

/// `cfg(test)`, `cfg(all(test, ..))`, `test`, `tokio::test(..)`.
fn is_test_attribute(attribute: &Group) -> bool {
    let mut words = Vec::new();
    let mut arguments = String::new();
    for tree in attribute.stream() {
        match tree {
            TokenTree::Ident(word) => words.push(word.to_string()),
            TokenTree::Group(group) => arguments = group.stream().to_string(),
            _ => {}
        }
    }
    match words.last().map(String::as_str) {
        Some("test") => true,
        Some("cfg") => {
            let mut parts = arguments.split(|c: char| !c.is_alphanumeric() && c != '_');
            !arguments.contains("not") && parts.any(|word| word == "test")
        }
        _ => false,
    }
}

fn first_word(group: &Group) -> Option<String> {
    match group.stream().into_iter().next() {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    }
}

/// Whether the group at `index` is the body of `mod name`.
fn after_mod(trees: &[TokenTree], index: usize) -> bool {
    let word = |back: usize| match index.checked_sub(back).and_then(|at| trees.get(at)) {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    };
    word(1).is_some() && word(2).as_deref() == Some("mod")
}

fn delimiters(group: &Group) -> (&'static str, &'static str) {
    match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, pattern: &[&str]) -> Vec<(usize, bool)> {
        let source = Source::parse(text);
        source
            .find(pattern)
            .map(|at| (source.tokens[at].line, source.tokens[at].test))
            .collect()
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "// a::b\n/// a::b\n/* a::b */ fn f() { \"a::b\"; a::b }\n";
        assert_eq!(lines(text, &["a", "::", "b"]), [(3, false)]);
    }

    #[test]
    fn test_items_are_known_and_end() {
        let text = "#[cfg(test)]\nmod tests { fn f() { x } }\nfn g() { x }\n#[tokio::test]\nasync fn h() { x }\n#[cfg(not(test))]\nfn i() { x }\n#[cfg(test)]\nuse x;\nfn j() { x }";
        let seen = lines(text, &["x"]);
        let expect = [
            (2, true),
            (3, false),
            (5, true),
            (7, false),
            (9, true),
            (10, false),
        ];
        assert_eq!(seen, expect);
    }

    #[test]
    fn an_inner_attribute_covers_the_file() {
        assert_eq!(lines("#![cfg(test)]\nfn f() { x }", &["x"]), [(2, true)]);
    }

    #[test]
    fn inline_modules_are_counted() {
        let source = Source::parse("mod a { mod b { x } y }");
        let depth = |word: &str| {
            let at = source.find(&[word]).next().expect("there");
            source.tokens[at].inline_modules
        };
        assert_eq!((depth("x"), depth("y")), (2, 1));
    }

    #[test]
    fn uses_are_multiplied_out() {
        let source = Source::parse("pub use crate::a::{B as C, d::{self, E}};\nuse f::g;");
        let uses: Vec<_> = source
            .uses()
            .into_iter()
            .map(|name| (name.path.join("::"), name.alias, name.line, name.public))
            .collect();
        let expect = [
            ("crate::a::B", Some("C"), 1, true),
            ("crate::a::d::self", None, 1, true),
            ("crate::a::d::E", None, 1, true),
            ("f::g", None, 2, false),
        ]
        .map(|(path, alias, line, public)| {
            (path.to_owned(), alias.map(str::to_owned), line, public)
        });
        assert_eq!(uses, expect);
    }
}
