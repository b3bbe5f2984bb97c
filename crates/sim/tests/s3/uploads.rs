//! Multipart uploads.

use crate::{code, is, with_bucket};

#[tokio::test]
async fn uploads_in_parts() {
    let face = with_bucket().await;
    let begun = face
        .ask("POST", "/bucket/big?uploads")
        .header("content-type", "a/b")
        .header("x-amz-meta-a", "1")
        .send()
        .await;
    assert_eq!(
        (begun.status, begun.element("Key")),
        (200, "big".into()),
        "{}",
        begun.text()
    );
    let upload = begun.element("UploadId");
    let part = |number: u32, byte: u8, size: usize| {
        let target = format!("/bucket/big?partNumber={number}&uploadId={upload}");
        face.ask("PUT", &target).body(vec![byte; size]).send()
    };
    let five = 5 << 20;
    let one = part(1, b'1', five).await;
    assert_eq!(one.status, 200, "{}", one.text());
    let three = part(3, b'3', 10).await;
    let listed = face
        .get(&format!("/bucket/big?uploadId={upload}&max-parts=1"))
        .await;
    assert_eq!(
        (listed.elements("PartNumber"), listed.element("IsTruncated")),
        (vec!["1".into()], "true".into())
    );
    assert_eq!(
        face.get("/bucket?uploads").await.elements("UploadId"),
        [upload.as_str()]
    );
    assert_eq!(face.get("/bucket?list-type=2").await.elements("Key").len(), 0);

    let complete = |parts: &[(u32, &str)]| {
        let parts: String = parts
            .iter()
            .map(|(n, e)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>"))
            .collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        face.ask("POST", &format!("/bucket/big?uploadId={upload}"))
            .body(document)
            .send()
    };
    let (e1, e3) = (one.header("etag"), three.header("etag"));
    assert_eq!(
        code(&complete(&[(3, e3), (1, e1)]).await),
        is(400, "InvalidPartOrder")
    );
    assert_eq!(code(&complete(&[(1, e3)]).await), is(400, "InvalidPart"));
    assert_eq!(code(&complete(&[(2, e1)]).await), is(400, "InvalidPart"));
    let done = complete(&[(1, e1), (3, e3)]).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(
        done.element("ETag").ends_with("-2&quot;") && done.element("Location").ends_with("/bucket/big"),
        "{}",
        done.text()
    );
    let got = face.get("/bucket/big").await;
    assert!(got.whole && got.body.len() == five + 10 && got.body[five - 1] == b'1' && got.body[five] == b'3');
    assert_eq!(
        (got.header("content-type"), got.header("x-amz-meta-a")),
        ("a/b", "1")
    );
    assert_eq!(face.get("/bucket?uploads").await.elements("UploadId").len(), 0);
}

#[tokio::test]
async fn uploads_given_up() {
    let face = with_bucket().await;
    let again = face
        .ask("POST", "/bucket/x?uploads")
        .send()
        .await
        .element("UploadId");
    let target = format!("/bucket/x?uploadId={again}");
    assert_eq!(face.ask("DELETE", &target).send().await.status, 204);
    for method in ["DELETE", "GET"] {
        let gone = face.ask(method, &target).send().await;
        assert_eq!(
            (code(&gone), gone.element("UploadId")),
            (is(404, "NoSuchUpload"), again.clone())
        );
    }
    let bad = face
        .put(&format!("/bucket/x?partNumber=0&uploadId={again}"), "x")
        .await;
    assert_eq!(code(&bad), is(400, "InvalidArgument"));
    assert_eq!(
        code(&face.put("/bucket/x?partNumber=1&uploadId=never", "x").await),
        is(404, "NoSuchUpload")
    );
}
