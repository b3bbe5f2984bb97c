//! Pages of listings, by their definitions in S3's documentation: everything is looked at, every time.

use crate::model::{Bucket, Stage, Upload, Version};

/// What a page is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub prefix: String,
    pub delimiter: String,
    pub max: u32,
}

/// A line: something under a key, or the common prefix of several keys.
#[derive(Clone, Debug)]
pub(crate) enum Line<T> {
    Under(String, T),
    Prefix(String),
}

impl Asked {
    /// Of everything.
    pub(crate) fn all(max: u32) -> Self {
        Self {
            prefix: String::new(),
            delimiter: String::new(),
            max,
        }
    }

    /// What the key is rolled up into: up to the first delimiter past the prefix.
    pub(crate) fn common_prefix(&self, key: &str) -> Option<String> {
        if self.delimiter.is_empty() {
            return None;
        }
        let rest = key.strip_prefix(&self.prefix)?;
        let at = rest.find(&self.delimiter)?;
        Some(format!("{}{}{}", self.prefix, &rest[..at], self.delimiter))
    }

    /// The page after `after`, and whether there is more. A common prefix that is not greater than `after` is left out, so a page
    /// that ended with one is followed by what is past all of its keys. `is_after` decides for what has the very key.
    fn page<T>(
        &self,
        all: impl Iterator<Item = (String, T)>,
        after: &str,
        is_after: impl Fn(&T) -> bool,
    ) -> (Vec<Line<T>>, bool) {
        let mut lines: Vec<Line<T>> = Vec::new();
        for (key, what) in all {
            if !key.starts_with(&self.prefix) || key.as_str() < after {
                continue;
            }
            let common = self.common_prefix(&key);
            if common.as_deref().is_some_and(|common| common <= after) {
                continue;
            }
            if key == after && !is_after(&what) {
                continue;
            }
            match (common, lines.last()) {
                (Some(common), Some(Line::Prefix(last))) if *last == common => {}
                (Some(common), _) => lines.push(Line::Prefix(common)),
                (None, _) => lines.push(Line::Under(key, what)),
            }
        }
        let more = self.max > 0 && lines.len() > self.max as usize;
        lines.truncate(self.max as usize);
        (lines, more)
    }

    /// Objects after a key or common prefix.
    pub(crate) fn objects<'b>(&self, bucket: &'b Bucket, after: &str) -> (Vec<Line<&'b Version>>, bool) {
        let keys = bucket.keys.keys();
        let all = keys.filter_map(|key| Some((key.clone(), bucket.current(key)?)));
        self.page(all, after, |_| false)
    }

    /// Versions, with whether they are their key's newest; after a key, or those of it that are older than a version, which may
    /// be gone.
    pub(crate) fn versions<'b>(
        &self,
        bucket: &'b Bucket,
        (after, version): (&str, Option<u128>),
    ) -> (Vec<Line<(&'b Version, bool)>>, bool) {
        let all = bucket.keys.iter().flat_map(|(key, all)| {
            let newest = |at: usize| at == 0;
            all.iter()
                .enumerate()
                .map(move |(at, v)| (key.clone(), (v, newest(at))))
        });
        let born = |id: u128| bucket.born.get(&id).copied();
        let past = version.and_then(born);
        let is_after =
            |(v, _): &(&Version, bool)| past.is_some_and(|past| born(v.id).is_some_and(|at| at < past));
        self.page(all, after, is_after)
    }

    /// Uploads under way; after a key, or after the upload of it that began as the `nth` of the bucket.
    pub(crate) fn uploads<'b>(
        &self,
        bucket: &'b Bucket,
        (after, nth): (&str, Option<usize>),
    ) -> (Vec<Line<(usize, &'b Upload)>>, bool) {
        let mut all: Vec<(String, (usize, &Upload))> = (bucket.uploads.iter().enumerate())
            .filter(|(_, u)| u.stage == Stage::Open)
            .map(|(n, u)| (u.key.clone(), (n, u)))
            .collect();
        all.sort_by(|a, b| (&a.0, a.1.0).cmp(&(&b.0, b.1.0)));
        self.page(all.into_iter(), after, |(n, _)| nth.is_some_and(|nth| *n > nth))
    }
}

impl<T> Line<T> {
    /// What the next page begins after.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Under(name, _) | Self::Prefix(name) => name,
        }
    }
}
