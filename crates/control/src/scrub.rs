//! How far the scrub has come, kept for it.

use crate::load::from_store;
use crate::plane::ControlPlane;
use crate::rows::{Change, hex, scrub_key};
use prost::Message;
use types::{ErrorKind, PartitionId};
use wire::Fault;
use wire::records::ScrubState;
use wire::scrub::Scrubbing;

#[async_trait::async_trait]
impl Scrubbing for ControlPlane {
    async fn scrub_state(&self) -> Result<ScrubState, Fault> {
        let snapshot = self.store().snapshot(PartitionId::CONTROL).await;
        let snapshot = snapshot.map_err(|e| from_store(&e))?;
        let key = scrub_key();
        let values = snapshot.get(std::slice::from_ref(&key)).await;
        let value = values.map_err(|e| from_store(&e))?.into_iter().next().flatten();
        let Some(value) = value else {
            return Ok(ScrubState::default());
        };
        ScrubState::decode(value).map_err(|e| {
            let what = format!("control row {}: {e}", hex(&key));
            Fault::new(ErrorKind::Corrupt, what)
        })
    }

    async fn keep_scrub_state(&self, state: &ScrubState) -> Result<(), Fault> {
        self.decide_on(|_| Ok(((), vec![Change::Scrub(Box::new(state.clone()))])))
            .await
    }
}
