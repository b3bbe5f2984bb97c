//! Listings, page by page: of objects, of versions, of uploads.

use crate::alike::same;
use crate::pages::{Asked, Line};
use crate::sequence::{Sequence, pairs};
use crate::stack::{CALLER, Stack};
use objects::{ListObjects, ListUploads, ListVersions};
use types::{UploadId, VersionId};
use wire::index::{ListEntry, UploadsEntry, VersionRef, VersionsEntry, listed};

/// Where a page of versions begins.
type After = (String, Option<VersionRef>);

impl Sequence {
    pub(crate) fn asked(&self) -> Asked {
        let prefixes = [
            "", "", "", "", "", "", "a", "a/", "a/b", "ab", "b", "é", "é/", "zz",
        ];
        let delimiters = ["", "/", "/", "/", "b", "//", "\u{1}", "a/"];
        Asked {
            prefix: (*self.dice.pick(&prefixes)).to_owned(),
            delimiter: (*self.dice.pick(&delimiters)).to_owned(),
            max: *self.dice.pick(&[1, 1, 2, 3, 1000]),
        }
    }

    /// Where a page begins: often nowhere, else at a key, or at what may be a common prefix, or between.
    fn after(&self) -> String {
        match self.dice.below(6) {
            0 => (*self
                .dice
                .pick(&["a/", "a//", "a/b/", "é/", "a/a", "zz", "b/", "0"]))
            .to_owned(),
            1 | 2 => (*self.dice.pick(&self.keys)).to_owned(),
            _ => String::new(),
        }
    }

    pub(crate) async fn list(&mut self, stack: &mut Stack) {
        let (b, asked, mut after) = (self.place().0, self.asked(), self.after());
        // One page, or page after page to the end.
        let pages = if self.dice.percent(40) { 1 } else { usize::MAX };
        self.note(format!("list {b} {asked:?} after {after:?}, {pages} pages"));
        for page in 0..pages {
            let (lines, more) = self.list_page(stack, b, (&asked, &after)).await;
            self.covered.count_if(page > 0, "list", "a later page");
            match lines.last() {
                Some(last) if more => after = last.clone(),
                _ => break,
            }
        }
    }

    /// A page, which is as it should be; the names of its lines, and whether there are more.
    pub(crate) async fn list_page(
        &mut self,
        stack: &mut Stack,
        b: usize,
        (asked, after): (&Asked, &str),
    ) -> (Vec<String>, bool) {
        let query = ListObjects {
            bucket: self.buckets[b].name.clone(),
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            after: after.to_owned(),
            max: asked.max,
        };
        let got = stack.objects.list(&CALLER, query).await;
        let page = self.agree("list", got, &Ok(())).expect("nothing refuses it");
        let (lines, more) = asked.objects(&self.buckets[b], after);
        let got: Vec<&str> = page
            .entries
            .iter()
            .map(|e| match e {
                ListEntry::Object { key, .. } | ListEntry::Prefix(key) => key.as_str(),
            })
            .collect();
        let names: Vec<String> = lines.iter().map(|l| l.name().to_owned()).collect();
        assert_eq!(got, names, "{asked:?} after {after:?}");
        let mut prefixes = 0;
        for (entry, line) in page.entries.iter().zip(&lines) {
            match (entry, line) {
                (ListEntry::Object { key, record }, Line::Under(_, version)) => {
                    same(&listed(key, record).expect("a record"), version);
                }
                (ListEntry::Prefix(_), Line::Prefix(_)) => prefixes += 1,
                _ => panic!("{entry:?} is not {line:?}"),
            }
        }
        assert_eq!(
            page.truncated, more,
            "whether there is more: {asked:?} after {after:?}"
        );
        let begins_in = |key: &str| {
            key > after
                && asked
                    .common_prefix(key)
                    .is_some_and(|c| *c < *after && after.starts_with(&c))
        };
        let inside = self.buckets[b].keys.keys().any(|key| begins_in(key));
        let covered = &mut self.covered;
        covered.count_if(more, "list", "cut by max");
        covered.count_if(prefixes > 0, "list", "a common prefix");
        covered.count_if(
            prefixes > 0 && prefixes < lines.len(),
            "list",
            "common prefixes among keys",
        );
        covered.count_if(inside, "list", "begins inside a common prefix");
        (names, more)
    }

