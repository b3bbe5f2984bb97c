//! What listings share: continuation tokens, and names as the client wants them written.

use crate::error::{Code, Error};
use crate::xml::{XmlWriter, url_encode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use crc_fast::{CrcAlgorithm, checksum};

/// A continuation token: where the next page begins, opaque to clients.
///
/// ```text
/// base64url( 0x01 · crc32c of the name (4, big-endian) · the last name of this page )
/// ```
/// The crc tells a token of ours from a key that someone put there; it is no secret and guards nothing.
pub(crate) struct Token;

const FORMAT_VERSION: u8 = 1;

impl Token {
    /// The token of a page that ended with `name`.
    pub(crate) fn seal(name: &str) -> String {
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, name.as_bytes()) as u32;
        let mut raw = vec![FORMAT_VERSION];
        raw.extend_from_slice(&crc.to_be_bytes());
        raw.extend_from_slice(name.as_bytes());
        BASE64.encode(raw)
    }

    /// The name in it.
    ///
    /// # Errors
    /// InvalidArgument for what is not a token of ours.
    pub(crate) fn open(token: &str) -> Result<String, Error> {
        let name = BASE64.decode(token).ok().and_then(|raw| {
            let (&FORMAT_VERSION, rest) = raw.split_first()? else {
                return None;
            };
            let (crc, name) = rest.split_first_chunk::<4>()?;
            let fits = u32::from_be_bytes(*crc) == checksum(CrcAlgorithm::Crc32Iscsi, name) as u32;
            if fits {
                String::from_utf8(name.to_vec()).ok()
            } else {
                None
            }
        });
        name.ok_or_else(|| {
            Error::with(
                Code::InvalidArgument,
                "The continuation token provided is incorrect",
            )
            .field("ArgumentName", "continuation-token")
        })
    }
}

/// Writes names as the client asked: as they are, or url-encoded.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) url: bool,
}

impl Names {
    /// An element that holds a name.
    pub(crate) fn write(self, x: &mut XmlWriter, element: &str, name: &str) {
        if self.url {
            x.text(element, &url_encode(name));
        } else {
            x.text(element, name);
        }
    }

    /// The same, left out when empty.
    pub(crate) fn write_some(self, x: &mut XmlWriter, element: &str, name: &str) {
        if !name.is_empty() {
            self.write(x, element, name);
        }
    }

    /// `<CommonPrefixes>`.
    pub(crate) fn common_prefix(self, x: &mut XmlWriter, prefix: &str) {
        x.open("CommonPrefixes");
        self.write(x, "Prefix", prefix);
        x.close("CommonPrefixes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_open_to_what_was_sealed() {
        for name in ["", "a", "a/b", "\0\u{1}", "🪨", &"k".repeat(1024)] {
            assert_eq!(Token::open(&Token::seal(name)).as_deref(), Ok(name));
        }
        let mut changed = Token::seal("photos/1").into_bytes();
        changed[9] = if changed[9] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        for bad in ["", "photos/1", "AQ", "AgAAAAA", "ÿ", changed.as_str()] {
            assert_eq!(
                Token::open(bad).unwrap_err().code(),
                Code::InvalidArgument,
                "{bad}"
            );
        }
    }
}
