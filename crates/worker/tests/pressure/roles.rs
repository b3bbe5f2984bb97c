//! Roles that write down what gc asks of them, and time that passes only where somebody waits.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use types::{
    BlobId, BucketId, BucketName, DiskId, Epoch, ErrorKind, ExtentId, Generation, Hlc, NeedleId, NodeId,
    ObjectKey, SessionId, UploadId,
};
use wire::Fault;
use wire::control::{self, Control, Decision, Dropped, ExtentUse, Grant, Hold, Holding, Location, Stage};
use wire::double::MemoryNode;
use wire::gateway::{Abandoned, Gateway, Readers, Room};
use wire::index::{
    self, Answered, Booked, BookedRef, BucketsQuery, Call, Doubt, Found, IdleUpload, Index, ListPage,
    ListQuery, Named, PartsPage, Reach, Reached, ReadAnswer, SettingKind, UploadsPage, UploadsQuery,
    VersionRef, VersionsPage, VersionsQuery,
};
use wire::node::{Ack, Checked, ExtentStatus, NeedleHead, Node, OwnerRef};
use wire::records::{Answer, BucketRecord, BucketSetting, Chunk, Nothing, UsageRecord, answer::Kind};
use world::Clock;

pub(crate) const DISK: DiskId = DiskId(7);
const MIB: u64 = 1 << 20;

/// Time that passes at once when everybody waits for it.
pub(crate) struct TestClock(tokio::time::Instant);

#[allow(
    clippy::disallowed_methods,
    reason = "it is the clock of this test: tokio's, which is paused"
)]
impl TestClock {
    pub(crate) fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

#[allow(clippy::disallowed_methods, reason = "as above")]
impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.elapsed().as_millis() as u64
    }
    fn mono(&self) -> Duration {
        self.0.elapsed()
    }
    fn sleep(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(time))
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) log: Vec<String>,
    /// Extents that can be compacted, and have not been.
    pub(crate) garbage: BTreeSet<u64>,
    /// A booking that waits.
    pub(crate) booked: bool,
    /// When this extent is decided the disk turns full, and a client deletes something.
    pub(crate) full_at: Option<u64>,
    /// Keys whose puts were given up.
    pub(crate) given_up: Vec<&'static str>,
    /// Whose row is on a page that cannot be read.
    pub(crate) unreadable: Option<&'static str>,
    /// Bookings, each of some extents.
    pub(crate) bookings: Vec<(u64, Vec<u64>)>,
    /// The extent whose dropped list cannot be read.
    pub(crate) bad_list: Option<u64>,
    /// Uploads that are idle by their rows, and those that somebody works on.
    pub(crate) idle: Vec<u64>,
    pub(crate) under_way: BTreeSet<UploadId>,
    /// Who comes back when another is aborted.
    pub(crate) comes_back: Option<u64>,
    /// The booking or upload whose rows cannot be read.
    pub(crate) bad_row: Option<u64>,
}

/// Every role but the node.
pub(crate) struct Store {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) node: MemoryNode,
    pub(crate) state: Mutex<State>,
    pub(crate) met_full: watch::Sender<u64>,
}

