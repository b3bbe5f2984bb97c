//! ListMultipartUploads.

use super::list_parts::promised;
use crate::error::Error;
use crate::listing::Names;
use crate::owner;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::service::Service;
use crate::xml::XmlWriter;
use objects::ListUploads;
use types::{AccountId, UploadId, limits};
use wire::index::{UploadsEntry, UploadsPage};
use wire::records::UploadRecord;

pub(super) async fn run(service: &Service, request: Request) -> Result<Reply, Error> {
    let query = &request.query;
    let names = Names {
        url: query.url_encoding()?,
    };
    let max = query.number("max-uploads", limits::LIST_KEYS_MAX, limits::LIST_KEYS_MAX)?;
    let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
    let asked = ListUploads {
        bucket: request.bucket().clone(),
        prefix: text("prefix"),
        delimiter: text("delimiter"),
        after: after(query)?,
        max,
    };
    let page = if max == 0 {
        service
            .objects
            .head_bucket(&request.caller, request.bucket())
            .await?;
        UploadsPage::default()
    } else {
        service
            .objects
            .list_uploads(&request.caller, asked.clone())
            .await?
    };
    request.paged.rows(page.bytes());

    let mut x = XmlWriter::document();
    x.root("ListMultipartUploadsResult");
    x.text("Bucket", request.bucket().as_str());
    names.write(&mut x, "KeyMarker", &asked.after.0);
    x.text("UploadIdMarker", &text("upload-id-marker"));
    if page.truncated {
        next(&mut x, names, &page);
    }
    names.write(&mut x, "Prefix", &asked.prefix);
    names.write_some(&mut x, "Delimiter", &asked.delimiter);
    if names.url {
        x.text("EncodingType", "url");
    }
    x.value("MaxUploads", max);
    x.value("IsTruncated", page.truncated);
    for entry in &page.entries {
        if let UploadsEntry::Upload { key, record } = entry {
            upload(&mut x, names, key, record);
        }
    }
    for entry in &page.entries {
        if let UploadsEntry::Prefix(prefix) = entry {
            names.common_prefix(&mut x, prefix);
        }
    }
    x.close("ListMultipartUploadsResult");
    Ok(reply::xml(x.finish()))
}

/// Where the page begins. An upload id without a key is ignored, as S3 does.
fn after(query: &Query) -> Result<(String, Option<UploadId>), Error> {
    let key = query.get("key-marker").unwrap_or_default().to_owned();
    let upload = match query
        .get("upload-id-marker")
        .filter(|m| !m.is_empty() && !key.is_empty())
    {
        None => None,
        Some(marker) => Some(
            UploadId::parse(marker)
                .ok_or_else(|| Error::argument("upload-id-marker", marker, "Invalid uploadId marker"))?,
        ),
    };
    Ok((key, upload))
}

fn next(x: &mut XmlWriter, names: Names, page: &UploadsPage) {
    match page.entries.last() {
        None => {}
        Some(UploadsEntry::Upload { key, record }) => {
            names.write(x, "NextKeyMarker", key);
            x.text("NextUploadIdMarker", &upload_id(record));
        }
        Some(UploadsEntry::Prefix(prefix)) => {
            names.write(x, "NextKeyMarker", prefix);
            x.text("NextUploadIdMarker", "");
        }
    }
}

fn upload_id(record: &UploadRecord) -> String {
    UploadId::from_slice(&record.upload)
        .unwrap_or_default()
        .to_string()
}

fn upload(x: &mut XmlWriter, names: Names, key: &str, record: &UploadRecord) {
    x.open("Upload");
    names.write(x, "Key", key);
    x.text("UploadId", &upload_id(record));
    owner::write(x, "Initiator", AccountId(record.owner));
    owner::write(x, "Owner", AccountId(record.owner));
    x.text("StorageClass", "STANDARD");
    x.time("Initiated", record.initiated_ms);
    promised(x, record);
    x.close("Upload");
}
