//! The roles below the face, as small as they can be: one bucket, whose puts are remembered and whose bytes are not.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use types::{
    AccountId, BucketId, BucketName, DiskId, Epoch, ErrorKind, ExtentId, Generation, NeedleId, NodeId,
    ObjectKey, SessionId, UploadId,
};
use wire::Fault;
use wire::control::{Control, Grant, Location};
use wire::index::*;
use wire::node::*;
use wire::records::answer::Kind;
use wire::records::{Answer, BucketRecord, BucketSetting, PartAnswer, PutAnswer, Refused, UsageRecord};

pub(crate) const BUCKET: &str = "bucket";
/// An upload that was begun.
pub(crate) const UPLOAD: UploadId = UploadId(77);

/// How the roles fail from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    /// Reading a key fails so.
    Reads(ErrorKind),
    /// Giving up an upload is refused so, whatever for.
    Refuses(Reason),
}

/// MD5 of what was named last, by an object or a part.
#[derive(Default)]
pub(crate) struct OneBucket {
    named: Mutex<Option<Vec<u8>>>,
    failing: Mutex<Option<Failing>>,
}

impl OneBucket {
    pub(crate) fn fail(&self, how: Failing) {
        *self.failing.lock().unwrap() = Some(how);
    }

    fn failing(&self) -> Option<Failing> {
        *self.failing.lock().unwrap()
    }

    pub(crate) fn take_named(&self) -> Option<Vec<u8>> {
        self.named.lock().unwrap().take()
    }

    fn name(&self, md5: &[u8]) {
        *self.named.lock().unwrap() = Some(md5.to_vec());
    }
}

fn record() -> BucketRecord {
    BucketRecord {
        bucket: 1,
        name: BUCKET.into(),
        owner: AccountId::ROOT.0,
        region: "us-east-1".into(),
        turn: 1,
        state: 2,
        ..BucketRecord::default()
    }
}

#[async_trait]
impl Index for OneBucket {
    async fn call(&self, call: Call) -> Answered {
        let refused = |reason: Reason| {
            Kind::Refused(Refused {
                reason: reason as u32,
                ..Refused::default()
            })
        };
        let kind = match call.command {
            Command::Put { record, .. } => {
                self.name(&record.etag_md5);
                Kind::Put(PutAnswer {
                    etag_md5: record.etag_md5,
                    size: record.size,
                    ..PutAnswer::default()
                })
            }
            Command::PutPart {
                upload: UPLOAD,
                record,
                ..
            } => {
                self.name(&record.etag_md5);
                Kind::Part(PartAnswer::default())
            }
            Command::CreateBucket { .. } => refused(Reason::BucketExists),
            Command::CompleteUpload { upload: UPLOAD, .. } => refused(Reason::InvalidPart),
            Command::Delete { .. } => Kind::Delete(wire::records::DeleteAnswer::default()),
            _ => refused(match self.failing() {
                Some(Failing::Refuses(reason)) => reason,
                _ => Reason::NoSuchUpload,
            }),
        };
        Ok(Answer { kind: Some(kind) })
    }

    async fn bucket(&self, name: &BucketName) -> ReadAnswer<BucketRecord> {
        Ok(if name.as_str() == BUCKET {
            Ok(record())
        } else {
            Err(Reason::NoSuchBucket)
        })
    }

    async fn buckets(&self, _: BucketsQuery) -> Result<Vec<BucketRecord>, Fault> {
        Ok(vec![record()])
    }

    async fn bucket_setting(&self, _: BucketId, _: SettingKind) -> Result<Option<BucketSetting>, Fault> {
        Ok(None)
    }

    async fn get(&self, _: BucketId, _: &ObjectKey, _: VersionRef, _: bool) -> ReadAnswer<Found> {
        match self.failing() {
            Some(Failing::Reads(kind)) => Err(Fault::new(kind, "planned")),
            _ => Ok(Err(Reason::NoSuchKey)),
        }
    }

    async fn list_versions(&self, _: VersionsQuery) -> ReadAnswer<VersionsPage> {
        Ok(Ok(VersionsPage::default()))
    }

    async fn list(&self, _: ListQuery) -> ReadAnswer<ListPage> {
        Ok(Ok(ListPage::default()))
    }

    async fn uploads(&self, _: UploadsQuery) -> ReadAnswer<UploadsPage> {
        Ok(Ok(UploadsPage::default()))
    }

