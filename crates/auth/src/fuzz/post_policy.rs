//! POST policies: what one allows, its own words allow.

use super::{NOW_MS, REGION, key, keys};
use crate::claim::scope;
use crate::form::{Fields, verify_form};
use crate::moment::SignedAt;
use crate::policy::{Policy, PolicyError};
use crate::signing::SigningKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

const FIELDS_MAX: usize = 30;
const BUCKET: &str = "b";

/// A policy's JSON, then behind a zero byte the form's fields, a line each: `name=value`.
pub fn post_policy(data: &[u8]) {
    let (json, fields) = data.split_at(data.iter().position(|b| *b == 0).unwrap_or(data.len()));
    let fields = fields_of(fields);
    let raw = String::from_utf8_lossy(json);
    let _not_base64 = Policy::parse(&raw);
    let written = BASE64.encode(json);
    signed(&fields, &written);
    let Ok(policy) = Policy::parse(&written) else {
        return;
    };
    let (least, most) = policy.length();
    let document: Value = serde_json::from_slice(json).expect("a policy was read from it");
    if least <= most {
        assert!(ranges(&document).all(|(from, to)| from <= least && most <= to));
    }
    if policy.check(&fields, BUCKET, NOW_MS).is_err() {
        return;
    }
    assert_eq!(
        policy.check(&fields, BUCKET, NOW_MS - 1),
        Ok(()),
        "allowed later and not before"
    );
    assert!(policy.check(&fields, BUCKET, u64::MAX).is_err(), "it has no end");
    let conditions = document["conditions"].as_array().expect("a policy has them");
    for condition in conditions {
        holds(condition, &fields);
    }
    assert!(
        raw.to_ascii_lowercase().contains("bucket") || raw.contains('\\'),
        "it holds for every bucket"
    );
    extra_fields(&policy, &raw, &fields);
    narrower(&document, &fields);
}

