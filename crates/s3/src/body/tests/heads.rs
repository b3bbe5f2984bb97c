//! Heads that contradict themselves.

use super::fixture::*;
use crate::body::{BodyRefusal, strip_aws_chunked};
use types::limits::PUT_BYTES_MAX;

fn refusal(payload: &str, headers: &[(&str, &str)]) -> BodyRefusal {
    planned(&head(payload, headers))
        .and_then(|plan| plan.length())
        .unwrap_err()
}

#[test]
fn lengths() {
    let plan = planned(&head(UNSIGNED, &[("content-length", "12")])).unwrap();
    assert_eq!(plan.length(), Ok(12));
    let framed = [("content-length", "120"), ("x-amz-decoded-content-length", "12")];
    assert_eq!(planned(&head(SIGNED, &framed)).unwrap().length(), Ok(12));
    assert_eq!(refusal(UNSIGNED, &[]), BodyRefusal::MissingContentLength);
    assert_eq!(
        refusal(SIGNED, &[("content-length", "12")]),
        BodyRefusal::MissingContentLength
    );
    let lying = [("content-length", "11"), ("x-amz-decoded-content-length", "12")];
    assert_eq!(
        refusal(SIGNED, &lying),
        BodyRefusal::IncompleteBody {
            expected: 12,
            provided: 11
        }
    );
    for bad in ["", "x", "-1", "+1", "1 2", "0x10", "18446744073709551616"] {
        let got = refusal(SIGNED, &[("x-amz-decoded-content-length", bad)]);
        assert!(
            matches!(
                got,
                BodyRefusal::InvalidArgument {
                    name: "x-amz-decoded-content-length",
                    ..
                }
            ),
            "{bad}"
        );
    }
    let twice = [
        ("x-amz-decoded-content-length", "1"),
        ("x-amz-decoded-content-length", "1"),
    ];
    assert!(matches!(
        refusal(SIGNED, &twice),
        BodyRefusal::InvalidArgument { .. }
    ));
}

#[test]
fn objects_have_a_largest_size() {
    let too_large = BodyRefusal::EntityTooLarge {
        size: PUT_BYTES_MAX + 1,
        max: PUT_BYTES_MAX,
    };
    let size = (PUT_BYTES_MAX + 1).to_string();
    assert_eq!(refusal(UNSIGNED, &[("content-length", &size)]), too_large);
    assert_eq!(
        refusal(SIGNED, &[("x-amz-decoded-content-length", &size)]),
        too_large
    );
    let fits = PUT_BYTES_MAX.to_string();
    assert_eq!(
        planned(&head(UNSIGNED, &[("content-length", &fits)]))
            .unwrap()
            .length(),
        Ok(PUT_BYTES_MAX)
    );
}

#[test]
fn trailers_are_announced_and_one() {
    let length = ("x-amz-decoded-content-length", "1");
    for (payload, trailer) in [
        (UNSIGNED, "x-amz-checksum-crc32"),
        (SIGNED, "x-amz-checksum-crc32"),
        (UNSIGNED_TRAILER, "x-amz-meta-a"),
        (UNSIGNED_TRAILER, "x-amz-checksum-md5"),
        (UNSIGNED_TRAILER, "x-amz-checksum-crc32,x-amz-checksum-sha1"),
    ] {
        let got = refusal(payload, &[length, ("x-amz-trailer", trailer)]);
        assert!(
            matches!(got, BodyRefusal::InvalidRequest(_)),
            "{payload} {trailer}: {got:?}"
        );
    }
    let plan = planned(&head(
        UNSIGNED_TRAILER,
        &[length, ("x-amz-trailer", "X-Amz-Checksum-CRC64NVME")],
    ))
    .unwrap();
    assert_eq!(plan.trailing(), [types::ChecksumAlgorithm::Crc64Nvme]);
}

#[test]
fn aws_chunked_is_no_encoding_of_the_object() {
    for (sent, kept) in [
        ("aws-chunked", None),
        ("AWS-Chunked", None),
        ("", None),
        ("gzip", Some("gzip")),
        ("aws-chunked,gzip", Some("gzip")),
        ("gzip, aws-chunked", Some("gzip")),
        ("aws-chunked, gzip,aws-chunked,br", Some("gzip,br")),
    ] {
        assert_eq!(strip_aws_chunked(sent).as_deref(), kept, "{sent}");
    }
}