    /// What the marker of a page of versions means to the model: the id of the version after which it begins.
    fn marked(&self, b: usize, (key, version): &After) -> Option<u128> {
        let all = self.buckets[b].versions(key);
        match version {
            None | Some(VersionRef::Current) => None,
            Some(VersionRef::Id(id)) => Some(id.0),
            Some(VersionRef::Null) => all.iter().find(|v| v.null).map(|v| v.id),
        }
    }

    pub(crate) async fn list_versions(&mut self, stack: &mut Stack) {
        let (b, asked) = (self.place().0, self.asked());
        let mut after: After = (self.after(), None);
        let bucket = &self.buckets[b];
        let there = bucket.versions(&after.0);
        let gone: Vec<u128> = (self.gone_versions.iter().copied())
            .filter(|id| bucket.born.contains_key(id))
            .collect();
        if !after.0.is_empty() && !gone.is_empty() && self.dice.percent(20) {
            after.1 = Some(VersionRef::Id(VersionId(*self.dice.pick(&gone))));
            self.covered
                .count("list versions", "after a version that is gone");
        } else if !there.is_empty() && self.dice.percent(60) {
            let version = self.dice.pick(there);
            let by_name = version.null && self.dice.percent(70);
            let id = VersionId(version.id);
            after.1 = Some(if by_name {
                VersionRef::Null
            } else {
                VersionRef::Id(id)
            });
            self.covered.count("list versions", "after a version");
        }
        let pages = if self.dice.percent(40) { 1 } else { usize::MAX };
        self.note(format!(
            "list versions {b} {asked:?} after {after:?}, {pages} pages"
        ));
        for page in 0..pages {
            let next = self.versions_page(stack, b, (&asked, &after)).await;
            self.covered.count_if(page > 0, "list versions", "a later page");
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
    }

    /// A page, which is as it should be; where the next begins.
    pub(crate) async fn versions_page(
        &mut self,
        stack: &mut Stack,
        b: usize,
        (asked, after): (&Asked, &After),
    ) -> Option<After> {
        let query = ListVersions {
            bucket: self.buckets[b].name.clone(),
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            after: after.clone(),
            max: asked.max,
        };
        let got = stack.objects.list_versions(&CALLER, query).await;
        let page = self
            .agree("list versions", got, &Ok(()))
            .expect("nothing refuses it");
        let (lines, more) = asked.versions(&self.buckets[b], (&after.0, self.marked(b, after)));
        let got: Vec<(&str, u128)> = page
            .entries
            .iter()
            .map(|e| match e {
                VersionsEntry::Version { key, record, .. } => {
                    (key.as_str(), crate::alike::id_of(&record.version))
                }
                VersionsEntry::Prefix(prefix) => (prefix.as_str(), 0),
            })
            .collect();
        let wanted: Vec<(&str, u128)> = lines
            .iter()
            .map(|l| match l {
                Line::Under(key, (v, _)) => (key.as_str(), v.id),
                Line::Prefix(prefix) => (prefix.as_str(), 0),
            })
            .collect();
        assert_eq!(got, wanted, "{asked:?} after {after:?}");
        let mut markers = false;
        for (entry, line) in page.entries.iter().zip(&lines) {
            if let (
                VersionsEntry::Version {
                    record, is_latest, ..
                },
                Line::Under(_, (version, newest)),
            ) = (entry, line)
            {
                same(record, version);
                assert_eq!(is_latest, newest, "whether {line:?} is the newest");
                markers |= version.marker;
            }
        }
        assert_eq!(
            page.truncated, more,
            "whether there is more: {asked:?} after {after:?}"
        );
        let within = more && lines.windows(2).any(|w| w[0].name() == w[1].name());
        let covered = &mut self.covered;
        covered.count_if(markers, "list versions", "delete markers");
        covered.count_if(more, "list versions", "cut by max");
        covered.count_if(within, "list versions", "several of a key on a cut page");
        covered.count_if(
            lines.iter().any(|l| matches!(l, Line::Prefix(_))),
            "list versions",
            "a common prefix",
        );
        match lines.last().filter(|_| more)? {
            Line::Prefix(prefix) => Some((prefix.clone(), None)),
            Line::Under(key, (version, _)) => {
                Some((key.clone(), Some(VersionRef::Id(VersionId(version.id)))))
            }
        }
    }

    pub(crate) async fn list_uploads(&mut self, stack: &mut Stack) {
        let (b, asked) = (self.place().0, self.asked());
        let mut after = (self.after(), None);
        let of_key = self.buckets[b]
            .uploads
            .iter()
            .enumerate()
            .filter(|(_, u)| u.key == after.0);
        let there: Vec<usize> = of_key.map(|(n, _)| n).collect();
        if !there.is_empty() && self.dice.percent(60) {
            after.1 = Some(*self.dice.pick(&there));
            self.covered.count("list uploads", "after an upload");
        }
        let pages = if self.dice.percent(40) { 1 } else { usize::MAX };
        self.note(format!(
            "list uploads {b} {asked:?} after {after:?}, {pages} pages"
        ));
        for page in 0..pages {
            let next = self.uploads_page(stack, b, (&asked, &after)).await;
            self.covered.count_if(page > 0, "list uploads", "a later page");
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
    }

    /// A page, which is as it should be; where the next begins: after a key, or after the nth upload of the bucket.
    pub(crate) async fn uploads_page(
        &mut self,
        stack: &mut Stack,
        b: usize,
        (asked, after): (&Asked, &(String, Option<usize>)),
    ) -> Option<(String, Option<usize>)> {
        let bucket = &self.buckets[b];
        let query = ListUploads {
            bucket: bucket.name.clone(),
            prefix: asked.prefix.clone(),
            delimiter: asked.delimiter.clone(),
            after: (after.0.clone(), after.1.map(|n| bucket.uploads[n].id)),
            max: asked.max,
        };
        let got = stack.objects.list_uploads(&CALLER, query).await;
        let page = self
            .agree("list uploads", got, &Ok(()))
            .expect("nothing refuses it");
        let (lines, more) = asked.uploads(&self.buckets[b], (&after.0, after.1));
        let got: Vec<(&str, Option<UploadId>)> = page
            .entries
            .iter()
            .map(|e| match e {
                UploadsEntry::Upload { key, record } => (key.as_str(), UploadId::from_slice(&record.upload)),
                UploadsEntry::Prefix(prefix) => (prefix.as_str(), None),
            })
            .collect();
        let wanted: Vec<(&str, Option<UploadId>)> = lines
            .iter()
            .map(|l| match l {
                Line::Under(key, (_, u)) => (key.as_str(), Some(u.id)),
                Line::Prefix(prefix) => (prefix.as_str(), None),
            })
            .collect();
        assert_eq!(got, wanted, "{asked:?} after {after:?}");
        for (entry, line) in page.entries.iter().zip(&lines) {
            if let (UploadsEntry::Upload { record, .. }, Line::Under(_, (_, upload))) = (entry, line) {
                assert_eq!(record.metadata, pairs(&upload.told.metadata));
                assert_eq!(record.tags, pairs(&upload.told.tags));
            }
        }
        assert_eq!(
            page.truncated, more,
            "whether there is more: {asked:?} after {after:?}"
        );
        let covered = &mut self.covered;
        covered.count_if(more, "list uploads", "cut by max");
        covered.count_if(
            lines.iter().any(|l| matches!(l, Line::Prefix(_))),
            "list uploads",
            "a common prefix",
        );
        match lines.last().filter(|_| more)? {
            Line::Prefix(prefix) => Some((prefix.clone(), None)),
            Line::Under(key, (n, _)) => Some((key.clone(), Some(*n))),
        }
    }
}
