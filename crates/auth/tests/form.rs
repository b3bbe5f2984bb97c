//! Signed POST forms and their policies: what is taken, and that nothing else is. // I9

use auth::{
    AccessKey, AccessKeyId, AuthError, Denial, Fields, Keys, Policy, PolicyError, SecretKey, SigningKey,
    verify_form,
};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;
use types::AccountId;

/// 2026-11-22T00:00:00Z.
const NOW_MS: u64 = 1_795_305_600_000;
const REGION: &str = "eu-west-1";
const LATER: &str = "2026-11-22T00:00:01.500Z";

fn keys() -> Keys {
    let mut keys = Keys::default();
    assert!(keys.add(AccessKey {
        id: AccessKeyId("AKID".into()),
        secret: SecretKey("secret".into()),
        account: AccountId(3),
    }));
    keys
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

fn signed_by_sha256(policy: &str) -> Fields {
    let signature = SigningKey::derive("secret", "20261122", REGION).sign(policy.as_bytes());
    fields(&[
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", "AKID/20261122/eu-west-1/s3/aws4_request"),
        ("x-amz-date", "20261122T000000Z"),
        ("policy", policy),
        ("x-amz-signature", signature.as_str()),
    ])
}

fn signed_by_sha1(policy: &str) -> Fields {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"secret");
    let signature = BASE64.encode(hmac::sign(&key, policy.as_bytes()));
    fields(&[
        ("awsaccesskeyid", "AKID"),
        ("policy", policy),
        ("signature", &signature),
    ])
}

fn verify(fields: &Fields) -> Result<AccountId, AuthError> {
    verify_form(fields, &keys(), REGION).map(|key| key.account)
}

#[test]
fn both_versions_sign_the_policy() {
    for signed in [signed_by_sha256("cG9saWN5"), signed_by_sha1("cG9saWN5")] {
        assert_eq!(verify(&signed), Ok(AccountId(3)));
        let mut other = signed.clone();
        other.insert("policy".into(), "cG9saWNZ".into());
        assert!(matches!(verify(&other), Err(AuthError::SignatureDoesNotMatch(_))));
        // The signature covers nothing else: what the form says beside it is the policy's to judge.
        let mut more = signed.clone();
        more.insert("key".into(), "k".into());
        assert_eq!(verify(&more), Ok(AccountId(3)));
    }
}

#[test]
fn what_is_missing_is_named() {
    let v4 = signed_by_sha256("cG9saWN5");
    for (name, named) in [
        ("x-amz-algorithm", "X-Amz-Algorithm"),
        ("x-amz-credential", "X-Amz-Credential"),
        ("x-amz-date", "X-Amz-Date"),
        ("x-amz-signature", "X-Amz-Signature"),
        ("policy", "Policy"),
    ] {
        let mut less = v4.clone();
        less.remove(name);
        assert_eq!(verify(&less), Err(AuthError::MissingField { name: named }));
        less.insert(name.into(), String::new());
        assert_eq!(verify(&less), Err(AuthError::MissingField { name: named }));
    }
    let v2 = signed_by_sha1("cG9saWN5");
    for (name, named) in [
        ("awsaccesskeyid", "AWSAccessKeyId"),
        ("signature", "Signature"),
        ("policy", "Policy"),
    ] {
        let mut less = v2.clone();
        less.remove(name);
        assert_eq!(verify(&less), Err(AuthError::MissingField { name: named }));
    }
    let unsigned = fields(&[("key", "k"), ("policy", "cG9saWN5")]);
    assert_eq!(verify(&unsigned), Err(Denial::Anonymous.into()));
}

#[test]
fn who_is_not_known_or_not_sure_is_refused() {
    let with = |name: &str, value: &str| {
        let mut changed = signed_by_sha256("cG9saWN5");
        changed.insert(name.into(), value.into());
        verify(&changed)
    };
    assert!(matches!(
        with("x-amz-credential", "OTHER/20261122/eu-west-1/s3/aws4_request"),
        Err(AuthError::InvalidAccessKeyId { .. })
    ));
    assert!(matches!(
        with("x-amz-credential", "AKID/20261122/us-east-1/s3/aws4_request"),
        Err(AuthError::AuthorizationQueryParametersError { region: Some(r), .. }) if r == REGION
    ));
    assert!(matches!(
        with("x-amz-credential", "AKID/20261121/eu-west-1/s3/aws4_request"),
        Err(AuthError::AuthorizationQueryParametersError { .. })
    ));
    assert!(matches!(
        with("x-amz-algorithm", "AWS4"),
        Err(AuthError::InvalidArgument { .. })
    ));
    assert!(matches!(
        with("x-amz-date", "today"),
        Err(AuthError::InvalidArgument { .. })
    ));
    assert_eq!(with("x-amz-security-token", "t"), Err(AuthError::InvalidToken));
    assert!(matches!(
        with("signature", "x"),
        Err(AuthError::InvalidRequest(_))
    ));
}

