//! One sequence: what it draws, and how answers are held against the model.

use crate::alike::code_of;
use crate::covered::Covered;
use crate::model::{Bucket, Keeps, No, Said, Told, Version, Which};
use crate::stack::{CALLER, Ending, Stack};
use bytes::Bytes;
use objects::{Body, BodyError, ObjectsError};
use sim::SimRng;
use types::{BucketName, ETag, ObjectKey, UploadId, VersionId};
use wire::index::{Match, Precondition, VersionRef};
use wire::records::{ContentHeaders, Pair};

/// Keys that get in each other's way: prefixes of each other, neighbours in order, with and without delimiters.
const KEYS: [&str; 16] = [
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/c",
    "a//b",
    "a\u{1}",
    "a-",
    "a.b",
    "ab",
    "ab/a",
    "b",
    "b/",
    "é",
    "é/日本",
    "\u{10ffff}",
];

/// A sequence under way. It outlasts the lives of the machine.
pub(crate) struct Sequence {
    pub dice: SimRng,
    pub covered: Covered,
    pub buckets: Vec<Bucket>,
    pub keys: Vec<&'static str>,
    /// Versions and uploads that are not there any more, or never were.
    pub gone_versions: Vec<u128>,
    pub gone_uploads: Vec<UploadId>,
    steps: u64,
    done: u64,
    /// The step at which the machine's life ends.
    reopens: Option<(u64, Ending)>,
    versions_from: u64,
    log: Vec<String>,
}

/// A body that is all there.
pub(crate) struct Whole(pub Option<Bytes>);

#[async_trait::async_trait]
impl Body for Whole {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(self.0.take().filter(|b| !b.is_empty()))
    }
    fn trailer(&mut self) -> Vec<types::Checksum> {
        Vec::new()
    }
}

pub(crate) fn key_of(key: &str) -> ObjectKey {
    ObjectKey::new(key).expect("a key")
}

pub(crate) fn version_ref(which: Which) -> VersionRef {
    match which {
        Which::Current => VersionRef::Current,
        Which::Null => VersionRef::Null,
        Which::Id(id) => VersionRef::Id(VersionId(id)),
    }
}

pub(crate) fn pairs(all: &[(String, String)]) -> Vec<Pair> {
    let pair = |(name, value): &(String, String)| Pair {
        name: name.clone(),
        value: value.clone(),
    };
    all.iter().map(pair).collect()
}

pub(crate) fn headers_of(told: &Told) -> ContentHeaders {
    ContentHeaders {
        content_type: told.content_type.clone(),
        ..ContentHeaders::default()
    }
}

