//! The drawing: a column or more for each group, a box for each node, a curve for each arrow.
//!
//! The same map gives the same bytes. It needs nothing from anywhere else, says in words what it
//! shows, and follows the reader's light or dark.

use super::Arrow;
use super::Group;
use super::Map;
use super::Node;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const MARGIN: usize = 24;
const HEAD: usize = 28;
const BOX: usize = 30;
const GAP: usize = 14;
/// Room between columns, for the curves.
const LANE: usize = 110;
/// Boxes in a column before the group gets another.
const ROWS: usize = 24;
/// Width of a character of the names, which are monospaced.
const LETTER: usize = 8;
const NARROWEST: usize = 90;

const STYLE: &str = "\
:root{color-scheme:light dark}\
svg{background:#fff}text{font:13px ui-monospace,monospace;fill:#1a1a1a}\
.head{font-weight:700}.node rect{fill:#f4f6f8;stroke:#57606a}\
.arrow{fill:none;stroke:#2f5d8a;stroke-width:1.5}.tip{fill:#2f5d8a}\
@media (prefers-color-scheme:dark){svg{background:#101418}text{fill:#e6e6e6}\
.node rect{fill:#1d252d;stroke:#8b98a5}.arrow{stroke:#7fb4e6}.tip{fill:#7fb4e6}}";

/// A box with its name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    width: usize,
    x: usize,
    y: usize,
}

struct Layout<'a> {
    /// The first box of each column, for the heads.
    columns: Vec<(Group, Frame)>,
    frames: BTreeMap<&'a str, Frame>,
    height: usize,
    width: usize,
}