    async fn parts(
        &self,
        _: BucketId,
        _: &ObjectKey,
        upload: UploadId,
        _: u32,
        _: u32,
    ) -> ReadAnswer<PartsPage> {
        let page = PartsPage {
            upload: wire::records::UploadRecord::default(),
            parts: vec![],
            truncated: false,
        };
        Ok(if upload == UPLOAD {
            Ok(page)
        } else {
            Err(Reason::NoSuchUpload)
        })
    }

    async fn usage(&self, _: BucketId) -> Result<Vec<(u32, UsageRecord)>, Fault> {
        Ok(vec![])
    }

    async fn walk(&self, _: Bytes) -> Result<(Vec<Named>, Bytes), Fault> {
        Ok((vec![], Bytes::new()))
    }
}

/// Grants one extent and takes every needle.
pub(crate) struct Sink;

fn not_here<T>() -> Result<T, Fault> {
    Err(Fault::new(ErrorKind::NotFound, "a sink"))
}

const REPLICA: (NodeId, DiskId) = (NodeId(1), DiskId(1));

#[async_trait]
impl Control for Sink {
    async fn begin_session(&self, _: &str) -> Result<SessionId, Fault> {
        Ok(SessionId(1))
    }
    async fn end_session(&self, _: SessionId) -> Result<(), Fault> {
        Ok(())
    }
    async fn grant(&self, _: SessionId) -> Result<Grant, Fault> {
        Ok(Grant {
            extent: ExtentId(1),
            epoch: Epoch(1),
            replicas: vec![REPLICA],
            bytes_max: u64::MAX,
        })
    }
    async fn seal(&self, _: ExtentId, _: Epoch) -> Result<(), Fault> {
        Ok(())
    }
    async fn locate(&self, extent: ExtentId) -> Result<Location, Fault> {
        Ok(Location {
            extent,
            replicas: vec![REPLICA],
        })
    }
    async fn locations(&self) -> Result<Vec<Location>, Fault> {
        Ok(vec![])
    }
}

fn appended(length: u64) -> Appended {
    Appended {
        needle: NeedleId(1),
        offset: 0,
        generation: Generation(0),
        stored_length: length,
        ordered: None,
    }
}

struct Frames(u64);

#[async_trait]
impl Appending for Frames {
    async fn frame(&mut self, frame: Checked) -> Result<(), Fault> {
        self.0 += frame.bytes.len() as u64;
        Ok(())
    }
    async fn finish(self: Box<Self>, _: Ack) -> Result<Appended, Fault> {
        Ok(appended(self.0))
    }
}

#[async_trait]
impl Node for Sink {
    async fn open_extent(&self, _: DiskId, _: ExtentId, _: Epoch, _: u64) -> Result<ExtentStatus, Fault> {
        not_here()
    }
    async fn append(
        &self,
        _: ExtentId,
        _: Epoch,
        _: NeedleHead,
        b: Checked,
        _: Ack,
    ) -> Result<Appended, Fault> {
        Ok(appended(b.bytes.len() as u64))
    }
    async fn begin(&self, _: ExtentId, _: Epoch, _: NeedleHead) -> Result<Box<dyn Appending>, Fault> {
        Ok(Box::new(Frames(0)))
    }
    async fn read(&self, _: ReadNeedle) -> Result<Checked, Fault> {
        not_here()
    }
    async fn seal(&self, _: ExtentId, _: Epoch) -> Result<ExtentStatus, Fault> {
        not_here()
    }
    async fn extent(&self, _: ExtentId) -> Result<ExtentStatus, Fault> {
        not_here()
    }
    async fn extents(&self) -> Result<Vec<ExtentStatus>, Fault> {
        Ok(vec![])
    }
    async fn walk(&self, _: ExtentId, _: WalkCursor, _: WalkDepth, _: usize) -> Result<WalkPage, Fault> {
        Ok(WalkPage::default())
    }
    async fn compact(
        &self,
        _: ExtentId,
        _: Generation,
        _: Vec<NeedleId>,
        _: &Pace,
    ) -> Result<ExtentStatus, Fault> {
        not_here()
    }
    async fn remove(&self, _: ExtentId) -> Result<(), Fault> {
        not_here()
    }
    async fn disks(&self) -> Result<Vec<DiskStatus>, Fault> {
        Ok(vec![])
    }
}

pub(crate) fn nodes() -> BTreeMap<NodeId, Arc<dyn Node>> {
    BTreeMap::from([(REPLICA.0, Arc::new(Sink) as Arc<dyn Node>)])
}
