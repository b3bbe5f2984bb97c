//! ListObjects and ListObjectsV2: one page of keys and common prefixes. The two differ in how a page names the next.

use crate::checksum;
use crate::error::Error;
use crate::listing::{Names, Token};
use crate::owner;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::{XmlWriter, is_xml_text};
use objects::{ListObjects, ObjectsError};
use types::{AccountId, ChecksumAlgorithm, limits};
use wire::index::{ListEntry, ListPage, Listed};

/// What a key takes in the document beside its name, with a checksum and no owner.
const LINE_BYTES: usize = 320;

/// What both versions are asked.
struct Asked {
    prefix: String,
    delimiter: String,
    max: u32,
    names: Names,
}

impl Asked {
    fn read(query: &Query) -> Result<Self, Error> {
        Ok(Self {
            prefix: query.get("prefix").unwrap_or_default().to_owned(),
            delimiter: query.get("delimiter").unwrap_or_default().to_owned(),
            max: query.number("max-keys", limits::LIST_KEYS_MAX, limits::LIST_KEYS_MAX)?,
            names: Names {
                url: query.url_encoding()?,
            },
        })
    }

    /// The page after `after`. None of no keys: the bucket must be there all the same.
    async fn page(&self, service: &Service, request: &Request, after: String) -> Result<ListPage, Error> {
        if self.max == 0 {
            service
                .objects
                .head_bucket(&request.caller, request.bucket())
                .await?;
            return Ok(ListPage::default());
        }
        let query = ListObjects {
            bucket: request.bucket().clone(),
            prefix: self.prefix.clone(),
            delimiter: self.delimiter.clone(),
            after,
            max: self.max,
        };
        let page = service.objects.list(&request.caller, query).await?;
        request.paged.rows(page.bytes());
        Ok(page)
    }

    /// What both versions' documents begin with.
    fn begin(&self, x: &mut XmlWriter, request: &Request, prefix_names: Names) {
        x.root("ListBucketResult");
        x.text("Name", request.bucket().as_str());
        prefix_names.write(x, "Prefix", &self.prefix);
    }

    /// And how they go on.
    fn finish(&self, mut x: XmlWriter, page: &ListPage, with_owner: bool) -> Result<Reply, Error> {
        x.value("MaxKeys", self.max);
        self.names.write_some(&mut x, "Delimiter", &self.delimiter);
        if self.names.url {
            x.text("EncodingType", "url");
        }
        x.value("IsTruncated", page.truncated);
        let names = page.entries.iter().map(|e| name_of(e).len());
        x.reserve(names.map(|n| n + LINE_BYTES).sum());
        for entry in &page.entries {
            if let ListEntry::Object { key, record } = entry {
                let record = Listed::of(key, record).map_err(ObjectsError::from)?;
                contents(&mut x, self.names, (key, &record), with_owner);
            }
        }
        for entry in &page.entries {
            if let ListEntry::Prefix(prefix) = entry {
                self.names.common_prefix(&mut x, prefix);
            }
        }
        x.close("ListBucketResult");
        Ok(reply::xml(x.finish()))
    }
}

