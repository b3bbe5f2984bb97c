//! PostObject: a browser's form, allowed by the policy that it carries.
//!
//! It is not signed as other requests are: who may do this is in the form (`auth::verify_form`), what they may do is the
//! policy's (`auth::Policy`), and the form's fields stand for the headers of a put. Steps:
//!
//! 1. The fields come in, bounded. The policy is signed by one of our keys.
//! 2. `${filename}` in the fields becomes the file's name, in bounds again; the policy allows every field.
//! 3. The file is put, within the lengths that the policy allows, and only then named.

use crate::body::form::{self, Form};
use crate::error::{Code, Error};
use crate::operation::Operation;
use crate::query::Query;
use crate::reply::{self, Reply, quoted};
use crate::request::{Arriving, refusal};
use crate::service::Service;
use crate::target::{Level, Target, object_key};
use crate::xml::XmlWriter;
use crate::{acl, body, checksum, condition, headers, metadata, tags, version};
use auth::{Fields, PayloadMode, Policy, verify_form};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use objects::{Caller, PutObject};
use types::limits::{FORM_FIELDS_BYTES_MAX, FORM_TAIL_BYTES_MAX, OBJECT_TAGS_MAX, PUT_BYTES_MAX};
use types::{BucketName, ObjectKey};
use wire::records::{Pair, PutAnswer};

/// Fields that stand for a header of the same name.
const HEADERS: &[&str] = &[
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
    "if-match",
    "if-none-match",
];
/// Fields about the signature.
const SIGNING: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-signature",
];
/// Fields in which `${filename}` is only text: they must be what was signed.
const VERBATIM: &[&str] = &["policy", "signature", "awsaccesskeyid"];

/// Whether a request is a form: whatever is posted to a bucket itself.
pub(crate) fn is_form(method: &Method, target: &Target, query: &Query) -> bool {
    *method == Method::POST && target.level() == Level::Bucket && query.names().all(|n| n.starts_with("x-"))
}

/// Takes a form.
pub(crate) async fn run(
    service: &Service,
    (target, host): (&Target, Option<&str>),
    parts: &Parts,
    mut arriving: Arriving,
) -> Result<Reply, Error> {
    let bucket = target.bucket_name()?.ok_or(Code::MethodNotAllowed)?;
    headers::check(Operation::PostObject, &parts.headers)?;
    headers::no_conditions(&parts.headers)?;
    let boundary = boundary(&parts.headers)?;
    let length = content_length(&parts.headers)?;
    if !service.objects.bucket_exists(&bucket).await? {
        return Err(Code::NoSuchBucket.into());
    }
    let clock = service.world.clock.clone();
    let (mut form, file) = form::read(&boundary, length, arriving.take(), clock).await?;
    // First who asks, which no name of a file changes: what is replaced is paid for by somebody known.
    let key = verify_form(&form.fields, service.keys.as_ref(), &service.config.region)?;
    name_file(&mut form)?;
    let policy = Policy::parse(form.fields.get("policy").map_or("", String::as_str))?;
    policy.check(&form.fields, bucket.as_str(), service.world.clock.wall_ms())?;
    let fields = fields_as_headers(&form.fields)?;
    let mut asked = [&parts.headers, &fields].into_iter();
    if asked.any(|headers| headers::expects_another_owner(headers, key.account)) {
        return Err(Code::AccessDenied.into());
    }
    let caller = Caller { account: key.account };
    let (least, most) = policy.length();
    let (file, slot) = file.within((least, most.min(PUT_BYTES_MAX)));
    let put = put_of(&form, &fields, bucket, Box::new(file))?;
    let asked = acl::from_headers(&fields, caller.account)?;
    acl::check(service, &caller, &put.bucket, asked).await?;
    let (bucket, key) = (put.bucket.clone(), put.key.clone());
    let answer = service
        .objects
        .put_within(&caller, put, slack(&form))
        .await
        .map_err(|e| condition::named(refusal(e, &slot), condition::of_write(&fields)))?;
    answer_of(
        &form.fields,
        (&bucket, &key),
        (host, service.config.secure),
        target,
        &answer,
    )
}

fn boundary(headers: &HeaderMap) -> Result<String, Error> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let boundary = form::boundary(kind.unwrap_or_default()).ok_or_else(|| {
        Error::new(Code::PreconditionFailed).field(
            "Condition",
            "Bucket POST must be of the enclosure-type multipart/form-data",
        )
    })?;
    match headers.get(header::AUTHORIZATION) {
        None => Ok(boundary),
        Some(value) => Err(Error::argument(
            "Authorization",
            &String::from_utf8_lossy(value.as_bytes()),
            "Only one auth mechanism allowed: a form brings its own",
        )),
    }
}

fn content_length(headers: &HeaderMap) -> Result<u64, Error> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (Some(length), None) => length.to_str().ok().and_then(|t| t.parse().ok()),
        _ => None,
    };
    length.ok_or_else(|| Code::MissingContentLength.into())
}

