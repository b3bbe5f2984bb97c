//! Request documents: what is read is bounded by what was sent, and reads back when it is written.

use super::XmlWriter;
use super::read::{DEPTH_MAX, Element, parse};
use crate::{acl, ops, tags};
use types::AccountId;
use types::limits::BUCKET_TAGS_MAX;

/// A document.
pub fn xml(data: &[u8]) {
    ops::fuzz::documents(data);
    let _acl = acl::from_document(data, AccountId::ROOT);
    if let Ok(tags) = tags::from_document(data, BUCKET_TAGS_MAX, "Bucket") {
        let written = tags::to_document(&tags);
        assert_eq!(
            tags::from_document(written.as_bytes(), BUCKET_TAGS_MAX, "Bucket"),
            Ok(tags)
        );
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(root) = parse(text) else { return };
    assert!(depth(&root) <= DEPTH_MAX);
    assert!(bytes(&root) <= text.len(), "it grew as it was read");
    if is_plain(&root) {
        let mut out = XmlWriter::document();
        write(&root, &mut out);
        let written = out.finish();
        assert_eq!(parse(&written).ok().as_ref(), Some(&root), "written as {written}");
    }
}

/// Documents of every kind.
pub fn xml_seeds() -> Vec<Vec<u8>> {
    [
        "<?xml version=\"1.0\"?>\n<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b&#x1;&#13;&#0;<![CDATA[<raw>]]></Key>\
         <VersionId>null</VersionId><ETag>*</ETag><Size>5</Size></Object><!-- x --><Quiet>true</Quiet></Delete>",
        "<CompleteMultipartUpload><Part><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><PartNumber>1</PartNumber>\
         <ChecksumCRC32>AAAAAQ==</ChecksumCRC32></Part></CompleteMultipartUpload>",
        "<s3:Tagging xmlns:s3=\"x\"><TagSet><Tag><Key>k</Key><Value>v w</Value></Tag></TagSet></s3:Tagging>",
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        "<CORSConfiguration><CORSRule><ID>i</ID><AllowedOrigin>http://*.a</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
         <AllowedHeader>x-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>9</MaxAgeSeconds></CORSRule></CORSConfiguration>",
        "<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>",
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>",
        "<AccessControlPolicy><Owner><ID>1</ID></Owner><AccessControlList><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:type=\"CanonicalUser\"><ID>1</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>",
        "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
        "<a><b>\r\n\u{85}\u{2028}</b><b/></a>",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

fn depth(element: &Element) -> usize {
    1 + element
        .children()
        .map(|(_, child)| depth(child))
        .max()
        .unwrap_or(0)
}

fn bytes(element: &Element) -> usize {
    let below: usize = element.children().map(|(_, child)| bytes(child)).sum();
    element.name().len() + element.text().len() + below
}

/// Whether its names are ones that XML has: readers take others too, which cannot be written.
fn is_plain(element: &Element) -> bool {
    let name = element.name();
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
    plain && element.children().all(|(_, child)| is_plain(child))
}

fn write(element: &Element, out: &mut XmlWriter) {
    out.open(element.name());
    out.content(element.text());
    for (_, child) in element.children() {
        write(child, out);
    }
    out.close(element.name());
}
