//! What a request says of its own signature, in the `Authorization` header or in the query, before any of it is believed.

use crate::error::{AuthError, Denial};
use crate::keys::AccessKeyId;
use crate::moment::SignedAt;
use crate::uri::QueryPair;
use crate::{ALGORITHM, SERVICE, TERMINAL};
use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE, HeaderName};
use std::collections::BTreeSet;

const CREDENTIAL_FORM: &str = "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request";

/// Who claims to have signed what, and when.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) access_key: AccessKeyId,
    pub(crate) at: SignedAt,
    /// In the order given; no name twice.
    pub(crate) signed: Vec<HeaderName>,
    pub(crate) signature: String,
    /// For a presigned request: for how long.
    pub(crate) expires_seconds: Option<u64>,
}

/// Where the claim stands decides which error tells of its faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Header,
    Query,
}

impl Place {
    fn malformed(self, message: impl Into<String>) -> AuthError {
        self.wrong_region(message, None)
    }

    fn wrong_region(self, message: impl Into<String>, region: Option<String>) -> AuthError {
        let message = message.into();
        match self {
            Self::Header => AuthError::AuthorizationHeaderMalformed { message, region },
            Self::Query => AuthError::AuthorizationQueryParametersError { message, region },
        }
    }
}

impl Claim {
    /// Reads the claim, wherever it stands.
    ///
    /// # Errors
    /// There is none, there are two, it is of another scheme, or it is malformed.
    pub(crate) fn read(headers: &HeaderMap, query: &[QueryPair], region: &str) -> Result<Self, AuthError> {
        let has = |name: &str| query.iter().any(|p| p.name == name.as_bytes());
        let in_query = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"]
            .into_iter()
            .any(has);
        let in_query_v2 = ["AWSAccessKeyId", "Signature"].into_iter().any(has);
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        match (authorizations.next(), in_query) {
            (Some(first), in_query) => {
                if in_query || in_query_v2 || authorizations.next().is_some() {
                    return Err(two_mechanisms(first.as_bytes()));
                }
                Self::from_header(first.as_bytes(), headers, region)
            }
            (None, true) => Self::from_query(query, region),
            (None, false) if in_query_v2 => Err(other_mechanism("SigV2")),
            (None, false) => Err(Denial::Anonymous.into()),
        }
    }

    fn from_header(value: &[u8], headers: &HeaderMap, region: &str) -> Result<Self, AuthError> {
        let place = Place::Header;
        let text = std::str::from_utf8(value).map_err(|_| place.malformed("it is not text."))?;
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        match scheme {
            ALGORITHM => {}
            "AWS" => return Err(other_mechanism("SigV2")),
            "AWS4-ECDSA-P256-SHA256" => return Err(other_mechanism("SigV4A (AWS4-ECDSA-P256-SHA256)")),
            _ => {
                return Err(AuthError::InvalidArgument {
                    name: "Authorization",
                    value: text.to_owned(),
                    message: "Unsupported Authorization Type",
                });
            }
        }
        let [credential, signed, signature] = components(rest)?;
        let at = header_time(headers)?;
        let access_key = check_credential(place, credential, &at, region)?;
        let signed = signed_headers(place, signed)?;
        Ok(Self {
            access_key,
            at,
            signed,
            signature: signature.to_owned(),
            expires_seconds: None,
        })
    }

    fn from_query(query: &[QueryPair], region: &str) -> Result<Self, AuthError> {
        let place = Place::Query;
        let get = |name: &'static str| {
            let mut found = query.iter().filter(|p| p.name == name.as_bytes());
            match (found.next().map(|p| std::str::from_utf8(&p.value)), found.next()) {
                (Some(Ok(value)), None) if !value.is_empty() => Ok(value),
                _ => Err(place.malformed(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                     X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
                )),
            }
        };
        match get("X-Amz-Algorithm")? {
            ALGORITHM => {}
            "AWS4-ECDSA-P256-SHA256" => return Err(other_mechanism("SigV4A (AWS4-ECDSA-P256-SHA256)")),
            _ => return Err(place.malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")),
        }
        let (credential, signature) = (get("X-Amz-Credential")?, get("X-Amz-Signature")?);
        let at = SignedAt::parse_basic(get("X-Amz-Date")?).ok_or_else(|| {
            place.malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        })?;
        let signed = signed_headers(place, get("X-Amz-SignedHeaders")?)?;
        let expires_seconds = Some(expires(get("X-Amz-Expires")?)?);
        let access_key = check_credential(place, credential, &at, region)?;
        Ok(Self {
            access_key,
            at,
            signed,
            signature: signature.to_owned(),
            expires_seconds,
        })
    }

    /// `YYYYMMDD/region/s3/aws4_request`, as it stands in strings to sign.
    pub(crate) fn scope(&self, region: &str) -> String {
        scope(self.at.date(), region)
    }
}

/// A credential scope.
pub(crate) fn scope(date: &str, region: &str) -> String {
    format!("{date}/{region}/{SERVICE}/{TERMINAL}")
}

