//! Access control lists in the one form there is: the owner has full control, and nobody else anything.
//!
//! A list that says so is taken, in whatever way it is said; any other is refused as S3 refuses it where a bucket's owner
//! owns everything in it ([`check`] has the order). What does not make sense as a list is refused before that.

use crate::error::{Code, Error};
use crate::owner;
use crate::request::Request;
use crate::service::Service;
use crate::xml::Element;
use http::{HeaderMap, HeaderName};
use objects::Caller;
use types::{AccountId, BucketName};
use wire::index::SettingKind;
use wire::records::bucket_setting::Kind;

const CANNED: &str = "x-amz-acl";
const GRANT: &str = "x-amz-grant-";
const GRANTS: &[&str] = &[
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
];
const EVERYONE: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const ANYONE_KNOWN: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOGS: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// What a list that a request brings comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// No list.
    Nothing,
    /// Full control for the owner, nothing for others.
    OwnerOnly,
    /// Anything else that a list can say.
    More {
        /// Whether it lets strangers in.
        public: bool,
    },
}

impl Asked {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => one,
            (Self::OwnerOnly, Self::OwnerOnly) => Self::OwnerOnly,
            (a, b) => Self::More {
                public: [a, b].contains(&Self::More { public: true }),
            },
        }
    }
}

/// The list that headers bring for what `owner` has.
///
/// # Errors
/// InvalidArgument, InvalidRequest, UnresolvableGrantByEmailAddress.
pub(crate) fn from_headers(headers: &HeaderMap, owner: AccountId) -> Result<Asked, Error> {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("\u{fffd}"));
    // Next to no request has any of them: looking through its names takes less than looking for six.
    let is_one = |name: &HeaderName| name == CANNED || name.as_str().starts_with(GRANT);
    if !headers.keys().any(is_one) {
        return Ok(Asked::Nothing);
    }
    let mut granted = Asked::Nothing;
    for name in GRANTS {
        for grant in text(name).into_iter().flat_map(|list| list.split(',')) {
            let grantee = grantee(name, grant.trim(), owner)?;
            granted = granted.and(grantee.given(*name == GRANTS[0]));
        }
    }
    match text(CANNED) {
        None => Ok(granted),
        Some(_) if granted != Asked::Nothing => Err(Error::with(
            Code::InvalidRequest,
            "Specifying both Canned ACLs and Header Grants is not allowed",
        )),
        Some(canned) => canned_list(canned),
    }
}

fn canned_list(name: &str) -> Result<Asked, Error> {
    match name {
        "private" | "bucket-owner-full-control" => Ok(Asked::OwnerOnly),
        "public-read" | "public-read-write" | "authenticated-read" => Ok(Asked::More { public: true }),
        "aws-exec-read" | "bucket-owner-read" | "log-delivery-write" => Ok(Asked::More { public: false }),
        other => Err(Error::argument(CANNED, other, Code::InvalidArgument.message())),
    }
}

/// To whom something is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grantee {
    Owner,
    Other { public: bool },
}

impl Grantee {
    fn given(self, full_control: bool) -> Asked {
        match self {
            Self::Owner if full_control => Asked::OwnerOnly,
            Self::Owner => Asked::More { public: false },
            Self::Other { public } => Asked::More { public },
        }
    }

    fn by_id(argument: &str, id: &str, owner: AccountId) -> Result<Self, Error> {
        let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_id {
            return Err(Error::argument(argument, id, "Invalid id"));
        }
        Ok(if id == owner::canonical_id(owner) {
            Self::Owner
        } else {
            Self::Other { public: false }
        })
    }

    fn by_uri(argument: &str, uri: &str) -> Result<Self, Error> {
        match uri {
            EVERYONE | ANYONE_KNOWN => Ok(Self::Other { public: true }),
            LOGS => Ok(Self::Other { public: false }),
            other => Err(Error::argument(argument, other, "Invalid group uri")),
        }
    }

    /// Accounts here have no addresses.
    fn by_email() -> Error {
        Error::new(Code::UnresolvableGrantByEmailAddress)
    }
}

/// `id="..."`, `uri="..."` or `emailAddress="..."`.
fn grantee(header: &str, grant: &str, owner: AccountId) -> Result<Grantee, Error> {
    let unknown = || Error::argument(header, grant, "Argument format not recognized");
    let (kind, value) = grant.split_once('=').ok_or_else(unknown)?;
    let value = value.trim().trim_matches('"');
    match kind.trim() {
        "id" => Grantee::by_id("id", value, owner),
        "uri" => Grantee::by_uri("uri", value),
        "emailAddress" => Err(Grantee::by_email()),
        _ => Err(unknown()),
    }
}

