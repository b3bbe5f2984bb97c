//! Multipart uploads: begun, filled, listed, completed, given up.

use crate::alike::{same_checksums, short};
use crate::model::{Part, Stage, Upload, all_of, no};
use crate::sequence::{Sequence, Whole, headers_of, key_of, pairs};
use crate::stack::{CALLER, Stack};
use crate::value::{PART_NUMBER_MAX, Value};
use objects::{CompleteUpload, Expect, ListParts, PutPart, StartUpload};
use types::UploadId;
use wire::index::{Expected, NamedPart, Precondition};
use world::Clock as _;

/// Part numbers that are used: the ends and some between.
const NUMBERS: [u32; 4] = [1, 2, 3, PART_NUMBER_MAX];

impl Sequence {
    pub(crate) async fn start_upload(&mut self, stack: &mut Stack) {
        let place = self.place();
        self.start_upload_at(stack, place).await;
    }

    async fn start_upload_at(&mut self, stack: &mut Stack, (b, key): (usize, &'static str)) -> UploadId {
        let told = self.told();
        self.note(format!("start upload {b} {key:?} {told:?}"));
        let start = StartUpload {
            bucket: self.buckets[b].name.clone(),
            key: key_of(key),
            headers: headers_of(&told),
            metadata: pairs(&told.metadata),
            tags: pairs(&told.tags),
            checksum: None,
            checksum_kind: None,
        };
        let got = stack.objects.start_upload(&CALLER, start).await;
        let id = self
            .agree("start upload", got, &Ok(()))
            .expect("nothing refuses it");
        let bucket = &mut self.buckets[b];
        assert!(
            bucket.uploads.iter().all(|u| u.id != id),
            "an upload id came twice"
        );
        bucket.uploads.push(Upload {
            id,
            key: key.to_owned(),
            told,
            parts: Default::default(),
            stage: Stage::Open,
        });
        id
    }

    /// An upload, its bucket and key: mostly one under way, now and then one that has ended, never was, or is another key's.
    pub(crate) fn upload(&self) -> (usize, &'static str, UploadId) {
        let (b, key) = self.place();
        let bucket = &self.buckets[b];
        let wants_open = self.dice.percent(80);
        let fits = |u: &&Upload| !wants_open || u.stage == Stage::Open;
        let all: Vec<&Upload> = bucket.uploads.iter().filter(fits).collect();
        if all.is_empty() || self.dice.percent(2) {
            return (b, key, *self.dice.pick(&self.gone_uploads));
        }
        let upload = *self.dice.pick(&all);
        let own = self
            .keys
            .iter()
            .find(|k| **k == upload.key)
            .filter(|_| !self.dice.percent(3));
        (b, own.copied().unwrap_or(key), upload.id)
    }

    /// Where no upload is under way it is mostly time to begin one.
    async fn begins_one(&mut self, stack: &mut Stack) -> bool {
        let open = self
            .buckets
            .iter()
            .flat_map(|b| &b.uploads)
            .any(|u| u.stage == Stage::Open);
        let begins = !open && self.dice.percent(75);
        if begins {
            self.start_upload(stack).await;
        }
        begins
    }

    pub(crate) async fn put_part(&mut self, stack: &mut Stack) {
        if self.begins_one(stack).await {
            return;
        }
        let upload = self.upload();
        let number = *self.dice.pick(&NUMBERS);
        let value = Value::draw(&self.dice);
        self.put_part_of(stack, upload, (number, value)).await;
    }

    async fn put_part_of(
        &mut self,
        stack: &mut Stack,
        (b, key, upload): (usize, &str, UploadId),
        (number, value): (u32, Value),
    ) {
        let spoiled = self.dice.percent(2);
        self.note(format!(
            "part {number} of {b} {key:?} {upload} {} {spoiled}",
            short(&value)
        ));
        let at = self.buckets[b].open_upload(key, upload);
        let put = PutPart {
            bucket: self.buckets[b].name.clone(),
            key: key_of(key),
            upload,
            number,
            length: value.size(),
            body: Box::new(Whole(Some(value.bytes.clone()))),
            expect: Expect {
                md5: spoiled.then_some([7; 16]),
                ..Expect::default()
            },
        };
        let known = at.as_ref().map(|_| ()).map_err(Clone::clone);
        let wanted = all_of([known, if spoiled { no("BadDigest") } else { Ok(()) }]);
        let before = stack.clock.wall_ms();
        let got = stack.objects.put_part(&CALLER, put).await;
        let Some((etag, record)) = self.agree("part", got, &wanted) else {
            return;
        };
        assert_eq!((etag.md5, etag.part_count), (value.md5, 0), "the part's ETag");
        assert!((before..=stack.clock.wall_ms()).contains(&record.modified_ms));
        same_checksums(&record.checksums, &value.bytes);
        let part = Part {
            value,
            modified_ms: Some(record.modified_ms),
        };
        self.take_part((b, at.expect("they agree")), number, part);
    }

    /// A part is there, in place of the one of that number.
    pub(crate) fn take_part(&mut self, (b, at): (usize, usize), number: u32, part: Part) {
        let old = self.buckets[b].uploads[at].parts.insert(number, part);
        self.covered
            .count_if(old.is_some(), "part", "in place of another");
    }

    pub(crate) async fn list_parts(&mut self, stack: &mut Stack) {
        let (b, key, upload) = self.upload();
        let query = ListParts {
            bucket: self.buckets[b].name.clone(),
            key: key_of(key),
            upload,
            after: *self.dice.pick(&[0, 0, 1, 2, 3, 9_999, 10_000]),
            max: *self.dice.pick(&[1, 1, 2, 1000]),
        };
        self.note(format!("list parts {b} {query:?}"));
        let at = self.buckets[b].open_upload(key, upload);
        let got = stack.objects.list_parts(&CALLER, query.clone()).await;
        let wanted = at.as_ref().map(|_| ()).map_err(Clone::clone);
        let Some(page) = self.agree("list parts", got, &wanted) else {
            return;
        };
        let begun = &self.buckets[b].uploads[at.expect("they agree")];
        let all: Vec<_> = begun.parts.iter().filter(|(n, _)| **n > query.after).collect();
        let (max, more) = (query.max as usize, all.len() > query.max as usize);
        assert_eq!(page.parts.len(), all.len().min(max), "as many parts");
        for (got, (number, part)) in page.parts.iter().zip(&all) {
            assert_eq!((got.number, got.size), (**number, part.value.size()), "the part");
            assert_eq!(got.etag_md5, part.value.md5, "the part's ETag");
            assert!(
                part.modified_ms.is_none_or(|ms| ms == got.modified_ms),
                "the part's time"
            );
            same_checksums(&got.checksums, &part.value.bytes);
        }
        assert_eq!(page.truncated, more, "whether there are more parts");
        assert_eq!(page.upload.metadata, pairs(&begun.told.metadata));
        self.covered.count_if(more, "list parts", "a page of several");
    }

    /// What a completion names: mostly what is there, now and then something wrong.
    fn named(&self, b: usize, upload: UploadId) -> Vec<NamedPart> {
        let Some(begun) = self.buckets[b].uploads.iter().find(|u| u.id == upload) else {
            return vec![named(1, [1; 16])];
        };
        if let (Stage::Completed(parts), true) = (&begun.stage, self.dice.percent(80)) {
            return parts.iter().map(|(number, md5)| named(*number, *md5)).collect();
        }
        let single = self.dice.percent(55);
        let mut all: Vec<NamedPart> = begun.parts.iter().map(|(n, p)| named(*n, p.value.md5)).collect();
        if single && all.len() > 1 {
            let at = self.dice.below(all.len() as u64) as usize;
            all = vec![all.swap_remove(at)];
        }
        match self.dice.below(16) {
            0 => all.push(named(5_000, [1; 16])),
            1 => all.iter_mut().for_each(|n| n.etag_md5 = [2; 16]),
            2 => all.reverse(),
            3 if !all.is_empty() => all.push(all[0].clone()),
            _ => {}
        }
        if all.is_empty() {
            all.push(named(1, [1; 16]));
        }
        all
    }

    pub(crate) async fn complete(&mut self, stack: &mut Stack) {
        let ended = self
            .buckets
            .iter()
            .flat_map(|b| &b.uploads)
            .any(|u| u.stage != Stage::Open);
        if !ended && self.begins_one(stack).await {
            return;
        }
        let (b, key, upload) = self.upload();
        let is_empty = |u: &Upload| u.id == upload && u.stage == Stage::Open && u.parts.is_empty();
        if self.buckets[b].uploads.iter().any(is_empty) && self.dice.percent(80) {
            let value = Value::draw(&self.dice);
            return self.put_part_of(stack, (b, key, upload), (1, value)).await;
        }
        let parts = self.named(b, upload);
        // A completion that comes again is answered whatever the conditions were.
        let is_open = self.buckets[b].open_upload(key, upload).is_ok();
        let precondition = if is_open {
            self.condition(b, key)
        } else {
            Precondition::default()
        };
        let size = self
            .dice
            .percent(3)
            .then(|| self.dice.below(30))
            .filter(|_| is_open);
        self.complete_of(stack, (b, key, upload), (parts, precondition, size))
            .await;
    }

    async fn complete_of(
        &mut self,
        stack: &mut Stack,
        (b, key, upload): (usize, &str, UploadId),
        (parts, precondition, size): (Vec<NamedPart>, Precondition, Option<u64>),
    ) {
        self.note(format!(
            "complete {b} {key:?} {upload} {parts:?} {precondition:?} {size:?}"
        ));
        let wanted = self.buckets[b].complete(key, (upload, &parts), &precondition, size);
        let said = parts.iter().map(|n| (n.number, n.etag_md5)).collect();
        let complete = CompleteUpload {
            bucket: self.buckets[b].name.clone(),
            key: key_of(key),
            upload,
            parts,
            precondition,
            expected: Expected {
                size,
                ..Expected::default()
            },
        };
        let before = stack.clock.wall_ms();
        let got = stack.objects.complete_upload(&CALLER, complete).await;
        let times = (before, stack.clock.wall_ms());
        let agreed = self.agree(
            "complete",
            got,
            &wanted.as_ref().map(|_| ()).map_err(Clone::clone),
        );
        match (agreed, wanted) {
            (Some(answer), Ok(Ok(version))) => {
                self.covered
                    .count_if(version.parts.len() > 1, "complete", "of several parts");
                let at = version.upload.expect("it was made by one");
                self.made((b, key), &answer, version, times);
                self.buckets[b].uploads[at].stage = Stage::Completed(said);
            }
            (Some(answer), Ok(Err(made))) => {
                assert_eq!(
                    crate::alike::id_of(&answer.version),
                    made.id,
                    "the same answer again"
                );
                assert_eq!(
                    (answer.size, answer.etag_parts),
                    (made.size(), made.etag.part_count)
                );
                self.covered.count("complete", "again");
            }
            _ => {}
        }
    }

    pub(crate) async fn abort(&mut self, stack: &mut Stack) {
        let (b, key, upload) = self.upload();
        self.note(format!("abort {b} {key:?} {upload}"));
        let at = self.buckets[b].open_upload(key, upload);
        let got = stack
            .objects
            .abort_upload(&CALLER, &self.buckets[b].name, &key_of(key), upload)
            .await;
        let wanted = at.as_ref().map(|_| ()).map_err(Clone::clone);
        if self.agree("abort", got, &wanted).is_some() {
            self.buckets[b].uploads[at.expect("they agree")].stage = Stage::Aborted;
            self.gone_uploads.push(upload);
        }
    }

    /// An upload with a part that may stand before another: from its beginning to its end.
    pub(crate) async fn large_upload(&mut self, stack: &mut Stack) {
        let (b, key) = self.place();
        // Rare: its bytes are as many as those of all other steps together.
        if !self.dice.percent(12) {
            return self.start_upload(stack).await;
        }
        let upload = self.start_upload_at(stack, (b, key)).await;
        let large = Value::large(&self.dice);
        let first = self.dice.between(1, 2) as u32;
        self.put_part_of(stack, (b, key, upload), (first, large)).await;
        let last = Value::draw(&self.dice);
        self.put_part_of(stack, (b, key, upload), (first + 3, last)).await;
        let begun = &self.buckets[b].uploads.last().expect("it was begun").parts;
        let parts: Vec<NamedPart> = begun.iter().map(|(n, p)| named(*n, p.value.md5)).collect();
        if parts.is_empty() {
            return;
        }
        let condition = self.condition(b, key);
        self.complete_of(stack, (b, key, upload), (parts, condition, None))
            .await;
    }
}

fn named(number: u32, etag_md5: [u8; 16]) -> NamedPart {
    NamedPart {
        number,
        etag_md5,
        checksums: Vec::new(),
    }
}