/// `Credential`, `SignedHeaders` and `Signature`, each exactly once.
fn components(text: &str) -> Result<[&str; 3], AuthError> {
    let mut found = [None; 3];
    let malformed = || {
        Place::Header.malformed(
            "the authorization header requires three components: Credential, SignedHeaders, and Signature.",
        )
    };
    for component in text.split(',') {
        let (name, value) = component
            .trim_matches(' ')
            .split_once('=')
            .ok_or_else(malformed)?;
        let slot = ["Credential", "SignedHeaders", "Signature"]
            .iter()
            .position(|n| *n == name)
            .ok_or_else(malformed)?;
        if value.is_empty() || found[slot].replace(value).is_some() {
            return Err(malformed());
        }
    }
    match found {
        [Some(credential), Some(signed), Some(signature)] => Ok([credential, signed, signature]),
        _ => Err(malformed()),
    }
}

/// `x-amz-date`, or else `Date`: whichever it is, the string to sign carries it, so neither need be among the signed.
fn header_time(headers: &HeaderMap) -> Result<SignedAt, AuthError> {
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| Denial::NoDate),
            (Some(_), Some(_)) => Err(Denial::NoDate),
        }
    };
    let at = match only(HeaderName::from_static("x-amz-date"))? {
        Some(value) => SignedAt::parse_basic(value),
        None => only(DATE)?.and_then(SignedAt::parse_date_header),
    };
    Ok(at.ok_or(Denial::NoDate)?)
}

/// Checks `key/date/region/s3/aws4_request` and answers the key.
pub(crate) fn check_credential(
    place: Place,
    credential: &str,
    at: &SignedAt,
    region: &str,
) -> Result<AccessKeyId, AuthError> {
    // From the right: only the access key may hold further slashes.
    let pieces: Vec<_> = credential.rsplitn(5, '/').collect();
    let &[terminal, service, claimed_region, date, key] = pieces.as_slice() else {
        let what = match place {
            Place::Header => "the Credential",
            Place::Query => "Error parsing the X-Amz-Credential parameter; the Credential",
        };
        return Err(place.malformed(format!("{what} is mal-formed; expecting \"{CREDENTIAL_FORM}\".")));
    };
    let parsing = match place {
        Place::Header => "",
        Place::Query => "Error parsing the X-Amz-Credential parameter; ",
    };
    if key.is_empty() {
        let message = format!("{parsing}a non-empty Access Key (AKID) must be provided in the credential.");
        return Err(place.malformed(message));
    }
    if terminal != TERMINAL {
        let message =
            format!("{parsing}incorrect terminal \"{terminal}\". This endpoint uses \"{TERMINAL}\".");
        return Err(place.malformed(message));
    }
    if service != SERVICE {
        let message =
            format!("{parsing}incorrect service \"{service}\". This endpoint belongs to \"{SERVICE}\".");
        return Err(place.malformed(message));
    }
    if date != at.date() {
        let message = format!(
            "{parsing}Invalid credential date \"{date}\". This date is not the same as X-Amz-Date: \"{}\".",
            at.date()
        );
        return Err(place.malformed(message));
    }
    if claimed_region != region {
        let message = format!("{parsing}the region '{claimed_region}' is wrong; expecting '{region}'");
        return Err(place.wrong_region(message, Some(region.to_owned())));
    }
    Ok(AccessKeyId(key.to_owned()))
}

/// `host;x-amz-date`: lower-case names, none twice.
fn signed_headers(place: Place, text: &str) -> Result<Vec<HeaderName>, AuthError> {
    let mut seen = BTreeSet::new();
    text.split(';')
        .map(|name| {
            let known = HeaderName::from_lowercase(name.as_bytes()).ok();
            known.filter(|_| seen.insert(name)).ok_or_else(|| {
                place
                    .malformed("SignedHeaders must be distinct header names in lower case, separated by ';'.")
            })
        })
        .collect()
}

/// `X-Amz-Expires`: 0 seconds to 7 days.
fn expires(text: &str) -> Result<u64, AuthError> {
    let max = types::limits::PRESIGN_SECONDS_MAX;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if text.strip_prefix('-').is_some_and(digits) {
        return Err(Place::Query.malformed("X-Amz-Expires must be non-negative"));
    }
    if !digits(text) {
        return Err(Place::Query.malformed("X-Amz-Expires should be a number"));
    }
    // A number too long to parse is also too large.
    text.parse().ok().filter(|s| *s <= max).ok_or_else(|| {
        Place::Query.malformed(format!(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
             {max} seconds"
        ))
    })
}

fn two_mechanisms(value: &[u8]) -> AuthError {
    AuthError::InvalidArgument {
        name: "Authorization",
        value: String::from_utf8_lossy(value).into_owned(),
        message: "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                  parameter or the Authorization header should be specified",
    }
}

fn other_mechanism(name: &str) -> AuthError {
    AuthError::InvalidRequest(format!(
        "The authorization mechanism you have provided, {name}, is not supported. Please use {ALGORITHM}."
    ))
}