fn policy(conditions: &str) -> Result<Policy, PolicyError> {
    let document = format!("{{\"expiration\": \"{LATER}\", \"conditions\": [{conditions}]}}");
    Policy::parse(&BASE64.encode(document))
}

fn judge(conditions: &str, given: &[(&str, &str)]) -> Result<(), String> {
    let policy = policy(conditions).map_err(|e| e.to_string())?;
    policy
        .check(&fields(given), "b", NOW_MS)
        .map_err(|e| e.to_string())
}

const B: &str = "{\"bucket\": \"b\"}";

#[test]
fn each_content_type_of_a_list_begins_so() {
    let conditions = format!("{B}, [\"starts-with\", \"$Content-Type\", \"image/\"]");
    let allows = |types| judge(&conditions, &[("content-type", types)]).is_ok();
    assert!(allows("image/png") && allows("image/png, image/gif"));
    assert!(!allows("image/png,text/html") && !allows("text/html,image/png"));
    // Another field is one text.
    let keys = format!("{B}, [\"starts-with\", \"$key\", \"a\"]");
    assert_eq!(judge(&keys, &[("key", "a,b")]), Ok(()));
}

#[test]
fn conditions_hold_or_are_named() {
    let failed = |what: &str| {
        Err(format!(
            "Invalid according to Policy: Policy Condition failed: {what}"
        ))
    };
    let extra = |what: &str| Err(format!("Invalid according to Policy: Extra input fields: {what}"));
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<(), String>);
    let cases: &[Case<'_>] = &[
        ("{\"acl\": \"private\"}", &[("acl", "private")], Ok(())),
        ("{\"AcL\": \"private\"}", &[("acl", "private")], Ok(())),
        ("[\"eq\", \"$KEY\", \"a b\"]", &[("key", "a b")], Ok(())),
        ("[\"StArTs-WiTh\", \"$key\", \"u/\"]", &[("key", "u/x")], Ok(())),
        ("[\"starts-with\", \"$key\", \"\"]", &[("key", "x")], Ok(())),
        (
            "{\"success_action_status\": 201}",
            &[("success_action_status", "201")],
            Ok(()),
        ),
        (
            "{\"acl\": \"private\"}",
            &[("acl", "Private")],
            failed("[\"eq\", \"$acl\", \"private\"]"),
        ),
        (
            "[\"starts-with\", \"$key\", \"\"]",
            &[],
            failed("[\"starts-with\", \"$key\", \"\"]"),
        ),
        (
            "[\"starts-with\", \"$key\", \"a\\\"\"]",
            &[("key", "b")],
            failed("[\"starts-with\", \"$key\", \"a\\\"\"]"),
        ),
        (
            "[\"eq\", \"key\", \"k\"]",
            &[("key", "k")],
            failed("[\"eq\", \"key\", \"k\"]"),
        ),
        (
            "[\"content-length-range\", \"test\", \"10\"]",
            &[],
            failed("[\"content-length-range\", \"test\", \"10\"]"),
        ),
        ("", &[("key", "k"), ("acl", "private")], extra("acl, key")),
        (
            "",
            &[
                ("policy", ""),
                ("signature", ""),
                ("x-amz-signature", ""),
                ("awsaccesskeyid", ""),
                ("x-ignore-me", ""),
                ("x-amz-checksum-crc32", ""),
            ],
            Ok(()),
        ),
        // The form's own word for where it goes does not count.
        ("", &[("bucket", "other")], Ok(())),
    ];
    for (conditions, given, expected) in cases {
        let all = if conditions.is_empty() {
            B.to_owned()
        } else {
            format!("{B}, {conditions}")
        };
        assert_eq!(judge(&all, given), *expected, "{conditions} {given:?}");
    }
}

#[test]
fn a_policy_says_where_to() {
    assert_eq!(
        judge("", &[]),
        Err("Invalid according to Policy: Extra input fields: bucket".into())
    );
    assert_eq!(
        judge("{\"bucket\": \"c\"}", &[("bucket", "c")]),
        Err("Invalid according to Policy: Policy Condition failed: [\"eq\", \"$bucket\", \"c\"]".into())
    );
}

