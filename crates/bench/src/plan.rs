//! What is to be run.

use crate::endpoint::Endpoint;
use serde::Serialize;
use std::time::Duration;

/// What each request, or each round of requests, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A new object.
    Put,
    /// A whole object that is there.
    Get,
    /// The head of one that is there.
    Head,
    /// The first page of a listing.
    List,
    /// An object that is there. They are put in between, while the clock stands.
    Delete,
    /// 70 gets, 20 puts, 5 heads, 5 deletes of what it put.
    Mixed,
    /// A whole upload: created, its parts one after another, completed.
    Multipart,
}

/// What the signature says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payload {
    /// `UNSIGNED-PAYLOAD`
    Unsigned,
    /// The body's SHA-256, which is known before the clock runs but for the last block.
    Signed,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`: frames of 64 KiB, each signed.
    Streaming,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: frames of 1 MiB and a CRC-32 behind them, as today's SDKs send.
    Trailer,
}

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    /// The access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// The region that requests are signed for.
    pub region: String,
}

/// One run.
pub struct Plan {
    /// Who is asked.
    pub endpoint: Endpoint,
    /// Who asks.
    pub credentials: Credentials,
    /// What.
    pub operation: Operation,
    /// Made if it is not there.
    pub bucket: String,
    /// Bytes of an object.
    pub size: usize,
    /// Bytes of a part, where there are parts.
    pub part_size: usize,
    /// Connections, each with a thread.
    pub connections: usize,
    /// How long the clock runs.
    pub duration: Duration,
    /// How long it is loaded before the clock runs.
    pub warm_up: Duration,
    /// What signatures say of bodies.
    pub payload: Payload,
    /// Objects that reads choose from, and a listing lists.
    pub objects: usize,
    /// The server, where it runs on this machine.
    pub server: Option<u32>,
    /// Whether what was put stays.
    pub keep: bool,
    /// Whether to tell each second how it goes.
    pub progress: bool,
}

impl Operation {
    /// Whether it reads objects that must be there first.
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::List | Self::Mixed)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Mixed => "mixed",
            Self::Multipart => "multipart",
        }
    }
}

impl Payload {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Signed => "signed",
            Self::Streaming => "streaming",
            Self::Trailer => "trailer",
        }
    }
}
