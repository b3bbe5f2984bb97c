//! What clients are told when a role fails, and the page of all that they can be told.
//!
//! These codes have no cause that a client could bring about, so that roles that fail on purpose stand in for disks and gateways that do. Every
//! other code is provoked from outside (tests/blackbox/test_error_codes.py, which reads the same page).

use crate::client::{Bench, signed, written};
use crate::roles::{Failing, UPLOAD};
use s3::Code;
use std::fmt::Write as _;
use types::ErrorKind;
use wire::index::Reason;

const PAGE: &str = include_str!("../../../../docs/operating/error-codes.md");
const HERE: &str = "failing roles";
const OUTSIDE: &str = "a client";

/// How a role fails, and what the client is told.
const FAILURES: [(Failing, Code); 6] = [
    (Failing::Reads(ErrorKind::Busy), Code::SlowDown),
    (Failing::Reads(ErrorKind::Full), Code::InsufficientStorage),
    (Failing::Reads(ErrorKind::Unavailable), Code::ServiceUnavailable),
    (Failing::Reads(ErrorKind::Fault), Code::InternalError),
    (Failing::Refuses(Reason::UploadBusy), Code::OperationAborted),
    (Failing::Refuses(Reason::TooManyParts), Code::TooManyParts), // of ten thousand appends
];

#[test]
fn a_role_that_fails_has_a_code() {
    crate::block_on(async {
        for (how, code) in FAILURES {
            let bench = Bench::new();
            bench.index.fail(how);
            let (method, uri) = match how {
                Failing::Reads(_) => ("GET", "/bucket/key".to_owned()),
                Failing::Refuses(_) => ("DELETE", format!("/bucket/key?uploadId={UPLOAD}")),
            };
            let head = signed(bench.now_ms(), method, &uri, &[], "UNSIGNED-PAYLOAD");
            let answer = bench.send(&written(&head)).await;
            let told = (answer.status, answer.code.as_deref());
            assert_eq!(told, (Some(code.status().as_u16()), Some(code.name())), "{how:?}");
        }
    });
}

/// The page is made from the codes; tests in both places read it, so that no code is without one.
#[test]
fn the_page_of_codes_is_up_to_date() {
    let mut page = String::from(
        "# Error codes\n\nWhat Cairn answers when it refuses or fails: an S3 error document with one of these codes. Each is provoked by a test: \
         through a client\n(tests/blackbox/test_error_codes.py), or, where no client can bring it about, with roles that fail on purpose\n\
         (crates/s3/tests/malformed/failing.rs).\n\n| code | status | what it says, where it says nothing closer | provoked by |\n|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let here = FAILURES.iter().any(|(_, c)| c == code);
        let by = if here { HERE } else { OUTSIDE };
        let (name, status, says) = (code.name(), code.status().as_u16(), code.message());
        writeln!(page, "| {name} | {status} | {says} | {by} |").unwrap();
    }
    if page != PAGE {
        let made = concat!(env!("CARGO_TARGET_TMPDIR"), "/error-codes.md");
        std::fs::write(made, &page).unwrap();
        panic!(
            "docs/operating/error-codes.md is stale: put {made} in its place, and a test for what is new in tests/blackbox/test_error_codes.py"
        );
    }
}
