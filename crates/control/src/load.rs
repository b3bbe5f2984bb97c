//! Taking the control partition: all of its rows, read from what is durable.

use crate::rows::{self, Rows};
use bytes::Bytes;
use store::{Fence, Scan, Store, StoreError};
use types::limits::SCAN_ROWS_MAX;
use types::{ErrorKind, Kind, PartitionId};
use wire::Fault;

/// Takes the partition, so that no earlier owner commits any more, and reads it.
pub(crate) async fn take(store: &dyn Store) -> Result<(Fence, Rows), Fault> {
    let fence = store
        .take(PartitionId::CONTROL)
        .await
        .map_err(|e| from_store(&e))?;
    let snapshot = store
        .snapshot(PartitionId::CONTROL)
        .await
        .map_err(|e| from_store(&e))?;
    let mut rows = Rows::default();
    let mut start = Bytes::from_static(&[rows::FIRST]);
    loop {
        let scan = Scan {
            start: start.clone(),
            end: Bytes::from_static(&[rows::END]),
            max: SCAN_ROWS_MAX,
        };
        let page = snapshot.scan(&scan).await.map_err(|e| from_store(&e))?;
        for (key, value) in &page {
            rows.take(key, value)
                .map_err(|what| Fault::new(ErrorKind::Corrupt, what))?;
        }
        match page.last() {
            Some((last, _)) if page.len() == SCAN_ROWS_MAX => start = [last, &[0][..]].concat().into(),
            _ => return Ok((fence, rows)),
        }
    }
}

pub(crate) fn from_store(error: &StoreError) -> Fault {
    Fault::new(error.kind(), format!("control plane: {error}"))
}
