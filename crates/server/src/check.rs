//! `cairn check DIR`.

use crate::reclaim;
use crate::roles::{self, Looked};
use admin::check::{Report, run, run_extents};
use admin::reclaim_status;
use anyhow::bail;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use world::real::RealDisk;
use world::{Disk, Exec, Overlay, World};

/// Prints every damage with its place, then the sums; fails when there is any.
pub(crate) fn main(dir: &Path) -> anyhow::Result<ExitCode> {
    if !dir.join("superblock").exists() {
        bail!("{} is not a store: it has no superblock", dir.display());
    }
    // Recovery writes; through the overlay what it writes is dropped with the process.
    let disk: Arc<dyn Disk> = Arc::new(Overlay::new(Arc::new(RealDisk::open(dir)?)));
    let world = World {
        exec: Exec::Inline,
        ..World::real()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        let (mut report, damage) = match roles::look(&world, disk).await? {
            Looked::Whole(roles) => {
                let report = run(&*roles.node, &*roles.control, &*roles.index).await?;
                reclaim::tell_holds(&reclaim_status(&*roles.control).await?);
                (report, roles.report.damage)
            }
            Looked::Extents(node, damage) => (run_extents(&*node).await?, damage),
        };
        report.damage.extend(damage);
        anyhow::Ok(report)
    })?;
    print(&report);
    Ok(if report.damage.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[allow(clippy::print_stdout, reason = "this command's answer")]
fn print(report: &Report) {
    for damage in &report.damage {
        println!("DAMAGE {damage}");
    }
    println!(
        "{} extents, {} needles ({} bytes), {} objects, {} parts, {} blobs of garbage, {} orphans, {} rows",
        report.extents,
        report.needles,
        report.needle_bytes,
        report.objects,
        report.parts,
        report.garbage,
        report.orphans,
        report.rows
    );
    if report.absent > 0 {
        println!(
            "{} extents are known to the control plane and on no disk (grants cut off, or what is LOST above)",
            report.absent
        );
    }
    println!(
        "{}",
        if report.damage.is_empty() {
            "clean"
        } else {
            "DAMAGED"
        }
    );
}