/// The longest file that fits leaves no room for what could follow it.
fn slack(form: &Form) -> u64 {
    form.slack
        .saturating_sub(form.length_max.saturating_sub(PUT_BYTES_MAX))
}

/// `${filename}` in any field is what the file is called; a file without a name leaves it as it is. All fields together stay within what
/// they may be when they come.
fn name_file(form: &mut Form) -> Result<(), Error> {
    const NAME: &str = "${filename}";
    let Some(filename) = form.filename.as_deref() else {
        return Ok(());
    };
    let named = |(name, _): &(&String, &mut String)| !VERBATIM.contains(&name.as_str());
    let mut bytes = 0;
    for (_, value) in form.fields.iter_mut().filter(named) {
        let times = value.matches(NAME).count();
        bytes += value.len() + times * filename.len();
        if times > 0 && bytes > FORM_FIELDS_BYTES_MAX {
            return Err(Code::MaxPostPreDataLengthExceededError.into());
        }
        if times > 0 {
            *value = value.replace(NAME, filename);
        }
    }
    Ok(())
}

/// The fields that mean what a header of a put means, as headers.
fn fields_as_headers(fields: &Fields) -> Result<HeaderMap, Error> {
    let mut out = HeaderMap::new();
    for (name, value) in fields {
        let header = match name.as_str() {
            "acl" => "x-amz-acl",
            name if SIGNING.contains(&name) => continue,
            name if HEADERS.contains(&name) || name.starts_with("x-amz-") => name,
            // Whatever else a page put into its form, the policy allowed it and S3 ignores it.
            _ => continue,
        };
        let invalid = || Error::argument(name, value, Code::InvalidArgument.message());
        let header = HeaderName::try_from(header).map_err(|_| invalid())?;
        out.insert(
            header,
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid())?,
        );
    }
    headers::check(Operation::PostObject, &out)?;
    Ok(out)
}

fn put_of(
    form: &Form,
    headers: &HeaderMap,
    bucket: BucketName,
    body: Box<dyn objects::Body>,
) -> Result<PutObject, Error> {
    let fields = &form.fields;
    let unsigned = body::BodyPlan {
        mode: PayloadMode::Unsigned,
        content_length: None,
        decoded_length: None,
        trailer_names: Vec::new(),
        signing: None,
        chunked: false,
    };
    if form.length_max > PUT_BYTES_MAX + FORM_TAIL_BYTES_MAX as u64 {
        return Err(Error::new(Code::EntityTooLarge)
            .field("ProposedSize", form.length_max.to_string())
            .field("MaxSizeAllowed", PUT_BYTES_MAX.to_string()));
    }
    Ok(PutObject {
        bucket,
        key: key(fields)?,
        length: form.length_max.min(PUT_BYTES_MAX),
        body,
        expect: checksum::expect(headers, &unsigned)?,
        headers: metadata::content_headers(headers),
        metadata: metadata::user_metadata(headers)?,
        tags: tagging(fields)?,
        checksum: None,
        precondition: condition::write(headers)?,
    })
}

fn key(fields: &Fields) -> Result<ObjectKey, Error> {
    let text = fields.get("key").map_or("", String::as_str);
    if text.is_empty() {
        let missing = auth::AuthError::MissingField { name: "key" };
        return Err(missing.into());
    }
    object_key(text)
}

/// The field `tagging` is a document, as PutObjectTagging has it.
fn tagging(fields: &Fields) -> Result<Vec<Pair>, Error> {
    match fields.get("tagging") {
        None => Ok(Vec::new()),
        Some(document) => tags::from_document(document.as_bytes(), OBJECT_TAGS_MAX, "Object"),
    }
}

/// Where a page sends its user after the upload; what is no address of the web is as if it were not there.
fn redirect(fields: &Fields, (bucket, key): (&BucketName, &ObjectKey), etag: &str) -> Option<String> {
    let to = fields
        .get("success_action_redirect")
        .or_else(|| fields.get("redirect"))?;
    let is_web = ["http://", "https://"].iter().any(|s| to.starts_with(s));
    let plain = to.bytes().all(|b| b.is_ascii_graphic());
    if !is_web || !plain {
        return None;
    }
    let (to, fragment) = to
        .split_once('#')
        .map_or((to.as_str(), None), |(t, f)| (t, Some(f)));
    let joint = if to.contains('?') { '&' } else { '?' };
    let encode = |text: &str| auth::uri::encode(text.as_bytes(), false);
    let mut out = format!(
        "{to}{joint}bucket={}&key={}&etag={}",
        encode(bucket.as_str()),
        encode(key.as_str()),
        encode(etag)
    );
    if let Some(fragment) = fragment {
        out.push('#');
        out.push_str(fragment);
    }
    Some(out)
}