pub(super) fn draw(map: &Map) -> String {
    let layout = layout(&map.nodes);
    let (width, height) = (layout.width, layout.height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">Who reaches what</title>\n<desc id=\"desc\">{}</desc>\n\
         <style>{STYLE}</style>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0L8 4L0 8z\"/></marker></defs>\n",
        escaped(&in_words(map))
    );
    for arrow in &map.arrows {
        curve(arrow, &layout, &mut out);
    }
    for (group, first) in &layout.columns {
        let (x, y) = (first.x, MARGIN + HEAD / 2);
        line(
            &mut out,
            &format!(
                "<text class=\"head\" x=\"{x}\" y=\"{y}\">{}</text>",
                group.word()
            ),
        );
    }
    for node in &map.nodes {
        if let Some(frame) = layout.frames.get(node.name.as_str()) {
            boxed(node, *frame, &mut out);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn layout(nodes: &[Node]) -> Layout<'_> {
    let mut layout = Layout {
        columns: Vec::new(),
        frames: BTreeMap::new(),
        height: 2 * MARGIN + HEAD,
        width: MARGIN,
    };
    for group in nodes.chunk_by(|one, other| one.group == other.group) {
        for column in group.chunks(ROWS) {
            let longest = column.iter().map(|it| it.name.chars().count()).max();
            let width = (longest.unwrap_or(0) * LETTER + 2 * LETTER).max(NARROWEST);
            for (row, node) in column.iter().enumerate() {
                let y = MARGIN + HEAD + row * (BOX + GAP);
                let frame = Frame {
                    width,
                    x: layout.width,
                    y,
                };
                if row == 0 {
                    layout.columns.push((node.group, frame));
                }
                layout.frames.insert(&node.name, frame);
                layout.height = layout.height.max(y + BOX + MARGIN);
            }
            layout.width += width + LANE;
        }
    }
    layout
}

/// From the right side of one box to the left side of the other; to one that does not lie further
/// right, around by the right.
fn curve(arrow: &Arrow, layout: &Layout<'_>, out: &mut String) {
    let ends = (
        layout.frames.get(arrow.from.as_str()),
        layout.frames.get(arrow.to.as_str()),
    );
    let (Some(from), Some(to)) = ends else { return };
    let (x1, y1) = (from.x + from.width, from.y + BOX / 2);
    let y2 = to.y + BOX / 2;
    let path = if to.x > from.x {
        let (x2, bend) = (to.x, LANE / 2);
        format!(
            "M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}",
            x1 + bend,
            x2.saturating_sub(bend)
        )
    } else {
        let x2 = to.x + to.width;
        let out_to = x1.max(x2) + LANE / 2;
        // One that leads back to where it starts ends lower than it begins.
        let y2 = if from == to { y2 + BOX / 4 } else { y2 };
        format!("M{x1} {y1}C{out_to} {y1} {out_to} {y2} {x2} {y2}")
    };
    let said = escaped(&said(arrow));
    line(
        out,
        &format!(
            "<g><title>{said}</title><path class=\"arrow\" d=\"{path}\" marker-end=\"url(#tip)\"/></g>"
        ),
    );
}

fn boxed(node: &Node, frame: Frame, out: &mut String) {
    let Frame { width, x, y } = frame;
    let (name, word) = (escaped(&node.name), node.group.word());
    let (tx, ty) = (x + LETTER, y + BOX / 2 + 5);
    line(
        out,
        &format!(
            "<g class=\"node\"><title>{word} {name}</title><rect x=\"{x}\" y=\"{y}\" \
             width=\"{width}\" height=\"{BOX}\" rx=\"4\"/><text x=\"{tx}\" y=\"{ty}\">{name}</text></g>"
        ),
    );
}

fn line(out: &mut String, text: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(out, "{text}");
}

fn said(arrow: &Arrow) -> String {
    let operations = arrow.operations.join(", ");
    format!("{} -> {}: {operations}", arrow.from, arrow.to)
}

/// The same for whoever does not see it.
fn in_words(map: &Map) -> String {
    let arrows: Vec<_> = map.arrows.iter().map(said).collect();
    format!(
        "{} nodes and {} arrows. {}",
        map.nodes.len(),
        map.arrows.len(),
        arrows.join("; ")
    )
}

/// Text for XML 1.0: its five characters by name, those it can't have replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, group: Group) -> Node {
        let name = name.to_owned();
        Node { group, name }
    }

    fn arrow(from: &str, to: &str) -> Arrow {
        Arrow {
            from: from.to_owned(),
            line: "1".to_owned(),
            operations: vec!["GET /<a>&\"b\"".to_owned()],
            to: to.to_owned(),
        }
    }

    /// So many nodes in all groups, each with arrows ahead, back and to itself.
    fn map(count: usize) -> Map {
        let groups = [
            Group::Door,
            Group::Workload,
            Group::Service,
            Group::Database,
            Group::BuiltIn,
        ];
        let mut nodes: Vec<_> = (0..count)
            .map(|at| {
                node(
                    &format!("node-{at}-{}", "x".repeat(at % 40)),
                    groups[at % groups.len()],
                )
            })
            .collect();
        nodes.sort_by_key(|it| it.group);
        let arrows = (0..count)
            .flat_map(|at| [(at, (at * 7 + 3) % count), (at, at)])
            .map(|(from, to)| arrow(&nodes[from].name, &nodes[to].name))
            .collect();
        Map { arrows, nodes }
    }

    /// Every element that is opened is closed in order, and no bare `&` or `<` is left.
    fn well_formed(text: &str) {
        let mut open = Vec::new();
        for piece in text.split('<').skip(1) {
            let (tag, rest) = piece.split_once('>').unwrap();
            for entity in rest.split('&').skip(1) {
                let (name, _) = entity.split_once(';').unwrap();
                assert!(
                    ["amp", "lt", "gt", "quot", "apos"].contains(&name),
                    "{name}"
                );
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.to_owned()));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap().to_owned());
            }
        }
        assert_eq!(open, Vec::<String>::new());
    }

    #[test]
    fn it_is_well_formed_and_draws_every_arrow_and_node() {
        for count in [1, 2, 30, 500] {
            let map = map(count);
            let drawn = draw(&map);
            well_formed(&drawn);
            assert_eq!(drawn.matches("class=\"arrow\"").count(), map.arrows.len());
            assert_eq!(drawn.matches("class=\"node\"").count(), map.nodes.len());
            for arrow in &map.arrows {
                assert!(drawn.contains(&format!("<title>{}</title>", escaped(&said(arrow)))));
            }
            assert_eq!(drawn, draw(&map), "the same bytes");
        }
        well_formed(&draw(&Map {
            arrows: Vec::new(),
            nodes: Vec::new(),
        }));
    }

    #[test]
    fn no_box_lies_on_another_and_all_lie_inside() {
        for count in [30, 500] {
            let map = map(count);
            let layout = layout(&map.nodes);
            let frames: Vec<_> = layout.frames.values().collect();
            assert_eq!(frames.len(), count);
            for (at, one) in frames.iter().enumerate() {
                assert!(one.x + one.width <= layout.width && one.y + BOX <= layout.height);
                for other in frames.iter().skip(at + 1) {
                    let apart = one.x + one.width <= other.x
                        || other.x + other.width <= one.x
                        || one.y + BOX <= other.y
                        || other.y + BOX <= one.y;
                    assert!(apart, "{one:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn names_are_text() {
        let map = Map {
            arrows: vec![arrow("a", "<script>")],
            nodes: vec![node("a", Group::Door), node("<script>", Group::Service)],
        };
        let drawn = draw(&map);
        assert!(!drawn.contains("<script>") && drawn.contains("&lt;script&gt;"));
        assert_eq!(escaped("a\u{1}b"), "a\u{fffd}b");
    }
}
