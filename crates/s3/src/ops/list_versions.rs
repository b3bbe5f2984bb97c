//! ListObjectVersions: versions and delete markers, keys in order, newest first within each.

use super::list_objects::checksums;
use crate::error::Error;
use crate::listing::Names;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use crate::{owner, version};
use objects::ListVersions;
use types::{AccountId, VersionId, limits};
use wire::index::{VersionRef, VersionsEntry, VersionsPage};
use wire::records::ObjectRecord;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let query = &request.query;
    let names = Names {
        url: query.url_encoding()?,
    };
    let max = query.number("max-keys", limits::LIST_KEYS_MAX, limits::LIST_KEYS_MAX)?;
    let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
    let asked = ListVersions {
        bucket: request.bucket().clone(),
        prefix: text("prefix"),
        delimiter: text("delimiter"),
        after: after(query)?,
        max,
    };
    // Of none too the bucket must be there.
    let page = service
        .objects
        .list_versions(&request.caller, asked.clone())
        .await?;
    request.paged.rows(page.bytes());

    let mut x = XmlWriter::document();
    x.root("ListVersionsResult");
    x.text("Name", request.bucket().as_str());
    names.write(&mut x, "Prefix", &asked.prefix);
    names.write(&mut x, "KeyMarker", &asked.after.0);
    x.text("VersionIdMarker", &text("version-id-marker"));
    if page.truncated {
        next(&mut x, names, &page);
    }
    x.value("MaxKeys", max);
    names.write_some(&mut x, "Delimiter", &asked.delimiter);
    if names.url {
        x.text("EncodingType", "url");
    }
    x.value("IsTruncated", page.truncated);
    for entry in &page.entries {
        if let VersionsEntry::Version {
            key,
            record,
            is_latest,
        } = entry
        {
            one(&mut x, names, (key, record), *is_latest);
        }
    }
    for entry in &page.entries {
        if let VersionsEntry::Prefix(prefix) = entry {
            names.common_prefix(&mut x, prefix);
        }
    }
    x.close("ListVersionsResult");
    Ok(reply::xml(x.finish()))
}

/// Where the page begins.
fn after(query: &Query) -> Result<(String, Option<VersionRef>), Error> {
    let key = query.get("key-marker").unwrap_or_default().to_owned();
    let Some(marker) = query.get("version-id-marker") else {
        return Ok((key, None));
    };
    let refused = |message: &'static str| Err(Error::argument("version-id-marker", marker, message));
    if marker.is_empty() {
        return refused("A version-id marker cannot be empty.");
    }
    if key.is_empty() {
        return refused("A version-id marker cannot be specified without a key marker.");
    }
    Ok((key, Some(version::parse("version-id-marker", marker)?)))
}

/// Where the next page begins. A null version is named by its place among the others, which stays when it is gone.
fn next(x: &mut XmlWriter, names: Names, page: &VersionsPage) {
    match page.entries.last() {
        Some(VersionsEntry::Version { key, record, .. }) => {
            names.write(x, "NextKeyMarker", key);
            if let Some(id) = VersionId::from_slice(&record.version) {
                x.text("NextVersionIdMarker", &id.to_string());
            }
        }
        Some(VersionsEntry::Prefix(prefix)) => names.write(x, "NextKeyMarker", prefix),
        None => {}
    }
}

fn one(x: &mut XmlWriter, names: Names, (key, record): (&str, &ObjectRecord), is_latest: bool) {
    let element = if record.delete_marker {
        "DeleteMarker"
    } else {
        "Version"
    };
    x.open(element);
    names.write(x, "Key", key);
    x.text("VersionId", &version::of(record));
    x.value("IsLatest", is_latest);
    x.time("LastModified", record.modified_ms);
    if !record.delete_marker {
        x.etag(&record.etag_md5, record.etag_parts);
        checksums(
            x,
            record.checksum_kind,
            record.checksums.iter().map(|sum| sum.algorithm),
        );
        x.value("Size", record.size);
    }
    owner::write(x, "Owner", AccountId(record.owner));
    if !record.delete_marker {
        x.text("StorageClass", "STANDARD");
    }
    x.close(element);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn markers() {
        let id = "0123456789abcdef0123456789abcdef";
        let of = |q: &str| after(&Query::parse(q).unwrap()).map_err(|e| e.code());
        assert_eq!(of(""), Ok((String::new(), None)));
        assert_eq!(of("key-marker=k"), Ok(("k".to_owned(), None)));
        assert_eq!(
            of("key-marker=k&version-id-marker=null"),
            Ok(("k".to_owned(), Some(VersionRef::Null)))
        );
        assert!(matches!(
            of(&format!("key-marker=k&version-id-marker={id}")),
            Ok((_, Some(VersionRef::Id(_))))
        ));
        for bad in [
            "version-id-marker=null",
            "key-marker=&version-id-marker=null",
            "key-marker=k&version-id-marker=",
            "key-marker=k&version-id-marker=x",
        ] {
            assert_eq!(of(bad), Err(Code::InvalidArgument), "{bad}");
        }
    }
}
