//! The end of a sequence: everything is looked at, and then the buckets go, where they may.

use crate::model::{Keeps, Said, Stage, Which, no};
use crate::pages::Asked;
use crate::sequence::Sequence;
use crate::stack::{CALLER, Stack};
use http::Method;
use types::BucketId;
use wire::index::Index as _;
use wire::records::UsageRecord;

impl Sequence {
    /// At a sequence's end: everything there is, by all ways to it.
    pub(crate) async fn look_at_all(&mut self, stack: &mut Stack) {
        for b in 0..self.buckets.len() {
            self.note(format!("look at all of {b}"));
            let asked = Asked::all(*self.dice.pick(&[1, 2, 1000]));
            let mut after = String::new();
            while let (lines, true) = self.list_page(stack, b, (&asked, &after)).await {
                after = lines.last().expect("there is more").clone();
            }
            let mut after = Some((String::new(), None));
            while let Some(from) = after {
                after = self.versions_page(stack, b, (&asked, &from)).await;
            }
            let mut after = Some((String::new(), None));
            while let Some(from) = after {
                after = self.uploads_page(stack, b, (&asked, &from)).await;
            }
            let keys: Vec<(String, Vec<(bool, u128)>)> = (self.buckets[b].keys.iter())
                .map(|(key, all)| (key.clone(), all.iter().map(|v| (v.null, v.id)).collect()))
                .collect();
            for (key, all) in keys {
                for (null, id) in all {
                    let which = if null { Which::Null } else { Which::Id(id) };
                    self.read(stack, (b, &key), which, None).await;
                }
                self.read(stack, (b, &key), Which::Current, None).await;
            }
            self.check_usage(stack, b).await;
        }
    }

    /// What a bucket is said to hold is what it holds.
    async fn check_usage(&mut self, stack: &Stack, b: usize) {
        let record = stack
            .objects
            .head_bucket(&CALLER, &self.buckets[b].name)
            .await
            .expect("the bucket");
        let usage = stack
            .index
            .usage(BucketId(record.bucket))
            .await
            .expect("its usage");
        let said = usage.first().map(|(_, usage)| *usage).unwrap_or_default();
        let bucket = &self.buckets[b];
        let all = || bucket.keys.values().flatten();
        let open = || bucket.uploads.iter().filter(|u| u.stage == Stage::Open);
        let parts = open().flat_map(|u| u.parts.values());
        let is = UsageRecord {
            bytes: all().map(|v| v.size() as i64).sum(),
            objects: bucket.keys.keys().filter(|k| bucket.current(k).is_some()).count() as i64,
            versions: all().count() as i64,
            uploads: open().count() as i64,
            part_bytes: parts.map(|p| p.value.size() as i64).sum(),
        };
        assert_eq!(said, is, "what the bucket holds");
    }

    /// The last of a sequence: its buckets are removed where they may be, now and then after everything in them was.
    pub(crate) async fn end(&mut self, stack: &mut Stack) {
        for b in 0..self.buckets.len() {
            if self.dice.percent(70) {
                continue;
            }
            let name = self.buckets[b].name.clone();
            if self.dice.percent(50) {
                self.empty(stack, b).await;
            }
            self.note(format!("delete bucket {b}"));
            let wanted: Said<()> = self.buckets[b].may_go();
            let answer = stack.face.ask(Method::DELETE, &format!("/{name}"), &[]).await;
            if let Err(codes) = &wanted {
                self.agree_code("delete bucket", answer.code(), codes);
                continue;
            }
            assert_eq!(answer.status, 204, "{}", answer.text());
            self.covered.count("delete bucket", "ok");
            let open = self.buckets[b].uploads.iter().any(|u| u.stage == Stage::Open);
            self.covered
                .count_if(open, "delete bucket", "with uploads under way");
            let got = stack.objects.head_bucket(&CALLER, &name).await;
            self.agree("head bucket", got, &no("NoSuchBucket"));
        }
    }

    /// Removes every version of every key.
    async fn empty(&mut self, stack: &mut Stack, b: usize) {
        while let Some((key, version)) = self.buckets[b]
            .keys
            .first_key_value()
            .map(|(k, all)| (k.clone(), &all[0]))
        {
            let which = match (self.buckets[b].keeps, version.null) {
                (Keeps::Never, _) => Which::Current,
                (_, true) => Which::Null,
                _ => Which::Id(version.id),
            };
            self.delete_of(stack, (b, &key), which).await;
        }
    }
}
