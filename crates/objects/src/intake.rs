//! A body on its way in: measured, digested, and checked against what it was said to be.

use crate::digests::{Digested, Digests};
use crate::md5::{Ended, Lanes};
use crate::{Body, BodyError, Expect, ObjectsError};
use blob::Source;
use bytes::Bytes;
use std::sync::Arc;
use types::{Checksum, ChecksumAlgorithm, ErrorKind};
use wire::Fault;
use world::Share;

/// A body that lets nothing pass uncounted.
pub(crate) struct Intake {
    body: Box<dyn Body>,
    expect: Expect,
    digests: Digests,
    left: u64,
    /// How many bytes have come.
    came: u64,
    /// How many bytes fewer it may have.
    slack: u64,
    ended: bool,
}

impl Intake {
    /// `also`: checksums wanted beside those that `expect` names. With none named at all, CRC-64/NVME is computed, as
    /// S3 has done since December 2024.
    pub(crate) fn new(
        (body, length): (Box<dyn Body>, u64),
        expect: Expect,
        also: Option<ChecksumAlgorithm>,
        lanes: Option<Arc<Lanes>>,
    ) -> Self {
        let named = expect.checksums.iter().map(|c| c.algorithm);
        let mut algorithms: Vec<_> = named.chain(expect.trailing.iter().copied()).chain(also).collect();
        if algorithms.is_empty() {
            algorithms.push(ChecksumAlgorithm::Crc64Nvme);
        }
        Self {
            body,
            expect,
            digests: Digests::new(&algorithms, lanes),
            left: length,
            came: 0,
            slack: 0,
            ended: false,
        }
    }

    /// A body that may have up to `slack` bytes fewer than was said.
    pub(crate) fn with_slack(mut self, slack: u64) -> Self {
        self.slack = slack;
        self
    }

    /// Memory that was taken before for the put of it.
    pub(crate) fn taken(&mut self) -> Option<Share> {
        self.body.taken()
    }

    /// All of a body that fits in memory by its class.
    pub(crate) async fn whole(&mut self) -> Result<Bytes, ObjectsError> {
        let mut all = Vec::with_capacity(self.left as usize);
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        let all = all.into();
        self.frame(&all).await?;
        Ok(all)
    }

    /// What it was, once it has ended; refused where that is not what was said.
    pub(crate) async fn finish(mut self) -> Result<Digested, ObjectsError> {
        assert!(self.ended, "a body is judged when it has ended");
        assert_eq!(self.digests.framed(), self.came, "every byte was hashed, once");
        let digested = self.digests.finish().await.map_err(stopping)?;
        if self.expect.md5.is_some_and(|md5| md5 != digested.md5) {
            return Err(ObjectsError::BadDigest);
        }
        let trailer = if self.expect.trailing.is_empty() {
            Vec::new()
        } else {
            self.body.trailer()
        };
        let brought = |a: ChecksumAlgorithm| trailer.iter().any(|c| c.algorithm == a);
        if let Some(missing) = self.expect.trailing.iter().find(|a| !brought(**a)) {
            return Err(ObjectsError::BadChecksum(*missing));
        }
        let fits = |said: &&Checksum| digested.checksums.iter().any(|c| c == *said);
        match self
            .expect
            .checksums
            .iter()
            .chain(&trailer)
            .find(|said| !fits(said))
        {
            Some(wrong) => Err(ObjectsError::BadChecksum(wrong.algorithm)),
            None => Ok(digested),
        }
    }
}

impl Source for Intake {
    type Error = ObjectsError;

    async fn next(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let Some(piece) = self.body.next().await? else {
                if self.left > self.slack {
                    return Err(BodyError::Incomplete.into());
                }
                self.ended = true;
                return Ok(None);
            };
            if piece.len() as u64 > self.left {
                return Err(BodyError::Refused("the body is longer than it was said to be".into()).into());
            }
            if piece.is_empty() {
                continue;
            }
            self.left -= piece.len() as u64;
            self.came += piece.len() as u64;
            self.digests.update(&piece);
            return Ok(Some(piece));
        }
    }

    fn holds(&self) -> u64 {
        self.body.holds()
    }

    fn is_ours(&self) -> bool {
        self.body.is_ours()
    }

    async fn frame(&mut self, frame: &Bytes) -> Result<(), ObjectsError> {
        self.digests.frame(frame).await.map_err(stopping)
    }
}

fn stopping(_: Ended) -> ObjectsError {
    Fault::new(
        ErrorKind::Unavailable,
        "hashing has ended: the process is stopping",
    )
    .into()
}