fn answer_of(
    fields: &Fields,
    (bucket, key): (&BucketName, &ObjectKey),
    (host, secure): (Option<&str>, bool),
    target: &Target,
    answer: &PutAnswer,
) -> Result<Reply, Error> {
    let etag = quoted(&answer.etag_md5, answer.etag_parts);
    let encoded = auth::uri::encode(key.as_str().as_bytes(), true);
    let host = host.unwrap_or("localhost");
    let scheme = if secure { "https" } else { "http" };
    let location = if target.virtual_host {
        format!("{scheme}://{host}/{encoded}")
    } else {
        format!("{scheme}://{host}/{bucket}/{encoded}")
    };
    let redirect = redirect(fields, (bucket, key), &etag);
    let status = fields.get("success_action_status").map(String::as_str);
    let mut reply = match (&redirect, status) {
        (Some(_), _) => reply::empty(StatusCode::SEE_OTHER),
        (None, Some("200")) => reply::empty(StatusCode::OK),
        (None, Some("201")) => {
            let mut x = XmlWriter::document();
            x.open("PostResponse");
            x.text("Location", &location);
            x.text("Bucket", bucket.as_str());
            x.text("Key", key.as_str());
            x.text("ETag", &etag);
            x.close("PostResponse");
            let mut reply = reply::xml(x.finish());
            *reply.status_mut() = StatusCode::CREATED;
            reply
        }
        _ => reply::empty(StatusCode::NO_CONTENT),
    };
    let out = reply.headers_mut();
    let location = redirect.unwrap_or(location);
    out.insert(
        header::LOCATION,
        HeaderValue::try_from(location).map_err(|_| Code::InvalidArgument)?,
    );
    reply::set(out, header::ETAG, etag);
    version::made(out, answer);
    let kind = checksum::kind_of(answer.checksum_kind);
    checksum::to_headers(out, &answer.checksums, Some(kind), answer.etag_parts);
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn the_files_name() {
        let given = fields(&[
            ("key", "u/${filename}"),
            ("x-amz-meta-n", "${filename}"),
            ("policy", "${filename}"),
        ]);
        let mut form = Form {
            fields: given.clone(),
            filename: None,
            length_max: 0,
            slack: 0,
        };
        name_file(&mut form).unwrap();
        assert_eq!(form.fields, given);
        form.filename = Some("a b".into());
        name_file(&mut form).unwrap();
        let named = [
            ("key", "u/a b"),
            ("x-amz-meta-n", "a b"),
            ("policy", "${filename}"),
        ];
        assert_eq!(form.fields, fields(&named));
    }

    // I9
    #[test]
    fn a_files_name_does_not_make_much_of_little() {
        let mut form = Form {
            fields: fields(&[("key", "k"), ("note", &"${filename}".repeat(900))]),
            filename: Some("n".repeat(9_000)),
            length_max: 0,
            slack: 0,
        };
        let refused = name_file(&mut form).map_err(|e| e.code());
        assert_eq!(refused, Err(Code::MaxPostPreDataLengthExceededError));
        assert_eq!(form.fields["note"].len(), 900 * "${filename}".len());
    }

    #[test]
    fn redirects() {
        let (bucket, key) = (
            BucketName::new("bucket").unwrap(),
            ObjectKey::new("a/b c").unwrap(),
        );
        let to = |url: &str| {
            redirect(
                &fields(&[("success_action_redirect", url)]),
                (&bucket, &key),
                "\"e\"",
            )
        };
        let query = "bucket=bucket&key=a%2Fb%20c&etag=%22e%22";
        assert_eq!(to("http://x/y"), Some(format!("http://x/y?{query}")));
        assert_eq!(to("https://x/?a=1#f"), Some(format!("https://x/?a=1&{query}#f")));
        for none in ["/relative", "javascript:x", "http://x/\r\nset-cookie: y", ""] {
            assert_eq!(to(none), None, "{none}");
        }
        assert_eq!(redirect(&fields(&[]), (&bucket, &key), ""), None);
    }

    #[test]
    fn fields_that_are_headers() {
        let taken = fields(&[
            ("acl", "private"),
            ("content-type", "text/plain"),
            ("x-amz-meta-a", "é"),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-date", "x"),
            ("submit", "Upload"),
        ]);
        let headers = fields_as_headers(&taken).unwrap();
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-amz-acl", "x-amz-meta-a"]);
        for (name, value, code) in [
            ("x-amz-server-side-encryption", "AES256", Code::NotImplemented),
            ("x-amz-website-redirect-location", "/x", Code::NotImplemented),
            ("x-amz-grant-read", "id=1", Code::NotImplemented),
            ("x-amz-newest", "x", Code::NotImplemented),
            ("x-amz-storage-class", "GLACIER", Code::InvalidStorageClass),
            ("x-amz-meta-é", "x", Code::InvalidArgument),
            ("content-type", "a\r\nb", Code::InvalidArgument),
        ] {
            let got = fields_as_headers(&fields(&[(name, value)])).map_err(|e| e.code());
            assert_eq!(got.err(), Some(code), "{name}");
        }
    }
}