impl Sequence {
    /// What comes of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let dice = SimRng::new(seed);
        let count = dice.between(2, 5);
        let keys = (0..count).map(|_| *dice.pick(&KEYS)).collect();
        let steps = dice.between(10, 25);
        let ending = *dice.pick(&[Ending::Stop, Ending::Crash]);
        let at = dice.between(3, steps);
        // Half of the sequences never keep versions: appends are only there.
        let versions_from = *dice.pick(&[u64::MAX, u64::MAX, 0, 4]);
        let name = |n: u64| BucketName::new(&format!("bucket-{seed}-{n}")).expect("a name");
        let buckets = (0..dice.between(1, 5) / 5 + 1)
            .map(|n| Bucket::new(name(n)))
            .collect();
        Self {
            dice,
            covered: Covered::default(),
            buckets,
            keys,
            gone_versions: vec![5],
            gone_uploads: vec![UploadId(5)],
            steps,
            done: 0,
            reopens: seed.is_multiple_of(crate::REOPENED).then_some((at, ending)),
            versions_from,
            log: Vec::new(),
        }
    }

    /// Goes on to its end, or to that of the machine's life.
    pub(crate) async fn go_on(&mut self, stack: &mut Stack) -> Option<Ending> {
        if self.done == 0 {
            for bucket in &self.buckets {
                let made = stack.objects.create_bucket(&CALLER, &bucket.name).await;
                made.expect("a new bucket");
            }
        }
        while self.done < self.steps {
            if let Some((_, ending)) = self.reopens.take_if(|(at, _)| *at == self.done) {
                self.note(format!("{ending:?}"));
                let what = if ending == Ending::Crash {
                    "crashed"
                } else {
                    "stopped"
                };
                self.covered.count("the store", what);
                return Some(ending);
            }
            if self.done == self.versions_from {
                self.set_versioning(stack).await;
            }
            self.step(stack).await;
            self.done += 1;
            if self.dice.percent(30) {
                stack.clock.jump_ms(self.dice.between(1, 2500) as i64);
            }
        }
        self.look_at_all(stack).await;
        self.end(stack).await;
        None
    }

    async fn step(&mut self, stack: &mut Stack) {
        // There is little to do before something is there.
        if self.done < 5 && self.dice.percent(50) {
            return self.put(stack).await;
        }
        match self.dice.weighted(&[
            210, 65, 40, 15, 40, 45, 50, 40, 70, 60, 50, 35, 45, 80, 35, 25, 70, 15, 75, 20, 4,
        ]) {
            0 => self.put(stack).await,
            1 => self.delete(stack, Which::Current).await,
            2 => {
                let (b, key) = self.place_there();
                let which = self.which(b, key);
                self.delete_of(stack, (b, key), which).await;
            }
            3 => self.delete_many(stack).await,
            4 if self.versions_from < u64::MAX => self.set_versioning(stack).await,
            4 | 5 => self.get(stack).await,
            6 => self.conditional_get(stack).await,
            7 => self.set_tags(stack).await,
            8 => self.append(stack).await,
            9 => self.list(stack).await,
            10 => self.list_versions(stack).await,
            11 => self.list_uploads(stack).await,
            12 => self.start_upload(stack).await,
            13 => self.put_part(stack).await,
            14 => self.copy_part(stack).await,
            15 => self.list_parts(stack).await,
            16 => self.complete(stack).await,
            17 => self.abort(stack).await,
            18 => self.copy(stack).await,
            19 => self.list_through_the_face(stack).await,
            _ => self.large_upload(stack).await,
        }
    }

    /// What was done, for whoever looks into a failure.
    pub(crate) fn note(&mut self, what: String) {
        self.covered.trace(&what);
        self.log.push(what);
    }

    pub(crate) fn place(&self) -> (usize, &'static str) {
        let b = self.dice.below(self.buckets.len() as u64) as usize;
        (b, *self.dice.pick(&self.keys))
    }

    /// A key that has versions, mostly.
    pub(crate) fn place_there(&self) -> (usize, &'static str) {
        let (b, key) = self.place();
        let there: Vec<&'static str> = (self.keys.iter().copied())
            .filter(|k| !self.buckets[b].versions(k).is_empty())
            .collect();
        if there.is_empty() || self.dice.percent(20) {
            return (b, key);
        }
        (b, *self.dice.pick(&there))
    }

    /// A version of a key: the newest, the null one, one that is there, one that is not.
    pub(crate) fn which(&self, b: usize, key: &str) -> Which {
        let there: Vec<u128> = self.buckets[b]
            .versions(key)
            .iter()
            .filter(|v| !v.null)
            .map(|v| v.id)
            .collect();
        match self.dice.below(10) {
            0 => Which::Id(*self.dice.pick(&self.gone_versions)),
            1 | 2 => Which::Null,
            _ if there.is_empty() => Which::Null,
            _ => Which::Id(*self.dice.pick(&there)),
        }
    }

    pub(crate) fn told(&self) -> Told {
        let letters = ["", "x", "two words", "é"];
        let some = |names: [&str; 2]| -> Vec<(String, String)> {
            let count = self.dice.weighted(&[50, 30, 20]);
            let value = || (*self.dice.pick(&letters[..3])).to_owned();
            names[..count]
                .iter()
                .map(|n| ((*n).to_owned(), value()))
                .collect()
        };
        Told {
            content_type: (*self.dice.pick(&["", "", "text/plain", "image/x"])).to_owned(),
            metadata: some(["one", "other-name"]),
            tags: some(["tag", "é"]),
        }
    }

    fn match_of(&self, b: usize, key: &str) -> Match {
        let there: Vec<ETag> = self.buckets[b].versions(key).iter().map(|v| v.etag).collect();
        let other = ETag {
            md5: [self.dice.below(3) as u8; 16],
            part_count: 0,
        };
        match self.dice.below(4) {
            0 => Match::Any,
            1 => Match::Tags(vec![other]),
            2 if !there.is_empty() => Match::Tags(vec![other, *self.dice.pick(&there)]),
            _ => Match::Tags(there.first().copied().into_iter().collect()),
        }
    }

    /// A condition on a write: mostly none, and rarely where nothing is there.
    pub(crate) fn condition(&self, b: usize, key: &str) -> Precondition {
        let mut condition = Precondition::default();
        let often = if self.buckets[b].versions(key).is_empty() {
            4
        } else {
            13
        };
        match self.dice.weighted(&[75, often, often, 1]) {
            0 => {}
            1 => condition.if_match = Some(self.match_of(b, key)),
            2 => condition.if_none_match = Some(self.match_of(b, key)),
            _ => {
                condition.if_match = Some(self.match_of(b, key));
                condition.if_none_match = Some(self.match_of(b, key));
            }
        }
        condition
    }

    /// A condition on a delete: mostly none.
    pub(crate) fn delete_condition(&self, b: usize, key: &str, meant: Option<&Version>) -> Precondition {
        let mut condition = Precondition::default();
        if self.dice.percent(80) {
            return condition;
        }
        match self.dice.below(3) {
            0 => condition.if_match = Some(self.match_of(b, key)),
            1 => condition.if_size = Some(meant.map_or(3, Version::size) + self.dice.below(2)),
            _ => {
                let at = meant.and_then(|m| m.modified_ms).map_or(7, |ms| ms / 1000);
                condition.if_modified_s = Some(at + self.dice.below(2));
            }
        }
        condition
    }

    /// Holds an answer against what is to be said; gives it when it is what was wanted and no refusal.
    #[track_caller]
    pub(crate) fn agree<T: std::fmt::Debug>(
        &mut self,
        operation: &'static str,
        got: Result<T, ObjectsError>,
        wanted: &Said<()>,
    ) -> Option<T> {
        let told = got.as_ref().err().map(|e| (code_of(e), e.to_string()));
        match (got, wanted) {
            (Ok(got), Ok(())) => {
                self.covered.count(operation, "ok");
                Some(got)
            }
            (Err(_), Err(codes)) if told.as_ref().is_some_and(|(code, _)| codes.contains(code)) => {
                let code = told.map_or("", |(code, _)| code);
                self.covered.count(operation, code);
                self.note(format!("    {code}"));
                None
            }
            (got, wanted) => panic!("{operation} answered {got:?} ({told:?}), not {wanted:?}"),
        }
    }

    /// The same for an answer of the face.
    #[track_caller]
    pub(crate) fn agree_code(&mut self, operation: &'static str, code: &str, codes: &No) {
        let Some(code) = codes.iter().find(|c| **c == code) else {
            panic!("{operation} answered {code:?}, not {codes:?}");
        };
        self.covered.count(operation, code);
        self.note(format!("    {code}"));
    }

    /// Tells what led here, and where to begin again, when a thread panics.
    pub(crate) fn tell(&self) {
        for line in &self.log {
            println!("  {line}");
        }
    }

    pub(crate) fn versioning_number(&self, b: usize) -> u32 {
        match self.buckets[b].keeps {
            Keeps::Never => 0,
            Keeps::Enabled => 1,
            Keeps::Suspended => 2,
        }
    }
}
