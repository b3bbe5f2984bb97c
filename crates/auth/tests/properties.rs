//! Whatever is changed on the way is refused; whatever is sent is answered. // I9

use auth::{AccessKey, AccessKeyId, Keys, SecretKey, signer, verify};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use proptest::prelude::*;
use types::AccountId;

const NOW_MS: u64 = 1_795_219_200_000;
const REGION: &str = "us-east-1";

fn key() -> AccessKey {
    AccessKey {
        id: AccessKeyId("AKID".into()),
        secret: SecretKey("secret".into()),
        account: AccountId(3),
    }
}

fn passes(parts: &Parts) -> bool {
    let mut keys = Keys::default();
    assert!(keys.add(key()));
    verify(parts, &keys, REGION, NOW_MS).is_ok()
}

fn base(path: &str, value: &str, presign: bool) -> Parts {
    let mut parts = Request::put(format!("{path}?list-type=2&prefix=abc"))
        .header("host", "bucket.localhost:9000")
        .header("content-type", "text/plain")
        .header("x-amz-meta-a", value)
        .body(())
        .unwrap()
        .into_parts()
        .0;
    if presign {
        signer::presign(&mut parts, &key(), REGION, NOW_MS, 3600).unwrap();
    } else {
        signer::sign(&mut parts, &key(), REGION, NOW_MS, "UNSIGNED-PAYLOAD").unwrap();
    }
    parts
}

/// `text` with the character at `at` replaced by another of `alphabet`. None of these mean the same as another.
fn changed(text: &str, at: usize, by: usize, alphabet: &[u8]) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let i = at % bytes.len();
    let new = alphabet[by % alphabet.len()];
    // The digits of an escape mean the same in either case.
    let escape = bytes[i.saturating_sub(2)..i].contains(&b'%');
    let same = bytes[i] == new || (escape && bytes[i].eq_ignore_ascii_case(&new));
    if same || !alphabet.contains(&bytes[i]) {
        return None;
    }
    bytes[i] = new;
    String::from_utf8(bytes).ok()
}

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_changed_character_is_refused(presign: bool, what in 0..4usize, at: prop::sample::Index, by: prop::sample::Index) {
        let good = base("/some/key.txt", "value-1", presign);
        prop_assert!(passes(&good));
        let mut bad = good.clone();
        let (at, by) = (at.index(10_000), by.index(LETTERS.len()));
        let done = match what {
            0 => changed(&good.uri.to_string(), at, by, LETTERS).and_then(|u| u.parse().ok()).map(|u| bad.uri = u),
            1 => {
                let i = at % good.headers.len();
                let (name, value) = good.headers.iter().nth(i).unwrap();
                changed(value.to_str().unwrap(), at / 7, by, LETTERS)
                    .map(|v| { bad.headers.insert(name.clone(), HeaderValue::from_str(&v).unwrap()); })
            }
            2 => {
                let i = at % good.headers.len();
                let name = good.headers.keys().nth(i).unwrap().clone();
                bad.headers.remove(&name);
                Some(())
            }
            _ => { bad.method = [Method::GET, Method::DELETE, Method::POST, Method::HEAD][by % 4].clone(); Some(()) }
        };
        prop_assume!(done.is_some());
        prop_assert!(!passes(&bad), "{bad:?}");
    }

    #[test]
    fn what_a_client_signs_passes(segments in prop::collection::vec("\\PC{0,8}", 1..4), value in "[ -~]{0,20}", presign: bool) {
        let path: String = segments.iter().map(|s| format!("/{}", auth::uri::encode(s.as_bytes(), false))).collect();
        prop_assert!(passes(&base(&path, &value, presign)));
    }

    #[test]
    fn garbage_is_refused(
        authorization in "(AWS4-HMAC-SHA256 )?\\PC{0,60}",
        query in "[ -~&&[^#]]{0,80}",
        name in "x-amz-[a-z]{1,8}",
        value: Vec<u8>,
    ) {
        let mut parts = base("/k", "v", false);
        if let Ok(v) = HeaderValue::from_bytes(authorization.as_bytes()) { parts.headers.insert("authorization", v); }
        if let Ok(u) = format!("/k?{}", query.replace(' ', "%")).parse() { parts.uri = u; }
        if let Ok(v) = HeaderValue::from_bytes(&value) { parts.headers.insert(HeaderName::try_from(name).unwrap(), v); }
        prop_assert!(!passes(&parts));
    }

    #[test]
    fn garbage_about_the_pieces_is_refused(
        credential in "[A-Z/0-9a-z_-]{0,60}", date in "[0-9TZ]{0,17}", expires in "[-+0-9]{0,30}",
        signed in "[a-z;A-Z-]{0,30}", signature in "[0-9a-f]{0,70}",
    ) {
        let uri = format!(
            "/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}&X-Amz-Expires={expires}\
             &X-Amz-SignedHeaders={signed}&X-Amz-Signature={signature}"
        );
        let parts = Request::get(uri).header("host", "h").body(()).unwrap().into_parts().0;
        prop_assert!(!passes(&parts));
        let header = format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={signed},Signature={signature}");
        let parts = Request::get("/k").header("host", "h").header("x-amz-date", date).header("authorization", header)
            .body(()).unwrap().into_parts().0;
        prop_assert!(!passes(&parts));
    }
}