fn contents(x: &mut XmlWriter, names: Names, (key, record): (&str, &Listed<'_>), with_owner: bool) {
    x.open("Contents");
    names.write(x, "Key", key);
    x.time("LastModified", record.modified_ms);
    x.etag(record.etag_md5, record.etag_parts);
    checksums(x, record.checksum_kind, record.algorithms.iter().copied());
    x.number("Size", record.size);
    if with_owner {
        owner::write(x, "Owner", AccountId(record.owner));
    }
    x.markup("<StorageClass>STANDARD</StorageClass></Contents>");
}

/// Which checksums an object has.
pub(super) fn checksums(x: &mut XmlWriter, kind: u32, algorithms: impl Iterator<Item = u32>) {
    let mut has_some = false;
    for number in algorithms {
        has_some = true;
        if let Some(algorithm) = ChecksumAlgorithm::from_number(number) {
            x.text("ChecksumAlgorithm", algorithm.name());
        }
    }
    if has_some {
        x.text("ChecksumType", checksum::kind_name(checksum::kind_of(kind)));
    }
}

fn last_name(page: &ListPage) -> Option<&str> {
    page.entries.last().map(name_of)
}

fn name_of(entry: &ListEntry) -> &str {
    match entry {
        ListEntry::Object { key, .. } => key,
        ListEntry::Prefix(prefix) => prefix,
    }
}

pub(super) async fn v1(service: &Service, request: Request) -> Result<Reply, Error> {
    let asked = Asked::read(&request.query)?;
    let marker = request.query.get("marker").unwrap_or_default().to_owned();
    let page = asked.page(service, &request, marker.clone()).await?;
    let mut x = XmlWriter::document();
    // Clients of the first version do not decode the prefix, so it comes as it is where XML can carry it.
    let url = asked.names.url && !is_xml_text(&asked.prefix);
    asked.begin(&mut x, &request, Names { url });
    asked.names.write(&mut x, "Marker", &marker);
    // Without a delimiter clients go on from the last key; with one, that may be a common prefix.
    if let (true, false, Some(last)) = (page.truncated, asked.delimiter.is_empty(), last_name(&page)) {
        asked.names.write(&mut x, "NextMarker", last);
    }
    asked.finish(x, &page, true)
}

pub(super) async fn v2(service: &Service, request: Request) -> Result<Reply, Error> {
    let query = &request.query;
    if query.get("list-type") != Some("2") {
        let value = query.get("list-type").unwrap_or_default();
        return Err(Error::argument(
            "list-type",
            value,
            "Invalid List Type specified in Request",
        ));
    }
    let asked = Asked::read(query)?;
    let start = query.get("start-after").unwrap_or_default();
    let token = query.get("continuation-token");
    let after = match token {
        Some(token) if !token.is_empty() => Token::open(token)?,
        _ => start.to_owned(),
    };
    let with_owner = query
        .get("fetch-owner")
        .is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let page = asked.page(service, &request, after).await?;
    let mut x = XmlWriter::document();
    asked.begin(&mut x, &request, asked.names);
    if let Some(token) = token {
        x.text("ContinuationToken", token);
    }
    if let (true, Some(last)) = (page.truncated, last_name(&page)) {
        x.text("NextContinuationToken", &Token::seal(last));
    }
    asked.names.write_some(&mut x, "StartAfter", start);
    x.value("KeyCount", page.entries.len());
    asked.finish(x, &page, with_owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use types::ErrorKind;
    use wire::records::{Checksum, ObjectRecord, Pair};

    fn asked() -> Asked {
        Asked {
            prefix: String::new(),
            delimiter: String::new(),
            max: 1000,
            names: Names { url: false },
        }
    }

    fn record() -> ObjectRecord {
        ObjectRecord {
            size: 5,
            etag_md5: vec![0xab; 16],
            etag_parts: 3,
            modified_ms: 1_255_369_830_007,
            owner: AccountId::ROOT.0,
            checksum_kind: 2,
            checksums: vec![Checksum {
                algorithm: 1,
                value: vec![1; 4],
            }],
            version: vec![7; 16],
            metadata: vec![Pair {
                name: "a".into(),
                value: "not listed".into(),
            }],
            ..ObjectRecord::default()
        }
    }

    #[test]
    fn a_line_shows_what_the_record_says() {
        let (mut listed_only, mut whole) = (XmlWriter::document(), XmlWriter::document());
        let ListEntry::Object { key, record: bytes } = ListEntry::object("k".into(), &record()) else {
            panic!("an object");
        };
        let read = Listed::of(&key, &bytes).expect("a record");
        contents(&mut listed_only, Names { url: false }, (&key, &read), true);
        let (name, of) = (Names { url: false }, record());
        whole.open("Contents");
        name.write(&mut whole, "Key", "k");
        whole.text("LastModified", &reply::iso_time(of.modified_ms));
        whole.text("ETag", &reply::quoted(&of.etag_md5, of.etag_parts));
        checksums(&mut whole, of.checksum_kind, [1].into_iter());
        whole.value("Size", of.size);
        owner::write(&mut whole, "Owner", AccountId(of.owner));
        whole.text("StorageClass", "STANDARD");
        whole.close("Contents");
        assert_eq!(listed_only.finish(), whole.finish());
    }

    /// I5: a record that cannot be read is told with its key, even where what is wrong with it is not listed; the page is not answered without it.
    #[test]
    fn a_record_that_is_none_makes_no_shorter_page() {
        let ListEntry::Object { key, record } = ListEntry::object("bad/one".into(), &record()) else {
            panic!("an object");
        };
        let record = record.slice(..record.len() - 1);
        let fault = Listed::of(&key, &record).expect_err("it is cut");
        assert_eq!(fault.kind, ErrorKind::Corrupt);
        assert!(fault.to_string().contains("bad/one"), "{fault}");
        let page = ListPage {
            entries: vec![ListEntry::Object { key, record }],
            truncated: false,
        };
        let answer = asked().finish(XmlWriter::document(), &page, true);
        assert_eq!(answer.err().map(|e| e.code()), Some(Code::InternalError));
    }
}
