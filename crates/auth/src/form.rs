//! Who signed a POST form: the fields in which a browser's upload brings its policy and the signature over it.
//!
//! Both versions sign the policy as it stands in the form, in base64, and nothing else: what else a form says is worth
//! what the policy says of it (`policy`). Version 2 is taken here because boto3 makes it unless told otherwise; the
//! policy covers everything it could be misused for.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html>

use crate::claim::{Place, check_credential};
use crate::error::{AuthError, Denial, Mismatch};
use crate::keys::{AccessKey, AccessKeyId, KeyStore};
use crate::moment::SignedAt;
use crate::signing::SigningKey;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::BTreeMap;

/// A form's fields: names in lower case.
pub type Fields = BTreeMap<String, String>;

/// Verifies that one of our access keys signed the form's policy. Whether the policy allows the form is not looked at.
///
/// # Errors
/// What S3 would refuse it for; [`Denial::Anonymous`] where nothing is signed.
pub fn verify_form(fields: &Fields, keys: &dyn KeyStore, region: &str) -> Result<AccessKey, AuthError> {
    let has = |name: &str| fields.contains_key(name);
    if has("x-amz-security-token") {
        return Err(AuthError::InvalidToken);
    }
    let by_v4 = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-signature",
    ]
    .into_iter()
    .any(has);
    let by_v2 = has("awsaccesskeyid") || has("signature");
    match (by_v4, by_v2) {
        (false, false) => Err(Denial::Anonymous.into()),
        (true, true) => Err(AuthError::InvalidRequest(
            "The form is signed in two ways".to_owned(),
        )),
        (true, false) => version_4(fields, keys, region),
        (false, true) => version_2(fields, keys),
    }
}

/// A field that must be there; S3 names it in its own spelling.
fn field<'a>(fields: &'a Fields, name: &'static str) -> Result<&'a str, AuthError> {
    let value = fields.get(&name.to_ascii_lowercase()).filter(|v| !v.is_empty());
    value.map(String::as_str).ok_or(AuthError::MissingField { name })
}

fn version_4(fields: &Fields, keys: &dyn KeyStore, region: &str) -> Result<AccessKey, AuthError> {
    let algorithm = field(fields, "X-Amz-Algorithm")?;
    let credential = field(fields, "X-Amz-Credential")?;
    let signature = field(fields, "X-Amz-Signature")?;
    let date = field(fields, "X-Amz-Date")?;
    let policy = field(fields, "Policy")?;
    if algorithm != crate::ALGORITHM {
        return Err(AuthError::InvalidArgument {
            name: "X-Amz-Algorithm",
            value: algorithm.to_owned(),
            message: "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
        });
    }
    let at = SignedAt::parse_basic(date).ok_or_else(|| AuthError::InvalidArgument {
        name: "X-Amz-Date",
        value: date.to_owned(),
        message: "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
    })?;
    let key = find(keys, check_credential(Place::Query, credential, &at, region)?)?;
    let own = SigningKey::derive(&key.secret.0, at.date(), region).sign(policy.as_bytes());
    agree(own.as_str(), signature, key, policy)
}

fn version_2(fields: &Fields, keys: &dyn KeyStore) -> Result<AccessKey, AuthError> {
    let access_key = field(fields, "AWSAccessKeyId")?;
    let signature = field(fields, "Signature")?;
    let policy = field(fields, "Policy")?;
    let key = find(keys, AccessKeyId(access_key.to_owned()))?;
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.secret.0.as_bytes());
    let own = BASE64.encode(hmac::sign(&hmac_key, policy.as_bytes()));
    agree(&own, signature, key, policy)
}

fn find(keys: &dyn KeyStore, access_key: AccessKeyId) -> Result<AccessKey, AuthError> {
    keys.find(&access_key)
        .ok_or(AuthError::InvalidAccessKeyId { access_key })
}

fn agree(own: &str, provided: &str, key: AccessKey, policy: &str) -> Result<AccessKey, AuthError> {
    if constant_time::verify_slices_are_equal(own.as_bytes(), provided.as_bytes()).is_ok() {
        return Ok(key);
    }
    Err(AuthError::SignatureDoesNotMatch(Box::new(Mismatch {
        access_key: key.id,
        string_to_sign: policy.to_owned(),
        signature_provided: provided.to_owned(),
        canonical_request: String::new(),
    })))
}
