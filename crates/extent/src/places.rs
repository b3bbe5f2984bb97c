//! Where needles were found whose hints did not lead to them. What a walk did not find is noted too: it reads up to the whole
//! extent, and whoever asks again for a needle that is damaged must not keep the disk busy with it.

use std::collections::{BTreeMap, VecDeque};
use types::limits::PLACES_MAX;
use types::{ExtentId, Generation, NeedleId};

/// The last places found on a disk; the oldest goes first.
#[derive(Default)]
pub(crate) struct Places {
    known: BTreeMap<(ExtentId, NeedleId), (Generation, Option<u64>)>,
    order: VecDeque<(ExtentId, NeedleId)>,
}

impl Places {
    /// Where a needle is in a generation; `Some(None)` when it is nowhere.
    pub(crate) fn recall(
        &self,
        extent: ExtentId,
        needle: NeedleId,
        generation: Generation,
    ) -> Option<Option<u64>> {
        let known = self.known.get(&(extent, needle));
        known.filter(|(of, _)| *of == generation).map(|(_, place)| *place)
    }

    pub(crate) fn remember(
        &mut self,
        extent: ExtentId,
        needle: NeedleId,
        generation: Generation,
        place: Option<u64>,
    ) {
        let id = (extent, needle);
        if self.known.insert(id, (generation, place)).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > PLACES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_in_its_generation_and_the_oldest_goes() {
        let mut places = Places::default();
        let x = ExtentId(1);
        for n in 0..=PLACES_MAX as u64 {
            places.remember(x, NeedleId(n), Generation(1), Some(n * 8));
        }
        places.remember(x, NeedleId(5), Generation(2), None);
        assert_eq!(places.recall(x, NeedleId(0), Generation(1)), None);
        assert_eq!(places.recall(x, NeedleId(5), Generation(1)), None);
        assert_eq!(places.recall(x, NeedleId(5), Generation(2)), Some(None));
        assert_eq!(places.recall(x, NeedleId(7), Generation(1)), Some(Some(56)));
        assert_eq!(places.known.len(), PLACES_MAX);
    }
}
