//! `map`: who reaches what, as a table, a document or a drawing.

mod svg;

use super::args::Globals;
use super::args::Output;
use super::check;
use super::ui::Answer;
use super::ui::Ui;
use super::ui::table;
use crate::boot;
use crate::operate::Failure;
use countersign_core::config::Config;
use countersign_core::config::Options;
use countersign_core::config::PeerKind;
use countersign_core::config::ServiceUrl;
use countersign_core::config::Sources;
use countersign_core::config::load;
use countersign_core::config::render_all;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// Something that reaches or is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    group: Group,
    name: String,
}

/// Where in the drawing it belongs, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Door,
    Workload,
    Service,
    Browser,
    Broker,
    Database,
    ThirdParty,
    Partner,
    Provisioner,
    BuiltIn,
}

/// An arrow.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arrow {
    from: String,
    line: String,
    operations: Vec<String>,
    to: String,
}

/// What there is to draw.
#[derive(Debug)]
struct Map {
    arrows: Vec<Arrow>,
    /// By group, then in the order of the file.
    nodes: Vec<Node>,
}

/// `map`.
pub(crate) fn run(globals: &Globals, ui: &mut Ui<'_>) -> Result<(), Failure> {
    let path = check::file(globals)?;
    // A file without `environment` is drawn alike in both.
    let name = path.display().to_string();
    let read = |dev| load(&boot::DiskFiles, &name, &Options { dev, strict: false });
    let mut loaded = read(false);
    if loaded.config.is_none() {
        let other = read(true);
        if other.config.is_some() {
            loaded = other;
        }
    }
    let Some(config) = &loaded.config else {
        let errors: Vec<_> = loaded.errors().cloned().collect();
        ui.warn(&render_all(&errors, &loaded.sources, ui.colour_err()));
        return Err(Failure::Check("the configuration has errors".to_owned()));
    };
    let map = Map::of(config, &loaded.sources);
    let text = if ui.output == Output::Svg {
        svg::draw(&map)
    } else {
        map.table()
    };
    ui.answer(Answer {
        document: map.document(),
        schema: "countersign.map/v1",
        short: &format!("{} nodes, {} arrows", map.nodes.len(), map.arrows.len()),
        text: &text,
    })
}

impl Group {
    const fn of(peer: PeerKind) -> Self {
        match peer {
            PeerKind::Service => Self::Service,
            PeerKind::Browser => Self::Browser,
            PeerKind::Database => Self::Database,
            PeerKind::Broker => Self::Broker,
            PeerKind::ThirdParty => Self::ThirdParty,
            PeerKind::Partner => Self::Partner,
            PeerKind::Provisioner => Self::Provisioner,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Door => "door",
            Self::Workload => "identity",
            Self::Service => "service",
            Self::Browser => "browser",
            Self::Broker => "broker",
            Self::Database => "database",
            Self::ThirdParty => "third-party",
            Self::Partner => "partner",
            Self::Provisioner => "provisioner",
            Self::BuiltIn => "built in",
        }
    }
}

impl Map {
    fn of(config: &Config, sources: &Sources) -> Self {
        let mut nodes = Vec::new();
        let mut known = BTreeSet::new();
        let mut add = |name: &str, group: Group| {
            if known.insert(name.to_owned()) {
                let name = name.to_owned();
                nodes.push(Node { group, name });
            }
        };
        config
            .listeners
            .keys()
            .for_each(|it| add(it.as_str(), Group::Door));
        // A service and the identity it proves are one thing where they have one name.
        for (name, service) in &config.services {
            if matches!(service.url(), Some(ServiceUrl::BuiltIn)) {
                continue;
            }
            add(name.as_str(), Group::of(service.peer));
        }
        config
            .identities
            .keys()
            .for_each(|it| add(it.as_str(), Group::Workload));
        for edge in &config.edges {
            add(edge.to.as_str(), Group::BuiltIn);
            add(edge.from.as_str(), Group::Workload);
        }
        nodes.sort_by_key(|it| it.group);
        let arrows = config.edges.iter().map(|edge| Arrow {
            from: edge.from.to_string(),
            line: check::line(edge.place, sources),
            operations: edge.operations.iter().map(ToString::to_string).collect(),
            to: edge.to.to_string(),
        });
        Self {
            arrows: arrows.collect(),
            nodes,
        }
    }

    fn group(&self, name: &str) -> &'static str {
        let node = self.nodes.iter().find(|it| it.name == name);
        node.map_or("", |it| it.group.word())
    }

    fn table(&self) -> String {
        let rows: Vec<_> = self
            .arrows
            .iter()
            .map(|it| {
                vec![
                    it.from.clone(),
                    self.group(&it.from).to_owned(),
                    it.to.clone(),
                    self.group(&it.to).to_owned(),
                    it.operations.join(", "),
                    it.line.clone(),
                ]
            })
            .collect();
        let mut text = table(&["FROM", "IS", "TO", "IS", "OPERATIONS", "LINE"], &rows);
        let alone: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| {
                let touches = |it: &Arrow| it.from == node.name || it.to == node.name;
                !self.arrows.iter().any(touches)
            })
            .map(|node| node.name.as_str())
            .collect();
        if !alone.is_empty() {
            text.push_str(&format!("\nwithout an arrow: {}", alone.join(", ")));
        }
        text
    }

    fn document(&self) -> Value {
        let nodes = self
            .nodes
            .iter()
            .map(|it| json!({ "kind": it.group.word(), "name": it.name }));
        let arrows = self.arrows.iter().map(|it| {
            json!({ "from": it.from, "line": it.line, "operations": it.operations, "to": it.to })
        });
        json!({
            "arrows": arrows.collect::<Vec<_>>(), "nodes": nodes.collect::<Vec<_>>(),
        })
    }
}