/// Policies and forms as they come.
pub fn post_policy_seeds() -> Vec<Vec<u8>> {
    let policy = |conditions: &str| {
        format!(r#"{{"expiration":"2026-12-01T12:00:00.000Z","conditions":[{conditions}]}}"#)
    };
    [
        (r#"{"bucket":"b"},["starts-with","$key","user/"],{"acl":"private"}"#, "key=user/a\nacl=private\n"),
        (r#"["eq","$bucket","b"],["content-length-range",0,1048576],["starts-with","$Content-Type","image/"],["starts-with","$key",""]"#,
         "key=k\ncontent-type=image/png,image/gif\n"),
        (r#"{"bucket":"b"},["starts-with","$key",""],{"x-amz-meta-n":7},{"success_action_status":"201"},["content-length-range","5","x"]"#,
         "key=k\nx-amz-meta-n=7\nsuccess_action_status=201\nx-ignore-a=1\n"),
        (r#"["Eq","$BUCKET","b"],["STARTS-WITH","$Key","k"],{"x-amz-date":"20130524T000000Z"}"#, "key=k\nx-amz-date=20130524T000000Z\n"),
    ]
    .iter()
    .map(|(conditions, fields)| [policy(conditions).as_bytes(), &[0], fields.as_bytes()].concat())
    .collect()
}

fn fields_of(lines: &[u8]) -> Fields {
    let text = String::from_utf8_lossy(lines.get(1..).unwrap_or_default());
    text.lines()
        .take(FIELDS_MAX)
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect()
}

/// Whoever holds the key signed it, and nobody else.
fn signed(fields: &Fields, policy: &str) {
    let _as_it_came = verify_form(fields, &keys(), REGION);
    let at = SignedAt::from_ms(NOW_MS).expect("a time");
    let mut form = fields.clone();
    for name in ["x-amz-security-token", "awsaccesskeyid", "signature"] {
        form.remove(name);
    }
    let signature = SigningKey::derive(&key().secret.0, at.date(), REGION).sign(policy.as_bytes());
    form.extend([
        ("policy".to_owned(), policy.to_owned()),
        ("x-amz-algorithm".to_owned(), crate::ALGORITHM.to_owned()),
        (
            "x-amz-credential".to_owned(),
            format!("{}/{}", key().id, scope(at.date(), REGION)),
        ),
        ("x-amz-date".to_owned(), at.basic.clone()),
        ("x-amz-signature".to_owned(), signature.as_str().to_owned()),
    ]);
    assert_eq!(verify_form(&form, &keys(), REGION).is_ok(), !policy.is_empty());
    form.insert("policy".to_owned(), format!("{policy}="));
    assert!(
        verify_form(&form, &keys(), REGION).is_err(),
        "another policy under the same signature"
    );
}

/// Ranges of lengths that the policy's words give as numbers.
fn ranges(document: &Value) -> impl Iterator<Item = (u64, u64)> {
    let conditions = document["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|condition| {
        let named = condition[0]
            .as_str()?
            .eq_ignore_ascii_case("content-length-range");
        named.then_some((condition[1].as_u64()?, condition[2].as_u64()?))
    })
}

/// A condition of an allowed form holds as it reads.
fn holds(condition: &Value, fields: &Fields) {
    let given = |name: &str| {
        let name = name.to_ascii_lowercase();
        let form = || fields.get(&name).cloned();
        if name == "bucket" {
            Some(BUCKET.to_owned())
        } else {
            form()
        }
    };
    if let Some(simple) = condition.as_object() {
        let (name, value) = simple.iter().next().expect("one property");
        if let Some(value) = value.as_str() {
            assert_eq!(given(name).as_deref(), Some(value), "{condition}");
        }
        return;
    }
    let (Some(operator), Some(field), Some(value)) = (
        condition[0].as_str(),
        condition[1].as_str(),
        condition[2].as_str(),
    ) else {
        return;
    };
    let field = field.strip_prefix('$').map(str::to_ascii_lowercase);
    match (operator.to_ascii_lowercase().as_str(), field) {
        ("eq", field) => assert_eq!(
            field.and_then(|f| given(&f)).as_deref(),
            Some(value),
            "{condition}"
        ),
        ("starts-with", field) => {
            let given = field.and_then(|f| given(&f)).expect("a field that is there");
            assert!(
                given.trim_start().starts_with(value.trim_start()),
                "{condition} of {given}"
            );
        }
        _ => {}
    }
}

/// What no condition names is refused; what nobody reads is not.
fn extra_fields(policy: &Policy, raw: &str, fields: &Fields) {
    let with = |name: &str| {
        let mut more = fields.clone();
        more.insert(name.to_owned(), "1".to_owned());
        policy.check(&more, BUCKET, NOW_MS)
    };
    if !raw.contains("zzz") && !raw.contains('\\') {
        assert!(
            matches!(with("x-amz-zzz"), Err(PolicyError::Denied(_))),
            "a field that nothing names"
        );
        assert_eq!(with("x-ignore-zzz"), Ok(()));
    }
}

/// One condition more allows nothing more; one fewer only leaves its field unnamed.
fn narrower(document: &Value, fields: &Fields) {
    let check = |document: &Value| {
        let policy = Policy::parse(&BASE64.encode(document.to_string()));
        policy
            .expect("conditions alone have changed")
            .check(fields, BUCKET, NOW_MS)
    };
    let mut more = document.clone();
    let conditions = more["conditions"].as_array_mut().expect("conditions");
    conditions.push(serde_json::json!(["eq", "$zzz-absent", ""]));
    if !fields.contains_key("zzz-absent") {
        assert!(
            check(&more).is_err(),
            "a field that is not there satisfies nothing"
        );
    }
    let mut fewer = document.clone();
    let conditions = fewer["conditions"].as_array_mut().expect("conditions");
    if conditions.pop().is_some() {
        let unnamed =
            |e: &PolicyError| matches!(e, PolicyError::Denied(why) if why.starts_with("Extra input fields"));
        assert!(check(&fewer).is_ok_and(|()| true) || check(&fewer).as_ref().is_err_and(unnamed));
    }
}
