//! Heads of signed requests, made of few allocations: a load generator that takes the processor from the server it measures measures itself.

use crate::plan::Credentials;
use auth::{ALGORITHM, SERVICE, Signature, SigningKey, TERMINAL};
use aws_lc_rs::digest;
use std::fmt::Write as _;
use time::OffsetDateTime;
use time::macros::format_description;

/// A request but for its body.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'static str,
    /// Encoded.
    pub(crate) path: &'a str,
    /// Encoded, its names ascending.
    pub(crate) query: &'a str,
    /// What `x-amz-content-sha256` says.
    pub(crate) sha256: &'a str,
    /// Bytes that follow the head.
    pub(crate) length: usize,
    /// `x-amz-` headers behind `x-amz-date`, ascending; they are signed.
    pub(crate) amz: &'a [(&'static str, &'a str)],
    /// Headers that are not signed, each line with its end.
    pub(crate) unsigned: &'a str,
}

/// Signs for one client.
pub(crate) struct Signer {
    credentials: Credentials,
    authority: String,
    /// The second that `date` tells.
    second: i64,
    date: String,
    scope: String,
    key: SigningKey,
    canonical: String,
}

/// What signs the frames of a body.
pub(crate) struct FrameSigner<'a> {
    signer: &'a Signer,
    previous: Signature,
}

impl Signer {
    pub(crate) fn new(credentials: &Credentials, authority: String) -> Self {
        Self {
            credentials: credentials.clone(),
            authority,
            second: i64::MIN,
            date: String::new(),
            scope: String::new(),
            key: SigningKey::derive("", "", ""),
            canonical: String::new(),
        }
    }

    fn tell_time(&mut self) {
        let now = OffsetDateTime::now_utc();
        if now.unix_timestamp() == self.second {
            return;
        }
        self.second = now.unix_timestamp();
        let day = self.date.get(..8).unwrap_or_default().to_owned();
        self.date = now
            .format(format_description!("[year][month][day]T[hour][minute][second]Z"))
            .expect("the years of a clock have four digits");
        if self.date[..8] != *day {
            let c = &self.credentials;
            let today = &self.date[..8];
            self.key = SigningKey::derive(&c.secret_key, today, &c.region);
            self.scope = format!("{today}/{}/{SERVICE}/{TERMINAL}", c.region);
        }
    }

    /// Writes the head of `ask` behind `out`; what signs its frames.
    pub(crate) fn head(&mut self, ask: &Ask<'_>, out: &mut Vec<u8>) -> FrameSigner<'_> {
        self.tell_time();
        let mut canonical = std::mem::take(&mut self.canonical);
        canonical.clear();
        let Self {
            authority,
            date,
            scope,
            ..
        } = &*self;
        const INFALLIBLE: &str = "a String takes what it is given";
        write!(
            canonical,
            "{}\n{}\n{}\nhost:{authority}\nx-amz-content-sha256:{}\nx-amz-date:{date}\n",
            ask.method, ask.path, ask.query, ask.sha256
        )
        .expect(INFALLIBLE);
        for (name, value) in ask.amz {
            writeln!(canonical, "{name}:{value}").expect(INFALLIBLE);
        }
        canonical.push_str("\nhost;x-amz-content-sha256;x-amz-date");
        let names = canonical.len() - "host;x-amz-content-sha256;x-amz-date".len();
        for (name, _) in ask.amz {
            write!(canonical, ";{name}").expect(INFALLIBLE);
        }
        let names = names..canonical.len();
        write!(canonical, "\n{}", ask.sha256).expect(INFALLIBLE);
        let hash = hex::encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let signature = self
            .key
            .sign(format!("{ALGORITHM}\n{date}\n{scope}\n{hash}").as_bytes());
        let question = if ask.query.is_empty() { "" } else { "?" };
        let mut head = format!(
            "{} {}{question}{} HTTP/1.1\r\nhost: {authority}\r\nx-amz-date: {date}\r\nx-amz-content-sha256: {}\r\n\
             authorization: {ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}\r\ncontent-length: {}\r\n{}",
            ask.method,
            ask.path,
            ask.query,
            ask.sha256,
            self.credentials.access_key,
            &canonical[names],
            signature.as_str(),
            ask.length,
            ask.unsigned,
        );
        for (name, value) in ask.amz {
            write!(head, "{name}: {value}\r\n").expect(INFALLIBLE);
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        self.canonical = canonical;
        FrameSigner {
            signer: self,
            previous: signature,
        }
    }
}

impl FrameSigner<'_> {
    /// The signature of the next frame, whose bytes have this SHA-256.
    pub(crate) fn frame(&mut self, sha256: &[u8]) -> &Signature {
        const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = format!(
            "{ALGORITHM}-PAYLOAD\n{}\n{}\n{}\n{EMPTY}\n{}",
            self.signer.date,
            self.signer.scope,
            self.previous.as_str(),
            hex::encode(sha256)
        );
        self.previous = self.signer.key.sign(text.as_bytes());
        &self.previous
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::{AccessKey, AccessKeyId, SecretKey};

    fn credentials() -> Credentials {
        Credentials {
            access_key: "key".into(),
            secret_key: "secret".into(),
            region: "us-east-1".into(),
        }
    }

    // What the room `auth` signs, which is held against S3's own examples there.
    #[test]
    fn signs_as_the_signer_of_requests_does() {
        let mut signer = Signer::new(&credentials(), "localhost:9000".into());
        let ask = Ask {
            method: "PUT",
            path: "/bucket/a-key",
            query: "partNumber=1&uploadId=x",
            sha256: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            length: 7,
            amz: &[("x-amz-decoded-content-length", "5")],
            unsigned: "content-encoding: aws-chunked\r\n",
        };
        let mut head = Vec::new();
        let ours = signer.head(&ask, &mut head).frame(&[7; 32]).clone();
        let head = String::from_utf8(head).expect("text");

        let (mut parts, ()) = http::Request::put("/bucket/a-key?partNumber=1&uploadId=x")
            .header("host", "localhost:9000")
            .header("x-amz-decoded-content-length", "5")
            .body(())
            .expect("a request")
            .into_parts();
        let key = AccessKey {
            id: AccessKeyId("key".into()),
            secret: SecretKey("secret".into()),
            account: types::AccountId::ROOT,
        };
        let now_ms = u64::try_from(signer.second).expect("after 1970") * 1000;
        let mut theirs =
            auth::signer::sign(&mut parts, &key, "us-east-1", now_ms, ask.sha256).expect("signed");
        let authorization = parts.headers["authorization"].to_str().expect("text");
        assert!(head.contains(authorization), "{head}\n{authorization}");
        assert_eq!(ours.as_str(), theirs.frame(&[7; 32]).as_str());
        assert!(
            head.ends_with("content-encoding: aws-chunked\r\nx-amz-decoded-content-length: 5\r\n\r\n"),
            "{head}"
        );
    }
}
