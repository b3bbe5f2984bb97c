//! `cairn check DIR`.

use crate::reclaim;
use crate::roles;
use admin::check::{Report, run, run_extents};
use admin::reclaim_status;
use anyhow::bail;
use bytes::Bytes;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use store::Store;
use wire::control::Reclaim;
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
        let looked = roles::look(&world, disk).await?;
        let (control, index) = (looked.control.as_deref(), looked.index.as_deref());
        let mut report = match index {
            Some(index) => run(&*looked.node, control.map(|c| c as &dyn Reclaim), index).await?,
            None => run_extents(&*looked.node).await?,
        };
        if let (None, Some(store)) = (index, &looked.store) {
            report.damage.extend(of_files(&**store).await);
        }
        if let Some(control) = control {
            reclaim::tell_holds(&reclaim_status(control).await?);
        }
        report.damage.extend(looked.damage);
        anyhow::Ok(report)
    })?;
    print(&report);
    Ok(if report.damage.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the pages of the index's files show where nobody can ask for its rows.
async fn of_files(store: &dyn Store) -> Vec<String> {
    let (mut damage, mut cursor) = (Vec::new(), Bytes::new());
    loop {
        match store.verify(&cursor).await {
            Ok(read) => {
                damage.extend(read.damage.into_iter().map(|(_, what)| format!("index: {what}")));
                cursor = read.next;
            }
            Err(e) => {
                damage.push(format!("index: {e}"));
                return damage;
            }
        }
        if cursor.is_empty() {
            return damage;
        }
    }
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