impl Store {
    /// A store of so many sealed extents with garbage.
    pub(crate) async fn new(clock: Arc<dyn Clock>, extents: u64) -> Arc<Self> {
        let node = MemoryNode::new(DISK, 1 << 20);
        for n in 1..=extents {
            let extent = ExtentId(n);
            node.open_extent(DISK, extent, Epoch(1), 1 << 20).await.unwrap();
            let head = NeedleHead {
                blob: BlobId::new(SessionId(1), n),
                owner: owner("k"),
                ordinal: 0,
                logical_offset: 0,
                last: true,
                length: 1,
                append_hlc: 0,
                session: SessionId(1),
            };
            let body = Checked {
                bytes: Bytes::from_static(b"x"),
                crcs: vec![0],
            };
            let appended = node.append(extent, Epoch(1), head, body, Ack::Durable);
            appended.await.unwrap();
            node.seal(extent, Epoch(2)).await.unwrap();
        }
        Arc::new(Self {
            clock,
            node,
            state: Mutex::new(State {
                garbage: (1..=extents).collect(),
                ..State::default()
            }),
            met_full: watch::Sender::new(0),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrote(&self, what: String) {
        self.state().log.push(what);
    }

    fn check_list(&self, extent: ExtentId) -> Result<(), Fault> {
        match self.state().bad_list == Some(extent.0) {
            true => Err(Fault::new(ErrorKind::Corrupt, "a bad page of the control plane")),
            false => Ok(()),
        }
    }

    fn check_row(&self, serial: u64) -> Result<(), Fault> {
        match self.state().bad_row == Some(serial) {
            true => Err(Fault::new(ErrorKind::Corrupt, "a bad page of the index")),
            false => Ok(()),
        }
    }

    /// A booking of a needle in each of some extents; the needle's number is the booking's.
    fn booking(&self, serial: u64, extents: &[u64]) -> Booked {
        let chunk = |extent: &u64| Chunk {
            place: *extent,
            needle: serial,
            stored_length: 1,
            ..Chunk::default()
        };
        Booked {
            row: BookedRef {
                bucket: BucketId(1),
                key: "k".into(),
                blob: BlobId::new(SessionId(1), serial),
                booked: Hlc::at(self.clock.wall_ms() - 100 * 24 * 3600 * 1000),
            },
            page: 0,
            is_last: true,
            chunks: extents.iter().map(chunk).collect(),
        }
    }

    /// Waits until something was written down.
    pub(crate) async fn until(&self, what: &str) {
        // By a clock that goes only where somebody waits.
        for _ in 0..10_000 {
            if self.state().log.iter().any(|line| line == what) {
                return;
            }
            self.clock.sleep(Duration::from_millis(10)).await;
        }
        panic!("no {what} in {:?}", self.state().log);
    }
}

fn serial_of(row: &BookedRef) -> u64 {
    row.blob.0 as u64
}

fn owner(key: &str) -> OwnerRef {
    OwnerRef {
        bucket: BucketId(1),
        key: key.into(),
        upload: None,
    }
}

fn no<T>() -> Result<T, Fault> {
    Err(Fault::new(ErrorKind::Fault, "gc asks for no such thing"))
}

#[async_trait::async_trait]
impl Control for Store {
    async fn begin_session(&self, _: &str) -> Result<SessionId, Fault> {
        no()
    }
    async fn end_session(&self, _: SessionId) -> Result<(), Fault> {
        no()
    }
    async fn grant(&self, _: SessionId) -> Result<Grant, Fault> {
        no()
    }
    async fn seal(&self, _: ExtentId, _: Epoch) -> Result<(), Fault> {
        no()
    }
    async fn locate(&self, _: ExtentId) -> Result<Location, Fault> {
        no()
    }
    async fn locations(&self) -> Result<Vec<Location>, Fault> {
        no()
    }
}

#[async_trait::async_trait]
impl control::Reclaim for Store {
    async fn uses(&self) -> Result<Vec<ExtentUse>, Fault> {
        let usage = |n: &u64| ExtentUse {
            extent: ExtentId(*n),
            stage: Stage::Sealed,
            epoch: Epoch(2),
            generation: Generation(0),
            bytes: 64 * MIB,
            bytes_max: 64 * MIB,
            dropped_bytes: 32 * MIB,
            dropped_needles: 1,
            deciding: None,
            deciding_bytes: 0,
            swept: true,
            replicas: vec![(NodeId(1), DISK)],
        };
        Ok(self.state().garbage.iter().map(usage).collect())
    }
    async fn drop_needles(&self, needles: &[Dropped]) -> Result<(), Fault> {
        self.wrote("drop".into());
        for needle in needles {
            self.check_list(needle.extent)?;
            self.wrote(format!("drop needle {}", needle.needle.0));
        }
        Ok(())
    }
    async fn dropped(&self, extent: ExtentId) -> Result<Vec<NeedleId>, Fault> {
        self.check_list(extent).map(|()| Vec::new())
    }
    async fn decide(&self, extent: ExtentId) -> Result<Option<Decision>, Fault> {
        self.wrote(format!("decide {}", extent.0));
        if self.state().full_at == Some(extent.0) {
            let full = Fault::new(ErrorKind::Full, "the disk is full");
            self.node.refuse(Some(full));
            self.state().booked = true;
        }
        // Longer than gc goes without a look.
        self.clock.sleep(Duration::from_millis(1_500)).await;
        self.state().garbage.remove(&extent.0);
        Ok(None)
    }
    async fn generation_done(&self, _: ExtentId, _: Generation, _: &ExtentStatus) -> Result<(), Fault> {
        no()
    }
    async fn swept(&self, _: ExtentId) -> Result<(), Fault> {
        no()
    }
    async fn gone(&self, _: ExtentId) -> Result<(), Fault> {
        no()
    }
    async fn forget(&self, _: ExtentId) -> Result<(), Fault> {
        no()
    }
    async fn hold(&self, _: &str, _: &str) -> Result<(), Fault> {
        no()
    }
    async fn release(&self, _: &str) -> Result<bool, Fault> {
        no()
    }
    async fn hold_while(&self, _: &str, _: &str) -> Result<Holding, Fault> {
        no()
    }
    async fn held(&self) -> Result<Vec<Hold>, Fault> {
        Ok(Vec::new())
    }
}

#[async_trait::async_trait]
impl Index for Store {
    async fn call(&self, call: Call) -> Answered {
        match &call.command {
            index::Command::ForgetGarbage { rows } => {
                rows.iter().try_for_each(|row| self.check_row(serial_of(row)))?;
                let mut state = self.state();
                state.booked = false;
                for serial in rows.iter().map(serial_of) {
                    state.bookings.retain(|(one, _)| *one != serial);
                    state.log.push(format!("forget {serial}"));
                }
            }
            index::Command::AbortIdleUpload { upload, .. } => {
                let serial = upload.0 as u64;
                self.wrote(format!("abort {serial}"));
                let mut state = self.state();
                let back = state.comes_back.take().map(|serial| UploadId(u128::from(serial)));
                state.under_way.extend(back);
                let stays = state.bad_row;
                state.idle.retain(|one| *one != serial || stays == Some(serial));
                drop(state);
                self.check_row(serial)?;
            }
            _ => {}
        }
        let nothing = Kind::Nothing(Nothing {});
        Ok(Answer { kind: Some(nothing) })
    }
    async fn bucket(&self, _: &BucketName) -> ReadAnswer<BucketRecord> {
        no()
    }
    async fn buckets(&self, _: BucketsQuery) -> Result<Vec<BucketRecord>, Fault> {
        no()
    }
    async fn bucket_setting(&self, _: BucketId, _: SettingKind) -> Result<Option<BucketSetting>, Fault> {
        no()
    }
    async fn get(&self, _: BucketId, _: &ObjectKey, _: VersionRef, _: bool) -> ReadAnswer<Found> {
        no()
    }
    async fn list(&self, _: ListQuery) -> ReadAnswer<ListPage> {
        no()
    }
    async fn list_versions(&self, _: VersionsQuery) -> ReadAnswer<VersionsPage> {
        no()
    }
    async fn uploads(&self, _: UploadsQuery) -> ReadAnswer<UploadsPage> {
        no()
    }
    async fn parts(&self, _: BucketId, _: &ObjectKey, _: UploadId, _: u32, _: u32) -> ReadAnswer<PartsPage> {
        no()
    }
    async fn usage(&self, _: BucketId) -> Result<Vec<(u32, UsageRecord)>, Fault> {
        no()
    }
    async fn walk(&self, _: Bytes) -> Result<(Vec<Named>, Bytes), Fault> {
        no()
    }
}

#[async_trait::async_trait]
impl index::Reclaim for Store {
    async fn garbage(&self, _: Bytes, _: usize) -> Result<(Vec<Booked>, Bytes), Fault> {
        self.wrote("bookings".into());
        let booked = Booked {
            row: BookedRef {
                bucket: BucketId(1),
                key: "k".into(),
                blob: BlobId::new(SessionId(1), 99),
                booked: Hlc::at(self.clock.wall_ms()),
            },
            page: 0,
            is_last: true,
            chunks: vec![Chunk {
                // Of the last extent: it is there to the end.
                place: self.state().garbage.last().copied().unwrap_or(0),
                needle: 1,
                stored_length: 1,
                ..Chunk::default()
            }],
        };
        let page = self.state().booked.then_some(booked);
        let bookings = self.state().bookings.clone();
        let others = bookings
            .iter()
            .map(|(serial, extents)| self.booking(*serial, extents));
        Ok((page.into_iter().chain(others).collect(), Bytes::new()))
    }
    async fn reached(&self, doubts: Vec<Doubt>) -> Result<Reached, Fault> {
        let unreadable = self.state().unreadable;
        if doubts.iter().any(|d| Some(d.owner.key.as_str()) == unreadable) {
            return Err(Fault::new(ErrorKind::Corrupt, "a bad page"));
        }
        let each = vec![Reach::Condemned; doubts.len()];
        Ok(Reached::new(Hlc(1), doubts, each))
    }
    async fn uploads_idle(&self, _: Bytes, _: u64) -> Result<(Vec<IdleUpload>, Bytes), Fault> {
        let idle = |serial: &u64| IdleUpload {
            bucket: BucketId(1),
            key: ObjectKey::new("k").unwrap(),
            upload: UploadId(u128::from(*serial)),
        };
        let all = self.state().idle.iter().map(idle).collect();
        self.wrote("idle".into());
        Ok((all, Bytes::new()))
    }
}

#[async_trait::async_trait]
impl Gateway for Store {
    fn readers_mark(&self) -> u64 {
        0
    }
    fn readers_below(&self, _: u64) -> Readers {
        Readers::default()
    }
    fn release(&self, _: ExtentId) -> bool {
        true
    }
    fn abandoned(&self, _: usize) -> Vec<Abandoned> {
        self.wrote("abandoned".into());
        let given_up = std::mem::take(&mut self.state().given_up);
        let abandoned = |(n, key): (u64, &str)| Abandoned {
            doubt: Doubt {
                owner: owner(key),
                blob: BlobId::new(SessionId(1), n),
                extent: ExtentId(9),
                needle: NeedleId(n),
            },
            stored_length: 1,
        };
        (1..).zip(given_up).map(abandoned).collect()
    }
    fn uploads_under_way(&self) -> BTreeSet<UploadId> {
        self.state().under_way.clone()
    }
    async fn room_wanted(&self, after: u64) -> u64 {
        let mut met = self.met_full.subscribe();
        *met.wait_for(|met| *met > after).await.unwrap()
    }
    fn room(&self, told: Room) {
        self.wrote(format!("{told:?}"));
    }
}

pub(crate) fn roles(store: &Arc<Store>) -> worker::gc::Roles {
    let node: Arc<dyn Node> = Arc::new(store.node.clone());
    worker::gc::Roles {
        index: store.clone(),
        control: store.clone(),
        nodes: BTreeMap::from([(NodeId(1), node)]),
        gateways: vec![store.clone()],
    }
}
