//! Buckets, and who may ask for them.

use crate::face::face;
use crate::{code, is, with_bucket};

#[tokio::test]
async fn buckets_live_and_die() {
    let face = face().await;
    assert_eq!(code(&face.get("/bucket").await), is(404, "NoSuchBucket"));
    let made = face.put("/bucket", "").await;
    assert_eq!((made.status, made.header("location")), (200, "/bucket"));
    assert_eq!(
        face.put("/bucket", "").await.status,
        200,
        "one's own again, in the first region"
    );
    let head = face.ask("HEAD", "/bucket").send().await;
    assert_eq!(
        (head.status, head.header("x-amz-bucket-region")),
        (200, "us-east-1")
    );
    assert!(
        face.get("/bucket?location")
            .await
            .text()
            .ends_with("2006-03-01/\"></LocationConstraint>")
    );
    let listed = face.get("/").await;
    assert_eq!(
        (listed.elements("Name"), listed.element("DisplayName")),
        (vec!["bucket".into()], "root".into())
    );

    // Another account neither sees it nor may take its name.
    assert_eq!(
        face.ask("GET", "/")
            .account(2)
            .send()
            .await
            .elements("Name")
            .len(),
        0
    );
    assert_eq!(
        code(&face.ask("PUT", "/bucket").account(2).send().await),
        is(409, "BucketAlreadyExists")
    );
    assert_eq!(
        code(&face.ask("GET", "/bucket/k").account(2).send().await),
        is(403, "AccessDenied")
    );

    face.put("/bucket/k", "x").await;
    let full = face.ask("DELETE", "/bucket").send().await;
    assert_eq!(
        (code(&full), full.element("BucketName")),
        (is(409, "BucketNotEmpty"), "bucket".into())
    );
    assert_eq!(face.ask("DELETE", "/bucket/k").send().await.status, 204);
    assert_eq!(face.ask("DELETE", "/bucket").send().await.status, 204);
    assert_eq!(
        code(&face.ask("DELETE", "/bucket").send().await),
        is(404, "NoSuchBucket")
    );
    assert_eq!(face.ask("HEAD", "/bucket").send().await.status, 404);
    assert_eq!(
        code(&face.put("/Bucket_", "").await),
        is(400, "InvalidBucketName")
    );
}

#[tokio::test]
async fn who_asks() {
    let face = with_bucket().await;
    let anonymous = face.ask("GET", "/bucket/k").send_as_it_is().await;
    assert_eq!(code(&anonymous), is(403, "AccessDenied"));
    let elsewhere = face.ask("GET", "/bucket/k").region("eu-west-1").send().await;
    assert_eq!(
        (code(&elsewhere), elsewhere.element("Region")),
        (is(400, "AuthorizationHeaderMalformed"), "us-east-1".into())
    );
    let operator = face.ask("GET", "/-/health/live").send_as_it_is().await;
    assert_eq!(
        (operator.status, operator.text()),
        (200, "operator /-/health/live".into())
    );
    assert!(!operator.header("x-amz-request-id").is_empty());
    let key = face
        .ask("PUT", "/-/health/live")
        .header("host", "bucket.s3.test")
        .body("mine")
        .send()
        .await;
    assert_eq!(
        (key.status, face.get("/bucket/-/health/live").await.text()),
        (200, "mine".into())
    );
    // Who may not ask is not told what there is.
    let unknown = face.ask("PUT", "/bucket?frobnicate").send_as_it_is().await;
    assert_eq!(code(&unknown), is(403, "AccessDenied"));
}
