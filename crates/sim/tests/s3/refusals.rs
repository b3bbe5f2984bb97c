//! What is not built, and what is not configured.

use crate::{code, is, with_bucket};

#[tokio::test]
async fn what_is_not_there_is_refused_by_name() {
    let face = with_bucket().await;
    face.put("/bucket/k", "x").await;
    let cases = [
        ("PUT", "/bucket/k?retention", 501, "NotImplemented"),
        ("PUT", "/bucket/k?frobnicate", 501, "NotImplemented"),
        ("DELETE", "/bucket/k?frobnicate", 501, "NotImplemented"),
        ("PUT", "/bucket?policy", 501, "NotImplemented"),
        ("PUT", "/bucket?encryption", 501, "NotImplemented"),
        ("DELETE", "/bucket?policy", 204, ""),
        (
            "GET",
            "/bucket?encryption",
            404,
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        ("GET", "/bucket?policyStatus", 404, "NoSuchBucketPolicy"),
        ("GET", "/bucket?inventory", 200, ""),
        ("GET", "/bucket?inventory&id=x", 404, "NoSuchConfiguration"),
        ("DELETE", "/bucket?inventory&id=x", 404, "NoSuchConfiguration"),
        ("GET", "/bucket/k?retention", 400, "InvalidRequest"),
        ("POST", "/bucket/k", 405, "MethodNotAllowed"),
        ("GET", "/bucket?policy", 404, "NoSuchBucketPolicy"),
        ("GET", "/bucket?lifecycle", 404, "NoSuchLifecycleConfiguration"),
        ("GET", "/bucket?cors", 404, "NoSuchCORSConfiguration"),
        ("GET", "/bucket?tagging", 404, "NoSuchTagSet"),
        ("GET", "/bucket?versioning", 200, ""),
        ("GET", "/bucket?acl", 200, ""),
        ("GET", "/bucket/k?acl", 200, ""),
        ("GET", "/bucket/k?tagging", 200, ""),
        ("GET", "/bucket/absent?acl", 404, "NoSuchKey"),
        ("GET", "/absent?versioning", 404, "NoSuchBucket"),
    ];
    for (method, target, status, name) in cases {
        let answer = face.ask(method, target).send().await;
        assert_eq!(code(&answer), is(status, name), "{method} {target}");
    }
    for (name, value) in [("x-amz-server-side-encryption", "AES256")] {
        let answer = face
            .ask("PUT", "/bucket/k")
            .header(name, value)
            .body("changed")
            .send()
            .await;
        assert_eq!(code(&answer), is(501, "NotImplemented"), "{name}");
    }
    assert_eq!(
        face.get("/bucket/k").await.text(),
        "x",
        "nothing refused had an effect"
    );
    assert!(
        face.get("/bucket?acl")
            .await
            .text()
            .contains("<Permission>FULL_CONTROL</Permission>")
    );
}
