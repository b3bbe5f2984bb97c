//! What gc does among the others: it forgets bookings and condemns needles, with what it read before they went on (I3, I11).
//!
//! The sequences send commands that no gateway sends: ones that name a blob again that was booked or is named. What they so reuse is
//! not forgotten here; whether such a blob comes back is what garbage rows are for, and they are still there.

use crate::gateway::stored;
use crate::sequence::Run;
use crate::state::{Model, Name, Place};
use bytes::Bytes;
use std::collections::BTreeSet;
use types::{BlobId, BucketId, ExtentId, NeedleId, UploadId};
use wire::index::{BookedRef, Command, Doubt, Reach, Reason, Reclaim, StoredChunks, Unnamed};
use wire::node::OwnerRef;
use wire::records::answer::Kind;

/// The part that bytes were sent as.
type Part = Option<(UploadId, u32)>;

/// What the sequences know of gc.
#[derive(Default)]
pub struct Gc {
    /// Named by commands that no gateway sends.
    pub reused: BTreeSet<u128>,
    /// Sent to be forgotten.
    pub forgetting: BTreeSet<u128>,
    /// Stored for a key, and not named yet.
    pub late: Vec<(Name, BlobId)>,
}

impl Run {
    pub async fn gc_command(&mut self) -> Option<Command> {
        let role = self.roles[self.roles.len() - 1].clone();
        match self.dice.roll(10) {
            0..4 => {
                let (booked, _) = role.garbage(Bytes::new(), 100).await.ok()?;
                let mut rows: Vec<BookedRef> = booked.into_iter().map(|b| b.row).collect();
                rows.retain(|row| !self.gc.reused.contains(&row.blob.0) && self.dice.roll(3) > 0);
                self.gc.forgetting.extend(rows.iter().map(|row| row.blob.0));
                Some(Command::ForgetGarbage { rows })
            }
            4..9 => {
                let doubts = self.doubts();
                let unnamed = if self.dice.roll(3) == 0 {
                    Unnamed::unknown(doubts)
                } else {
                    role.reached(doubts).await.ok()?.unnamed
                };
                Some(Command::Condemn { unnamed })
            }
            _ => Some(Command::ForgetCondemned { after: Bytes::new() }),
        }
    }

    fn doubts(&mut self) -> Vec<Doubt> {
        let mut all: Vec<(Name, Part, u128)> = Vec::new();
        for (name, versions) in &self.model.versions {
            let plain = versions.iter().filter(|o| o.parts == 0);
            all.extend(plain.filter_map(|o| Some((name.clone(), None, o.blob?))));
        }
        for ((name, upload), parts) in &self.model.uploads {
            let of = |n: &u32| Some((UploadId(*upload), *n));
            all.extend(parts.iter().map(|(n, p)| (name.clone(), of(n), p.blob)));
        }
        all.extend(
            self.model
                .garbage
                .iter()
                .map(|(name, blob)| (name.clone(), None, *blob)),
        );
        all.extend(
            self.gc
                .late
                .iter()
                .map(|(name, blob)| (name.clone(), None, blob.0)),
        );
        let mut doubts = Vec::new();
        for _ in 0..self.dice.roll(6).min(all.len() as u64) {
            let (name, upload, blob) = all[self.dice.roll(all.len() as u64) as usize].clone();
            if !self.gc.reused.contains(&blob) {
                let chunk = stored(BlobId(blob), 17).chunks[self.dice.pick(&[0, 0, 0, 16])];
                doubts.push(Doubt {
                    owner: OwnerRef {
                        bucket: BucketId(name.0),
                        key: name.1,
                        upload,
                    },
                    blob: BlobId(blob),
                    extent: ExtentId(chunk.place),
                    needle: NeedleId(chunk.needle),
                });
            }
        }
        doubts
    }
}

pub fn places(stored: &StoredChunks) -> BTreeSet<Place> {
    stored.chunks.iter().map(|c| (c.place, c.needle)).collect()
}

impl Model {
    pub fn apply_to_gc(&mut self, command: &Command, heard: &Kind) {
        match command {
            Command::ForgetGarbage { rows } => {
                assert!(matches!(heard, Kind::Nothing(_)), "{heard:?}");
                for row in rows {
                    let of = ((row.bucket.0, row.key.clone()), row.blob.0);
                    if self.garbage.remove(&of) {
                        self.seen.count("forgotten");
                        self.booked.remove(&of);
                        self.forgotten.insert(of.1);
                    }
                }
            }
            Command::Condemn { unnamed } => {
                let Kind::Condemn(answer) = heard else {
                    panic!("{heard:?}")
                };
                assert_eq!(answer.reach.len(), unnamed.doubts().len());
                for (doubt, reach) in unnamed.doubts().iter().zip(&answer.reach) {
                    self.told_of(doubt, Reach::from_number(*reach).unwrap());
                }
            }
            _ => assert!(matches!(heard, Kind::ForgetCondemned(_)), "{heard:?}"),
        }
    }

    fn told_of(&mut self, doubt: &Doubt, told: Reach) {
        let name = (doubt.owner.bucket.0, doubt.owner.key.clone());
        let place = (doubt.extent.0, doubt.needle.0);
        let versions = self.versions.get(&name).into_iter().flatten();
        let mut parts = self
            .uploads
            .iter()
            .filter(|((n, _), _)| *n == name)
            .flat_map(|(_, p)| p.values());
        let has_manifest = versions.clone().any(|o| o.needles.len() > 16);
        let named =
            versions.clone().any(|o| o.needles.contains(&place)) || parts.any(|p| p.needles.contains(&place));
        let mut booked = self.booked.iter().filter(|((n, _), _)| *n == name);
        let is_booked = booked.any(|(_, needles)| needles.contains(&place));
        let what = match told {
            Reach::Condemned => {
                assert!(!named && !is_booked, "I3: {doubt:?} was condemned");
                self.condemned.insert((name, place));
                "condemned"
            }
            Reach::Named if named => "not condemned: named",
            Reach::Booked if is_booked => "not condemned: booked",
            Reach::Named | Reach::Booked => {
                // Its blob has a manifest that came since it was looked for.
                let sure = !named && !is_booked && !has_manifest && booked_short(&self.booked);
                assert!(!sure, "{doubt:?} is told to be {told:?}");
                "not condemned: not sure"
            }
            Reach::Unnamed => panic!("no answer to Condemn"),
        };
        self.seen.count(what);
    }

    /// Whether a command that names these is refused.
    pub fn check_blob(&self, name: &Name, stored: &StoredChunks) -> Result<(), Reason> {
        let is_condemned = |place: &Place| self.condemned.contains(&(name.clone(), *place));
        if stored.blob.session().0 < self.ended_below
            || self.garbage.contains(&(name.clone(), stored.blob.0))
            || places(stored).iter().any(is_condemned)
        {
            return Err(Reason::BlobGone);
        }
        assert!(
            !self.forgotten.contains(&stored.blob.0),
            "I3: forgotten, and named"
        );
        Ok(())
    }
}

fn booked_short(booked: &std::collections::BTreeMap<(Name, u128), BTreeSet<Place>>) -> bool {
    booked.values().all(|needles| needles.len() <= 16)
}
