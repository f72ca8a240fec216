//! What a build that is guided by a profile learns from: every shape of countersign, asked in every
//! way that is measured, and refusing what it must. The libraries alone, which are measured beside
//! it, are trained alike.

use crate::plan::Contestant;
use crate::proof;
use crate::proxies::Kind;
use crate::site::Shape;
use crate::site::Site;
use crate::table::Who;
use anyhow::Context as _;
use anyhow::Result;
use std::path::Path;

/// How long each kind of request is asked, in seconds.
const SECONDS: f64 = 3.0;

/// Asks `binary`, and ends it in order, so that what it counted is written.
pub(crate) fn run(binary: &Path, smoke: bool) -> Result<()> {
    let seconds = if smoke { 0.1 } else { SECONDS };
    let folder = tempfile::tempdir()?;
    for (name, shape, commit) in [
        ("whole", Shape::Whole, "os"),
        ("apart", Shape::Apart, "os"),
        ("synced", Shape::Whole, "fsync"),
    ] {
        let site = Site::start(binary, folder.path().join(name), shape, commit)
            .with_context(|| format!("starting countersign in `{name}`"))?;
        proof::countersign(&site, name)?;
        Contestant::own(&site).asked(seconds, smoke)?;
        if shape == Shape::Apart {
            for (who, proven) in [(Who::Bare, false), (Who::Proven, true)] {
                let mut libraries = Kind::Bare { proven }.start(&site, Path::new(""))?;
                let contestant = Contestant::other(who, &libraries, &site);
                contestant.asked(seconds, smoke)?;
                libraries.process.end()?;
            }
        }
        site.end()?;
        eprintln!("{name}: asked");
    }
    Ok(())
}
