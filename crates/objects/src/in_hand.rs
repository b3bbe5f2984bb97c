//! Uploads that somebody is working on right now: a part of one may come for an hour before the index hears of it, and the upload is not to
//! be taken for idle meanwhile.
//!
//! There are no more entries than requests, which the connections bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::UploadId;

/// How many requests work on each upload.
#[derive(Clone, Default)]
pub(crate) struct UploadsInHand(Arc<Mutex<BTreeMap<UploadId, usize>>>);

/// A request that works on one, while it is there.
pub(crate) struct InHand {
    uploads: UploadsInHand,
    upload: UploadId,
}

impl UploadsInHand {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<UploadId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, upload: UploadId) -> InHand {
        *self.counts().entry(upload).or_default() += 1;
        InHand {
            uploads: self.clone(),
            upload,
        }
    }

    /// See [`wire::gateway::Gateway::uploads_under_way`].
    pub(crate) fn under_way(&self) -> BTreeSet<UploadId> {
        self.counts().keys().copied().collect()
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut counts = self.uploads.counts();
        if let Some(n) = counts.get_mut(&self.upload) {
            *n -= 1;
            if *n == 0 {
                counts.remove(&self.upload);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_in_hand_until_the_last_request_on_it_has_ended() {
        let uploads = UploadsInHand::default();
        let (one, two) = (UploadId(1), UploadId(2));
        let (a, b, c) = (uploads.begin(one), uploads.begin(one), uploads.begin(two));
        assert_eq!(uploads.under_way(), BTreeSet::from([one, two]));
        drop(a);
        drop(c);
        assert_eq!(uploads.under_way(), BTreeSet::from([one]));
        drop(b);
        assert_eq!(uploads.under_way(), BTreeSet::new());
    }
}