/// The list that an `<AccessControlPolicy>` brings for what `owner` has.
///
/// # Errors
/// MalformedACLError, InvalidArgument, UnresolvableGrantByEmailAddress, AccessDenied for another owner.
pub(crate) fn from_document(document: &[u8], owner: AccountId) -> Result<Asked, Error> {
    let malformed = || Error::new(Code::MalformedACLError);
    let root = Element::parse(document, "AccessControlPolicy").map_err(|_| malformed())?;
    let one = |of: &Element, name: &str| -> Result<Option<String>, Error> {
        let found = of.one(name).map_err(|_| malformed())?;
        Ok(found.map(|e| e.text().to_owned()))
    };
    let said_owner = root
        .one("Owner")
        .map_err(|_| malformed())?
        .ok_or_else(malformed)?;
    let id = one(said_owner, "ID")?.ok_or_else(malformed)?;
    let said_owner = Grantee::by_id("CanonicalUser/ID", &id, owner)?;
    let list = root.one("AccessControlList").map_err(|_| malformed())?;
    let mut asked = Asked::Nothing;
    for grant in list.ok_or_else(malformed)?.all("Grant") {
        let to = grant
            .one("Grantee")
            .map_err(|_| malformed())?
            .ok_or_else(malformed)?;
        let permission = one(grant, "Permission")?.ok_or_else(malformed)?;
        if !["FULL_CONTROL", "READ", "READ_ACP", "WRITE", "WRITE_ACP"].contains(&permission.as_str()) {
            return Err(malformed());
        }
        let grantee = match (one(to, "ID")?, one(to, "URI")?, one(to, "EmailAddress")?) {
            (Some(id), None, None) => Grantee::by_id("CanonicalUser/ID", &id, owner)?,
            (None, Some(uri), None) => Grantee::by_uri("Group/URI", &uri)?,
            (None, None, Some(_)) => return Err(Grantee::by_email()),
            _ => return Err(malformed()),
        };
        asked = asked.and(grantee.given(permission == "FULL_CONTROL"));
    }
    if said_owner != Grantee::Owner {
        return Err(Code::AccessDenied.into());
    }
    // An empty list would take the owner's own control away.
    Ok(match asked {
        Asked::Nothing => Asked::More { public: false },
        asked => asked,
    })
}

/// Refuses a write whose headers bring a list that cannot be had.
///
/// # Errors
/// As [`check`] and [`from_headers`].
pub(crate) async fn check_write(service: &Service, request: &Request) -> Result<(), Error> {
    let asked = from_headers(&request.headers, request.caller.account)?;
    check(service, &request.caller, request.bucket(), asked).await
}

/// Refuses a list that cannot be had in the bucket: AccessDenied where the bucket was told to block public
/// lists, AccessControlListNotSupported where it has no lists, which is so unless it was told otherwise; and
/// NotImplemented in the buckets that do have them, because here nobody but an owner has access.
pub(crate) async fn check(
    service: &Service,
    caller: &Caller,
    bucket: &BucketName,
    asked: Asked,
) -> Result<(), Error> {
    let Asked::More { public } = asked else {
        return Ok(());
    };
    let blocks = service
        .objects
        .bucket_setting(caller, bucket, SettingKind::PublicAccess)
        .await?
        .and_then(|s| s.kind);
    let ownership = service
        .objects
        .bucket_setting(caller, bucket, SettingKind::Ownership)
        .await?
        .and_then(|s| s.kind);
    let enforced = match ownership {
        Some(Kind::Ownership(controls)) => controls.object_ownership == crate::ops::BUCKET_OWNER_ENFORCED,
        _ => true,
    };
    match blocks {
        Some(Kind::PublicAccess(block)) if public && block.block_public_acls => {
            Err(Code::AccessDenied.into())
        }
        _ if enforced => Err(Code::AccessControlListNotSupported.into()),
        // A bucket that was not told otherwise blocks everything public.
        None if public => Err(Code::AccessDenied.into()),
        _ => Err(not_implemented()),
    }
}

