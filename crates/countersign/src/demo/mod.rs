//! The tour: the clinic's story on real sockets with real TLS, in one process and a temporary
//! folder. One request through six pillars, five attacks that are each refused by one of them, the
//! proof of a record, and a changed record that is found.
//!
//! Nothing is staged but the parts that can't be had (the model API says that it is a fake). Every
//! line shown comes from an answer on a socket or from the record that its receipt names, and a
//! step that comes out otherwise than it should fails the tour.

mod browser;
pub mod hms_api;
pub mod model;
mod proof;
mod report;
mod serve;
mod steps;
mod world;

pub use report::Report;
pub use serve::hms_api as serve_hms_api;
pub use serve::model as serve_model;
pub use steps::Step;

use anyhow::Context as _;
use std::path::Path;

/// Name and version of the document.
pub const SCHEMA: &str = "countersign.demo/v1";

/// Takes the tour in `folder`, which is created and must be empty, and tells how it went.
///
/// # Errors
/// If a part can't be started, or a step has no answer at all.
pub async fn take(folder: &Path) -> anyhow::Result<Report> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("can't make `{}`", folder.display()))?;
    let mut found = std::fs::read_dir(folder)?;
    anyhow::ensure!(
        found.next().is_none(),
        "`{}` is not empty",
        folder.display()
    );
    let world = world::World::start(folder).await?;
    let steps = steps::all(&world).await?;
    let attack = steps.get(4).context("the tour has six steps")?;
    let proof = proof::prove(&world, &attack.receipt, &folder.join("proof.json")).await?;
    let stolen = steps.get(2).context("the tour has six steps")?;
    let leaf = proof::index(&world, &stolen.receipt).await?;
    let ready = world.ready.clone();
    let log_key = world.log_key.clone();
    world.stop().await;
    let tampered = proof::tamper(folder, leaf, &stolen.receipt, &log_key)?;
    Ok(Report {
        log_key,
        proof,
        ready,
        steps,
        tampered,
    })
}
