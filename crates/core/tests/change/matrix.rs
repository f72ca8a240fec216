//! The map of who may do what, against the decision.

use crate::HMS;
use crate::config;
use crate::flips::allowed;
use crate::flips::base;
use crate::flips::cells;
use crate::flips::mutations;
use countersign_core::config::Config;
use countersign_core::config::Place;
use countersign_core::config::Test;
use countersign_core::matrix::Cell;
use countersign_core::matrix::Filter;
use countersign_core::matrix::Row;
use countersign_core::matrix::grid;
use countersign_core::matrix::rows;
use countersign_core::vocabulary::OperationPattern;

fn told(config: &Config, filter: &Filter, limit: usize) -> String {
    let found = rows(config, filter, limit);
    let line = |place: Place| place.line.to_string();
    let lines = found.rows.iter().map(|row| {
        format!(
            "{} | {} | {} | {}",
            row.who,
            row.via_text(),
            row.may_text(),
            row.because_text(&line)
        )
    });
    let mut text = lines.collect::<Vec<_>>().join("\n");
    if found.more {
        text.push_str("\n..");
    }
    text
}

/// Roles across, operations down.
fn drawn(config: &Config) -> String {
    let grid = grid(config);
    let roles: Vec<_> = grid.roles.iter().map(ToString::to_string).collect();
    let mut text = format!("{}\n", roles.join(" "));
    for row in &grid.rows {
        let cells = row.cells.iter().map(|it| match it {
            Cell::Gives => "x",
            Cell::Lacks => ".",
            Cell::Edge => "e",
        });
        let cells: String = cells.collect();
        let needs = row.needs.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "{cells} {} {} [{needs}]\n",
            row.service, row.operation
        ));
    }
    text
}

/// Ten teams with a service each, a chain through all of them, and a role per team.
fn company() -> Config {
    let each = |line: &dyn Fn(usize) -> String| (0..10).map(line).collect::<String>();
    let routes = each(&|at| format!("\"localhost/t{at}/**\": team{at}, "));
    let identities = each(&|at| format!("  team{at}: {{}}\n"));
    let roles = each(&|at| {
        let next = (at < 9).then(|| format!(", \"t{}:read\"", at + 1));
        let next = next.unwrap_or_default();
        format!("  r{at}: {{ members: [user:u{at}], may: [\"t{at}:read\"{next}] }}\n")
    });
    let services = each(&|at| {
        let url = format!("https://localhost:{}", 7000 + at);
        format!(
            "  team{at}: {{ peer: service, url: \"{url}\", operations: {{ GET /**: {{ needs: \"t{at}:read\" }} }} }}\n"
        )
    });
    let edges = each(&|at| format!("  web -> team{at}: [GET /t{at}/**]\n"));
    let chain: String = (1..10)
        .map(|at| format!("  team{} -> team{at}: [GET /t{at}/b]\n", at - 1))
        .collect();
    config(&format!(
        "environment: dev\nlisteners:\n  web: {{ bind: \"127.0.0.1:0\", peer: browser, login: dev, routes: {{ {routes} }} }}\n\
         identities:\n{identities}roles:\n{roles}services:\n{services}edges:\n{edges}{chain}"
    ))
}

#[test]
fn the_clinic() {
    insta::assert_snapshot!(told(&config(HMS), &Filter::default(), 1000));
    insta::assert_snapshot!(drawn(&config(HMS)));
}

#[test]
fn a_company() {
    insta::assert_snapshot!(told(&company(), &Filter::default(), 1000));
    insta::assert_snapshot!(drawn(&company()));
}

#[test]
fn it_is_bounded_and_filtered() {
    let company = company();
    let few = rows(&company, &Filter::default(), 3);
    assert!(few.more && few.rows.len() == 3);
    let of = |who: Option<&str>, service: Option<&str>| Filter {
        service: service.map(str::to_owned),
        who: who.map(str::to_owned),
    };
    let all = rows(&company, &Filter::default(), 10_000);
    assert!(!all.more);
    let u3 = rows(&company, &of(Some("u3"), None), 10_000);
    assert!(!u3.rows.is_empty() && u3.rows.iter().all(|row| row.who == "user:dev/u3"));
    let by_all: Vec<_> = all
        .rows
        .iter()
        .filter(|row| row.who == "user:dev/u3")
        .collect();
    assert_eq!(by_all, u3.rows.iter().collect::<Vec<_>>());
    let team4 = rows(&company, &of(Some("user:dev/u3"), Some("team4")), 10_000);
    assert!(!team4.rows.is_empty() && team4.rows.iter().all(|row| row.service == "team4"));
    assert!(
        rows(&company, &of(Some("nobody"), None), 10)
            .rows
            .is_empty()
    );
}

/// Whether a row is about this cell.
fn covers(config: &Config, row: &Row, cell: &Test) -> bool {
    let fold = config
        .services
        .get(row.service.as_str())
        .is_some_and(|it| it.fold_case);
    let anyone = row.who == "anyone at dev"
        && !matches!(cell.subject, countersign_core::config::Member::Identity(_));
    (anyone || row.who == cell.subject.to_string())
        && row.via == cell.via
        && row.service == cell.service
        && OperationPattern::parse(&row.operation).is_ok_and(|it| it.matches(&cell.operation, fold))
}

#[test]
fn what_is_told_is_allowed_and_what_is_allowed_is_told() {
    let cells = cells();
    let (mut sure, mut found) = (0, 0);
    for (what, mutate) in mutations() {
        let mut config = base();
        mutate(&mut config);
        let told = rows(&config, &Filter::default(), 10_000).rows;
        for (cell, allowed) in cells.iter().zip(allowed(&config, &cells)) {
            let about: Vec<_> = told
                .iter()
                .filter(|row| covers(&config, row, cell))
                .collect();
            if let Some(row) = about.iter().find(|row| row.conditions.is_empty()) {
                sure += 1;
                assert!(
                    allowed,
                    "{what}: {} is told by {row:?} and refused",
                    cell.name
                );
            }
            if allowed && cell.via.len() <= 1 && !cell.via.iter().any(|it| it.as_str() == "hms-api")
            {
                found += 1;
                assert!(
                    !about.is_empty(),
                    "{what}: {} is allowed and not told",
                    cell.name
                );
            }
        }
    }
    assert!(sure > 300 && found > 3000, "{sure} {found}");
}