#[test]
fn time_and_length() {
    let p = policy(B).unwrap();
    let at = |ms| p.check(&Fields::new(), "b", ms).is_ok();
    assert!(at(NOW_MS + 1499) && !at(NOW_MS + 1500));
    assert_eq!(p.length(), (0, u64::MAX));
    let range = "[\"content-length-range\", 5, \"10\"], [\"content-length-range\", 0, 8]";
    assert_eq!(policy(range).unwrap().length(), (5, 8));
}

#[test]
fn what_is_no_policy() {
    let all = |s: &str| Policy::parse(&BASE64.encode(s)).map_err(|e| e.to_string());
    let cases = [
        ("", "Invalid JSON."),
        ("[]", "Invalid JSON."),
        ("{\"conditions\": []}", "Policy missing expiration."),
        (
            "{\"EXPIRATION\": \"x\", \"conditions\": []}",
            "Unexpected: 'EXPIRATION'",
        ),
        (
            "{\"expiration\": \"2026-11-22T00:00:00Z\"}",
            "Policy missing conditions.",
        ),
        (
            "{\"expiration\": \"2026-11-22T00:00:00Z\", \"conditions\": {}}",
            "Policy missing conditions.",
        ),
        (
            "{\"expiration\": \"2026-11-22 00:00:00Z\", \"conditions\": []}",
            "Invalid 'expiration' value",
        ),
        (
            "{\"expiration\": \"2026-11-22T00:00:00+01:00\", \"conditions\": []}",
            "Invalid 'expiration' value",
        ),
        (
            "{\"expiration\": \"1960-11-22T00:00:00Z\", \"conditions\": []}",
            "Invalid 'expiration' value",
        ),
        (
            "{\"expiration\": 7, \"conditions\": []}",
            "Invalid 'expiration' value",
        ),
    ];
    for (document, says) in cases {
        let refusal = all(document).unwrap_err();
        assert!(
            refusal.starts_with("Invalid Policy: ") && refusal.contains(says),
            "{document}: {refusal}"
        );
    }
    for bad in [
        "{}",
        "{\"a\": \"1\", \"b\": \"2\"}",
        "{\"a\": null}",
        "[]",
        "[\"eq\", \"$key\"]",
        "[\"eq\", 1, \"x\"]",
        "[\"gt\", \"$key\", \"x\"]",
        "[\"content-length-range\", 0]",
        "[\"content-length-range\", -1, 0]",
        "7",
    ] {
        assert!(matches!(policy(bad), Err(PolicyError::Invalid(_))), "{bad}");
    }
    assert!(Policy::parse("%%%").is_err());
}

proptest! {
    #[test]
    fn rejects_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
        // Whatever it is, it is answered; and what was not written as a policy is none.
        prop_assert!(Policy::parse(&BASE64.encode(&bytes)).is_err());
        prop_assert!(Policy::parse(&text).is_err());
    }

    #[test]
    fn broken_policies_do_not_panic(at in 0..400usize, by in any::<u8>()) {
        let document = format!(
            "{{\"expiration\": \"{LATER}\", \"conditions\": [{B}, [\"starts-with\", \"$key\", \"a\"], \
             [\"content-length-range\", 1, 2]]}}"
        );
        let mut bytes = document.into_bytes();
        let at = at % bytes.len();
        bytes[at] = by;
        if let Ok(policy) = Policy::parse(&BASE64.encode(&bytes)) {
            let _judged = policy.check(&fields(&[("key", "a")]), "b", NOW_MS);
        }
    }

    #[test]
    fn no_field_slips_in(name in "[a-z-]{1,12}", value in "\\PC{0,8}") {
        // What the policy does not name is refused, whatever it is called.
        let free = ["policy", "signature", "file", "bucket", "awsaccesskeyid"].contains(&name.as_str())
            || name.starts_with("x-ignore-") || name == "x-amz-signature";
        prop_assert_eq!(judge(B, &[(&name, &value)]).is_ok(), free);
    }

    #[test]
    fn a_changed_policy_is_not_signed(at in 0..8usize, by in 0..8usize) {
        let policy = "cG9saWN5";
        let mut changed = policy.as_bytes().to_vec();
        changed[at] = b"ABCDEFGH"[by];
        let changed = String::from_utf8(changed).unwrap();
        prop_assume!(changed != policy);
        for mut signed in [signed_by_sha256(policy), signed_by_sha1(policy)] {
            signed.insert("policy".into(), changed.clone());
            prop_assert!(verify(&signed).is_err());
        }
    }
}
