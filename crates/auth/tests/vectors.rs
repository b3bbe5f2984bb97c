//! The examples that AWS documents, byte for byte.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>,
//! sigv4-query-string-auth.html, sigv4-streaming.html and sigv4-streaming-trailers.html beside it.

use auth::{AccessKey, AccessKeyId, Keys, PayloadMode, SecretKey, Verified, verify};
use aws_lc_rs::digest::{SHA256, digest};
use http::Request;
use http::request::Parts;
use types::AccountId;

/// 2013-05-24T00:00:00Z.
const NOW_MS: u64 = 1_369_353_600_000;
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn keys() -> Keys {
    let mut keys = Keys::default();
    assert!(keys.add(AccessKey {
        id: AccessKeyId("AKIAIOSFODNN7EXAMPLE".into()),
        secret: SecretKey("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
        account: AccountId(7),
    }));
    keys
}

/// A request with `Authorization` made of signed header names and signature.
fn request(method: &str, uri: &str, headers: &[(&str, &str)], signature: &str) -> Parts {
    let mut signed: Vec<_> = headers.iter().map(|(n, _)| n.to_ascii_lowercase()).collect();
    signed.sort();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders={},Signature={signature}",
        signed.join(";")
    );
    let mut builder = Request::builder()
        .method(method)
        .uri(uri)
        .header("authorization", authorization);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn verified(parts: &Parts) -> Verified {
    let verified = verify(parts, &keys(), "us-east-1", NOW_MS).unwrap();
    assert_eq!(
        (verified.account, verified.access_key.0.as_str()),
        (AccountId(7), "AKIAIOSFODNN7EXAMPLE")
    );
    verified
}

const HOST: (&str, &str) = ("Host", "examplebucket.s3.amazonaws.com");
const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");

#[test]
fn get_object() {
    let headers = [
        HOST,
        ("Range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY),
        DATE,
    ];
    let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    let v = verified(&request("GET", "/test.txt", &headers, signature));
    assert!(matches!(v.payload, PayloadMode::Sha256(s) if s[..2] == [0xe3, 0xb0]));
    assert!(!v.presigned);
}

#[test]
fn put_object() {
    let headers = [
        HOST,
        ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
        DATE,
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        (
            "x-amz-content-sha256",
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        ),
    ];
    let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
    verified(&request("PUT", "/test$file.text", &headers, signature));
    verified(&request("PUT", "/test%24file.text", &headers, signature));
}

#[test]
fn get_bucket_lifecycle() {
    let headers = [HOST, DATE, ("x-amz-content-sha256", EMPTY)];
    let signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    verified(&request("GET", "/?lifecycle", &headers, signature));
    verified(&request("GET", "/?lifecycle=", &headers, signature));
}

#[test]
fn list_objects() {
    let headers = [HOST, DATE, ("x-amz-content-sha256", EMPTY)];
    let signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    verified(&request("GET", "/?max-keys=2&prefix=J", &headers, signature));
    verified(&request("GET", "/?prefix=J&max-keys=2", &headers, signature));
}

#[test]
fn presigned_get() {
    let uri = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z\
        &X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let parts = Request::get(uri)
        .header(HOST.0, HOST.1)
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let v = verified(&parts);
    assert_eq!(v.payload, PayloadMode::Unsigned);
    assert!(v.presigned);
}

fn chunked(payload: &'static str, extra: &[(&'static str, &'static str)], signature: &str) -> Verified {
    let mut headers = vec![
        ("Host", "s3.amazonaws.com"),
        DATE,
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-content-sha256", payload),
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
    ];
    headers.extend_from_slice(extra);
    verified(&request(
        "PUT",
        "/examplebucket/chunkObject.txt",
        &headers,
        signature,
    ))
}

fn frame_signatures(v: &mut Verified) -> Vec<String> {
    [65536, 1024, 0]
        .map(|size| {
            v.signing
                .frame(digest(&SHA256, &vec![b'a'; size]).as_ref())
                .as_str()
                .to_owned()
        })
        .to_vec()
}

#[test]
fn chunked_upload() {
    let mut v = chunked(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        &[("Content-Length", "66824")],
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    assert_eq!(v.payload, PayloadMode::SignedFrames);
    assert_eq!(
        frame_signatures(&mut v),
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ]
    );
}

#[test]
fn chunked_upload_with_a_trailer() {
    let mut v = chunked(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        &[("x-amz-trailer", "x-amz-checksum-crc32c")],
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    assert_eq!(
        frame_signatures(&mut v),
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ]
    );
    assert_eq!(
        v.signing.trailer(b"x-amz-checksum-crc32c:sOO8/Q==\n").as_str(),
        "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
    );
}
