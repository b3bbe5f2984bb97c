//! XML as S3 clients send and read it: documents of elements and text, nothing else.

#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod read;
mod write;

pub(crate) use read::{Element, is_xml_text};
pub(crate) use write::{XmlWriter, url_encode};

/// What every document begins with.
pub(crate) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// S3's namespace, on the root of every answer but errors.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
