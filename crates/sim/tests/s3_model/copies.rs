//! Copies, of objects and to parts: their directives and the conditions on their source are decided by S3's face.

use crate::alike::{id_of, same};
use crate::face::{Answer, element, escaped};
use crate::model::{Part, Said, Told, Version, Which, all_of, check_write, no};
use crate::reads::{Headers, Verdict};
use crate::sequence::{Sequence, key_of};
use crate::stack::{CALLER, Stack};
use crate::value::Value;
use http::Method;
use types::{ETag, VersionId};
use wire::index::{Match, Precondition, VersionRef};
use world::Clock as _;

fn tags_of(condition: &Match) -> String {
    match condition {
        Match::Any => "*".into(),
        Match::Tags(tags) => tags
            .iter()
            .map(|t| format!("\"{t}\""))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn is_some_tag(condition: &Option<Match>) -> bool {
    condition
        .as_ref()
        .is_none_or(|m| !matches!(m, Match::Tags(tags) if tags.is_empty()))
}

impl Sequence {
    /// The source of a copy, with the header that names it, and why it is none.
    fn source(&self) -> ((usize, &'static str, Which), Headers, Said<Version>) {
        let (b, key) = self.place_there();
        let which = if self.dice.percent(60) {
            Which::Current
        } else {
            self.which(b, key)
        };
        // A copy refuses a delete marker that it names as no source at all.
        let read = self.buckets[b].read(key, which).cloned();
        let read = read.map_err(|no| {
            if no == ["MethodNotAllowed"] {
                vec!["InvalidRequest"]
            } else {
                no
            }
        });
        let asks = self.asks(read.as_ref().ok(), 25);
        let names = [
            "x-amz-copy-source-if-match",
            "x-amz-copy-source-if-none-match",
            "x-amz-copy-source-if-modified-since",
            "x-amz-copy-source-if-unmodified-since",
        ];
        let mut headers = asks.headers(names);
        let query = Self::version_query(which)
            .map(|q| format!("?{q}"))
            .unwrap_or_default();
        headers.push(("x-amz-copy-source", format!("{}{query}", self.target(b, key))));
        let read = read.and_then(|v| match asks.verdict(&v) {
            Verdict::Serve => Ok(v),
            Verdict::Failed | Verdict::NotModified => no("PreconditionFailed"),
        });
        ((b, key, which), headers, read)
    }

    pub(crate) async fn copy(&mut self, stack: &mut Stack) {
        let (from, mut headers, read) = self.source();
        let (b, key) = if self.dice.percent(25) {
            (from.0, from.1)
        } else {
            self.place()
        };
        let told = self.told();
        let (new_metadata, new_tags) = (self.dice.percent(45), self.dice.percent(35));
        self.directives(&mut headers, &told, (new_metadata, new_tags));
        let mut condition = self.condition(b, key);
        if !is_some_tag(&condition.if_match) || !is_some_tag(&condition.if_none_match) {
            condition = Precondition::default();
        }
        headers.extend(condition.if_match.as_ref().map(|m| ("if-match", tags_of(m))));
        headers.extend(
            condition
                .if_none_match
                .as_ref()
                .map(|m| ("if-none-match", tags_of(m))),
        );
        let target = self.target(b, key);
        self.note(format!("copy to {target} {headers:?}"));
        let illegal = from == (b, key, Which::Current) && !new_metadata && !new_tags;
        let wanted = all_of([
            if illegal { no("InvalidRequest") } else { Ok(()) },
            read.as_ref().map(|_| ()).map_err(Clone::clone),
            check_write(&condition, self.buckets[b].current(key)),
        ]);
        let before = stack.clock.wall_ms();
        let answer = stack.face.ask(Method::PUT, &target, &headers).await;
        let times = (before, stack.clock.wall_ms());
        if let Err(codes) = wanted {
            return self.agree_code("copy", answer.code(), &codes);
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        let source = read.expect("nothing is wrong");
        self.covered
            .count_if(from == (b, key, Which::Current), "copy", "onto itself");
        self.covered.count_if(from.0 != b, "copy", "to another bucket");
        self.covered
            .count_if(matches!(from.2, Which::Id(_)), "copy", "of a version");
        self.covered
            .count_if(source.parts.len() > 1, "copy", "of an object of parts");
        let mut version = Version::new(&Value::of(source.bytes.clone()), source.told.clone());
        if new_metadata {
            (version.told.metadata, version.told.content_type) = (told.metadata, told.content_type);
        }
        if new_tags {
            version.told.tags = told.tags;
        }
        self.copied(stack, (b, key), (version, times), &answer).await;
    }

    fn directives(&mut self, headers: &mut Headers, told: &Told, (metadata, tags): (bool, bool)) {
        let directive = |new: bool| if new { "REPLACE" } else { "COPY" }.to_owned();
        let (metadata_kept, tags_kept) = (self.dice.percent(50), self.dice.percent(50));
        if metadata || metadata_kept {
            headers.push(("x-amz-metadata-directive", directive(metadata)));
        }
        if tags || tags_kept {
            headers.push(("x-amz-tagging-directive", directive(tags)));
        }
        // Without the directive they are not looked at.
        for (name, value) in &told.metadata {
            let name = if name == "one" {
                "x-amz-meta-one"
            } else {
                "x-amz-meta-other-name"
            };
            headers.push((name, value.clone()));
        }
        if !told.content_type.is_empty() {
            headers.push(("content-type", told.content_type.clone()));
        }
        if tags {
            let pair = |(n, v): &(String, String)| format!("{}={}", escaped(n, b""), escaped(v, b""));
            headers.push((
                "x-amz-tagging",
                told.tags.iter().map(pair).collect::<Vec<_>>().join("&"),
            ));
        }
        self.covered.count(
            "copy",
            if metadata {
                "metadata replaced"
            } else {
                "metadata copied"
            },
        );
        self.covered
            .count("copy", if tags { "tags replaced" } else { "tags copied" });
    }

    /// A copy was made: what it is called is found by looking, and all of it is as it should be.
    async fn copied(
        &mut self,
        stack: &mut Stack,
        (b, key): (usize, &str),
        (mut version, times): (Version, (u64, u64)),
        answer: &Answer,
    ) {
        let etag = ETag::parse(&element(answer.text(), "ETag").replace("&quot;", "\""));
        assert_eq!(etag, Some(version.etag), "{}", answer.text());
        let head = stack
            .objects
            .head(&CALLER, &self.buckets[b].name, &key_of(key), VersionRef::Current)
            .await;
        let record = head.expect("what was copied").record;
        version.id = id_of(&record.version);
        version.null = record.null_version;
        assert!((times.0..=times.1).contains(&record.modified_ms), "copied now");
        version.modified_ms = Some(record.modified_ms);
        same(&record, &version);
        let named = (!version.null).then(|| VersionId(version.id).to_string());
        assert_eq!(answer.header("x-amz-version-id"), named.as_deref());
        self.covered.count("copy", "ok");
        self.add((b, key), version);
    }

    pub(crate) async fn copy_part(&mut self, stack: &mut Stack) {
        let (b, key, upload) = self.upload();
        let number = *self.dice.pick(&[1, 2, 3]);
        let (_, mut headers, read) = self.source();
        let size = read.as_ref().map_or(3, Version::size);
        let range = self.dice.percent(60).then(|| {
            let (a, z) = (self.dice.below(size + 1), self.dice.below(size + 1));
            (a.min(z), a.max(z))
        });
        headers.extend(range.map(|(a, z)| ("x-amz-copy-source-range", format!("bytes={a}-{z}"))));
        let target = format!("{}?partNumber={number}&uploadId={upload}", self.target(b, key));
        self.note(format!("copy part to {target} {headers:?}"));
        let at = self.buckets[b].open_upload(key, upload);
        let outside = range.is_some_and(|(_, z)| z >= size) && read.is_ok();
        let wanted = all_of([
            at.as_ref().map(|_| ()).map_err(Clone::clone),
            read.as_ref().map(|_| ()).map_err(Clone::clone),
            if outside { no("InvalidRange") } else { Ok(()) },
        ]);
        let before = stack.clock.wall_ms();
        let answer = stack.face.ask(Method::PUT, &target, &headers).await;
        if let Err(codes) = wanted {
            return self.agree_code("copy part", answer.code(), &codes);
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        let source = read.expect("nothing is wrong");
        let (a, z) = range.map_or((0, size), |(a, z)| (a, z + 1));
        let value = Value::of(source.bytes.slice(a as usize..z as usize));
        let etag = ETag::parse(&element(answer.text(), "ETag").replace("&quot;", "\""));
        assert_eq!(etag.map(|e| e.md5), Some(value.md5), "{}", answer.text());
        self.covered
            .count("copy part", if range.is_some() { "a range" } else { "whole" });
        let modified_ms = (before == stack.clock.wall_ms()).then_some(before);
        let part = Part { value, modified_ms };
        self.take_part((b, at.expect("they agree")), number, part);
    }
}