/// A list that would let others in where the bucket has lists.
pub(crate) fn not_implemented() -> Error {
    Error::with(
        Code::NotImplemented,
        "An access control list that grants anything to anyone but the owner is not implemented",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    const OWNER: AccountId = AccountId(7);
    const PUBLIC: Result<Asked, Code> = Ok(Asked::More { public: true });
    const OTHERS: Result<Asked, Code> = Ok(Asked::More { public: false });
    const OWN: Result<Asked, Code> = Ok(Asked::OwnerOnly);

    fn headers(pairs: &[(&str, &str)]) -> Result<Asked, Code> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap()))
            .collect();
        from_headers(&headers, OWNER).map_err(|e| e.code())
    }

    #[test]
    fn lists_in_headers() {
        let own = format!("id=\"{}\"", owner::canonical_id(OWNER));
        let other = format!("id={}", owner::canonical_id(AccountId(8)));
        let both = format!("{own}, {other}");
        let everyone = format!("uri=\"{EVERYONE}\"");
        let full = "x-amz-grant-full-control";
        type Case<'a> = (&'a [(&'a str, &'a str)], Result<Asked, Code>);
        let cases: &[Case<'_>] = &[
            (&[], Ok(Asked::Nothing)),
            (&[(CANNED, "private")], OWN),
            (&[(CANNED, "bucket-owner-full-control")], OWN),
            (&[(CANNED, "public-read")], PUBLIC),
            (&[(CANNED, "authenticated-read")], PUBLIC),
            (&[(CANNED, "bucket-owner-read")], OTHERS),
            (&[(CANNED, "Private")], Err(Code::InvalidArgument)),
            (&[(CANNED, "")], Err(Code::InvalidArgument)),
            (&[(full, &own)], OWN),
            (&[(full, &both)], OTHERS),
            (&[("x-amz-grant-read", &own)], OTHERS),
            (&[(full, &own), ("x-amz-grant-read", &everyone)], PUBLIC),
            (&[(full, "id=\"x\"")], Err(Code::InvalidArgument)),
            (&[(full, "uri=\"http://x\"")], Err(Code::InvalidArgument)),
            (&[(full, "key=\"x\"")], Err(Code::InvalidArgument)),
            (&[(full, "")], Err(Code::InvalidArgument)),
            (
                &[(full, "emailAddress=\"a@b\"")],
                Err(Code::UnresolvableGrantByEmailAddress),
            ),
            (&[(CANNED, "private"), (full, &own)], Err(Code::InvalidRequest)),
        ];
        for (given, expected) in cases {
            assert_eq!(headers(given), *expected, "{given:?}");
        }
    }

    #[test]
    fn lists_in_documents() {
        let id = owner::canonical_id(OWNER);
        let other = owner::canonical_id(AccountId(8));
        let policy = |owner: &str, grants: &str| {
            format!(
                "<AccessControlPolicy><Owner><ID>{owner}</ID></Owner><AccessControlList>{grants}</AccessControlList>\
                 </AccessControlPolicy>"
            )
        };
        let grant = |to: &str, what: &str| {
            format!("<Grant><Grantee>{to}</Grantee><Permission>{what}</Permission></Grant>")
        };
        let to_id = |id: &str| format!("<ID>{id}</ID>");
        let own = grant(&to_id(&id), "FULL_CONTROL");
        let everyone = grant(&format!("<URI>{EVERYONE}</URI>"), "READ");
        let cases = [
            (policy(&id, &own), OWN),
            (policy(&id, &format!("{own}{own}")), OWN),
            (policy(&id, ""), OTHERS),
            (policy(&id, &grant(&to_id(&id), "READ")), OTHERS),
            (policy(&id, &format!("{own}{everyone}")), PUBLIC),
            (policy(&id, &grant(&to_id(&other), "FULL_CONTROL")), OTHERS),
            (policy(&other, &own), Err(Code::AccessDenied)),
            (policy("x", &own), Err(Code::InvalidArgument)),
            (
                policy(&id, &grant(&to_id("x"), "READ")),
                Err(Code::InvalidArgument),
            ),
            (
                policy(&id, &grant("<URI>x</URI>", "READ")),
                Err(Code::InvalidArgument),
            ),
            (
                policy(&id, &grant(&to_id(&id), "ALL")),
                Err(Code::MalformedACLError),
            ),
            (policy(&id, &grant("", "READ")), Err(Code::MalformedACLError)),
            (policy(&id, "<Grant/>"), Err(Code::MalformedACLError)),
            (
                policy(&id, &grant("<EmailAddress>a@b</EmailAddress>", "READ")),
                Err(Code::UnresolvableGrantByEmailAddress),
            ),
            ("<AccessControlPolicy/>".into(), Err(Code::MalformedACLError)),
            ("nonsense".into(), Err(Code::MalformedACLError)),
        ];
        for (document, expected) in cases {
            let got = from_document(document.as_bytes(), OWNER).map_err(|e| e.code());
            assert_eq!(got, expected, "{document}");
        }
    }
}
