//! Framed bodies that are whole: AWS's own examples, every form, every way to cut them.

use super::fixture::*;
use auth::{AccessKeyId, Keys, verify};
use http::Request;
use proptest::prelude::*;
use types::ChecksumAlgorithm;

const CRC32C: &str = "x-amz-checksum-crc32c";

/// The documented request: 64 KiB and 1 KiB of `a`.
fn example(payload: &str, extra: (&str, &str), signature: &str) -> crate::body::BodyPlan {
    let mut headers = vec![
        ("host", "s3.amazonaws.com"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-content-sha256", payload),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        extra,
    ];
    headers.sort();
    let names: Vec<_> = headers.iter().map(|h| h.0).collect();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/20130524/us-east-1/s3/aws4_request,SignedHeaders={},Signature={signature}",
        AccessKeyId("AKIAIOSFODNN7EXAMPLE".into()),
        names.join(";")
    );
    let mut request = Request::put("/examplebucket/chunkObject.txt").header("authorization", authorization);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let parts = request.body(()).unwrap().into_parts().0;
    let mut keys = Keys::default();
    assert!(keys.add(key()));
    crate::body::plan(&parts, &verify(&parts, &keys, "us-east-1", NOW_MS).unwrap()).unwrap()
}

fn example_wire(signatures: [&str; 3], end: &str) -> Vec<u8> {
    let a = |n: usize| "a".repeat(n);
    format!(
        "10000;chunk-signature={}\r\n{}\r\n400;chunk-signature={}\r\n{}\r\n0;chunk-signature={}\r\n{end}\r\n",
        signatures[0],
        a(65536),
        signatures[1],
        a(1024),
        signatures[2]
    )
    .into_bytes()
}

#[test]
fn documented_chunked_upload() {
    let plan = example(
        SIGNED,
        ("content-length", "66824"),
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let wire = example_wire(
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ],
        "",
    );
    assert_eq!(wire.len(), 66824);
    let (bytes, end) = read(plan, pieces(&wire, &[]));
    assert_eq!((bytes.len(), end), (66560, Ok(vec![])));
}

#[test]
fn documented_upload_with_a_trailer() {
    let signatures = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    let signature = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    // The second form is what some clients write.
    for line_end in ["\r\n", "\n\r\n"] {
        let plan = example(
            SIGNED_TRAILER,
            ("x-amz-trailer", CRC32C),
            "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        );
        assert_eq!(plan.trailing(), [ChecksumAlgorithm::Crc32c]);
        let end = format!("{CRC32C}:sOO8/Q=={line_end}x-amz-trailer-signature:{signature}\r\n");
        let (bytes, end) = read(plan, pieces(&example_wire(signatures, &end), &[70_000]));
        let checksums = end.unwrap();
        assert_eq!(bytes, vec![b'a'; 66560]);
        assert_eq!(
            (checksums[0].algorithm, checksums[0].value.as_slice()),
            (ChecksumAlgorithm::Crc32c, &[0xb0, 0xe3, 0xbc, 0xfd][..])
        );
    }
}

#[test]
fn an_empty_object_has_one_empty_frame() {
    for (payload, trailer) in [
        (SIGNED, None),
        (SIGNED_TRAILER, Some((CRC32C, "AAAAAA=="))),
        (UNSIGNED_TRAILER, None),
    ] {
        let plan = framed(payload, 0, trailer.map(|t| t.0));
        let wire = encode(&plan, b"", 8192, trailer);
        let (bytes, end) = read(plan, pieces(&wire, &[1, 1, 1]));
        assert_eq!(
            (bytes.len(), end.unwrap().len()),
            (0, usize::from(trailer.is_some())),
            "{payload}"
        );
    }
}

#[test]
fn a_large_frame_flows_while_it_comes() {
    let data = vec![7; 1 << 20];
    let plan = framed(SIGNED, data.len(), None);
    let wire = encode(&plan, &data, data.len(), None);
    let (connection, clock) = connection(pieces(&wire[..1 << 19], &[]));
    let (mut body, _) = crate::body::open(plan, connection, clock);
    // The frame is not whole, its signature not checked; half of it is here all the same.
    let first = block_on(body.next()).unwrap().unwrap();
    assert_eq!(first.len(), (1 << 19) - "100000;chunk-signature=\r\n".len() - 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn cutting_changes_nothing(
        form in 0..3usize,
        data in prop::collection::vec(any::<u8>(), 0..40_000),
        frame_bytes in 8192..20_000usize,
        cuts in prop::collection::vec(0..9000usize, 0..40),
    ) {
        let payload = [SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER][form];
        let trailer = (form > 0).then_some((CRC32C, "sOO8/Q=="));
        let plan = framed(payload, data.len(), trailer.map(|t| t.0));
        let wire = encode(&plan, &data, frame_bytes, trailer);
        let (bytes, end) = read(plan, pieces(&wire, &cuts));
        prop_assert_eq!(bytes, data);
        prop_assert_eq!(end.unwrap().len(), usize::from(form > 0));
    }
}

#[test]
fn one_byte_at_a_time() {
    let data: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
    let plan = framed(SIGNED_TRAILER, data.len(), Some(CRC32C));
    let wire = encode(&plan, &data, 9000, Some((CRC32C, "sOO8/Q==")));
    let (bytes, end) = read(plan, pieces(&wire, &vec![1; wire.len()]));
    assert_eq!(bytes, data);
    end.unwrap();
}
