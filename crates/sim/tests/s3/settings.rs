//! What buckets are told: tags, CORS rules, ownership, public access, lists; and whose they are.

use crate::face::{Answer, Face};
use crate::{code, is, with_bucket};

async fn put(face: &Face, target: &str, document: &str) -> (u16, String) {
    let answer = face.put(target, document).await;
    (answer.status, answer.element("Code"))
}

#[tokio::test]
async fn tags_of_a_bucket() {
    let face = with_bucket().await;
    let tags = |pairs: &str| format!("<Tagging><TagSet>{pairs}</TagSet></Tagging>");
    let tag = "<Tag><Key>team</Key><Value>a b</Value></Tag>";
    assert_eq!(put(&face, "/bucket?tagging", &tags(tag)).await, is(204, ""));
    let got = face.get("/bucket?tagging").await;
    assert_eq!(
        (got.element("Key"), got.element("Value")),
        ("team".into(), "a b".into())
    );
    assert_eq!(
        put(&face, "/bucket?tagging", &tags(&tag.repeat(2))).await,
        is(400, "InvalidTag")
    );
    assert_eq!(
        put(&face, "/bucket?tagging", "<Tagging/>").await,
        is(400, "MalformedXML")
    );
    assert_eq!(
        put(&face, "/absent?tagging", "<Tagging/>").await,
        is(404, "NoSuchBucket")
    );
    let many = |n: usize| {
        (0..n)
            .map(|i| format!("<Tag><Key>{i}</Key><Value/></Tag>"))
            .collect::<String>()
    };
    assert_eq!(
        put(&face, "/bucket?tagging", &tags(&many(51))).await,
        is(400, "InvalidTag")
    );
    assert_eq!(put(&face, "/bucket?tagging", &tags(&many(50))).await, is(204, ""));
    assert_eq!(face.get("/bucket?tagging").await.elements("Key").len(), 50);
    // No tags are none.
    assert_eq!(put(&face, "/bucket?tagging", &tags("")).await, is(204, ""));
    assert_eq!(code(&face.get("/bucket?tagging").await), is(404, "NoSuchTagSet"));
    put(&face, "/bucket?tagging", &tags(tag)).await;
    let deleted = face.ask("DELETE", "/bucket?tagging").send().await;
    assert_eq!(deleted.status, 204);
    assert_eq!(code(&face.get("/bucket?tagging").await), is(404, "NoSuchTagSet"));
    // A bucket of the same name made later has none of it.
    put(&face, "/bucket?tagging", &tags(tag)).await;
    assert_eq!(face.ask("DELETE", "/bucket").send().await.status, 204);
    assert_eq!(face.put("/bucket", "").await.status, 200);
    assert_eq!(code(&face.get("/bucket?tagging").await), is(404, "NoSuchTagSet"));
}

#[tokio::test]
async fn a_bucket_is_made_with_what_it_is_told() {
    let face = with_bucket().await;
    let create =
        |tags: &str| format!("<CreateBucketConfiguration><Tags>{tags}</Tags></CreateBucketConfiguration>");
    let tags = create("<Tag><Key>k</Key><Value>v</Value></Tag>");
    let made = face
        .ask("PUT", "/tagged")
        .header("x-amz-object-ownership", "ObjectWriter")
        .body(tags.clone())
        .send()
        .await;
    assert_eq!(
        (made.status, made.header("x-amz-bucket-arn")),
        (200, "arn:aws:s3:::tagged")
    );
    assert_eq!(face.get("/tagged?tagging").await.element("Value"), "v");
    let ownership = face.get("/tagged?ownershipControls").await;
    assert_eq!(ownership.element("ObjectOwnership"), "ObjectWriter");
    // Made again: as S3 in its first region, unless tags would have to be changed.
    assert_eq!(put(&face, "/tagged", "").await, is(200, ""));
    assert_eq!(
        put(&face, "/tagged", &tags).await,
        is(409, "BucketAlreadyOwnedByYou")
    );
    assert_eq!(face.get("/tagged?tagging").await.element("Value"), "v");
    let wrong = face
        .ask("PUT", "/other")
        .header("x-amz-object-ownership", "Mine")
        .send()
        .await;
    assert_eq!(code(&wrong), is(400, "InvalidArgument"));
    let public = face
        .ask("PUT", "/other")
        .header("x-amz-acl", "public-read")
        .send()
        .await;
    assert_eq!(code(&public), is(400, "InvalidBucketAclWithObjectOwnership"));
    let public = face
        .ask("PUT", "/other")
        .header("x-amz-acl", "public-read")
        .header("x-amz-object-ownership", "ObjectWriter")
        .send()
        .await;
    assert_eq!(
        code(&public),
        is(400, "InvalidBucketAclWithBlockPublicAccessError")
    );
    assert_eq!(code(&face.get("/other?acl").await), is(404, "NoSuchBucket"));
    assert_eq!(
        face.ask("PUT", "/other")
            .header("x-amz-acl", "private")
            .send()
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn ownership_and_public_access() {
    let face = with_bucket().await;
    let got = face.get("/bucket?ownershipControls").await;
    assert_eq!(got.element("ObjectOwnership"), "BucketOwnerEnforced");
    let controls = |name: &str| {
        format!(
            "<OwnershipControls><Rule><ObjectOwnership>{name}</ObjectOwnership></Rule></OwnershipControls>"
        )
    };
    let target = "/bucket?ownershipControls";
    assert_eq!(
        put(&face, target, &controls("BucketOwnerPreferred")).await,
        is(200, "")
    );
    assert_eq!(
        face.get(target).await.element("ObjectOwnership"),
        "BucketOwnerPreferred"
    );
    assert_eq!(
        put(&face, target, &controls("Mine")).await,
        is(400, "MalformedXML")
    );
    for _ in 0..2 {
        assert_eq!(face.ask("DELETE", target).send().await.status, 204);
        assert_eq!(
            code(&face.get(target).await),
            is(404, "OwnershipControlsNotFoundError")
        );
    }
    let target = "/bucket?publicAccessBlock";
    let default = face.get(target).await;
    assert_eq!(default.text().matches(">true<").count(), 4);
    let block = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>";
    assert_eq!(put(&face, target, block).await, is(200, ""));
    assert_eq!(face.get(target).await.text().matches(">true<").count(), 1);
    for _ in 0..2 {
        assert_eq!(face.ask("DELETE", target).send().await.status, 204);
        assert_eq!(
            code(&face.get(target).await),
            is(404, "NoSuchPublicAccessBlockConfiguration")
        );
    }
}

async fn list(face: &Face, target: &str, canned: &str) -> (u16, String) {
    let answer = face.ask("PUT", target).header("x-amz-acl", canned).send().await;
    (answer.status, answer.element("Code"))
}

#[tokio::test]
async fn the_one_list() {
    let face = with_bucket().await;
    face.put("/bucket/k", "x").await;
    for target in ["/bucket?acl", "/bucket/k?acl"] {
        let own = face.get(target).await.text();
        assert_eq!(
            put(&face, target, &own).await,
            is(200, ""),
            "what is got can be put"
        );
        assert_eq!(list(&face, target, "private").await, is(200, ""));
        assert_eq!(
            list(&face, target, "public-read").await,
            is(400, "AccessControlListNotSupported")
        );
        assert_eq!(list(&face, target, "nonsense").await, is(400, "InvalidArgument"));
        let both = face
            .ask("PUT", target)
            .header("x-amz-acl", "private")
            .body(own.clone())
            .send()
            .await;
        assert_eq!(code(&both), is(400, "UnexpectedContent"));
        assert_eq!(put(&face, target, "").await, is(400, "MissingSecurityHeader"));
        assert_eq!(put(&face, target, "<x/>").await, is(400, "MalformedACLError"));
        assert_eq!(
            put(&face, target, &own.replace("FULL_CONTROL", "READ")).await.0,
            400
        );
    }
    assert_eq!(
        list(&face, "/bucket/absent?acl", "private").await,
        is(404, "NoSuchKey")
    );
    assert_eq!(
        list(&face, "/bucket/new", "bucket-owner-full-control").await,
        is(200, "")
    );
    assert_eq!(
        list(&face, "/bucket/not", "public-read").await,
        is(400, "AccessControlListNotSupported")
    );
    assert_eq!(code(&face.get("/bucket/not").await), is(404, "NoSuchKey"));
    // A bucket that has lists still has only this one; a public one is refused while public access is blocked.
    put(
        &face,
        "/bucket?ownershipControls",
        "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>",
    )
    .await;
    assert_eq!(
        list(&face, "/bucket?acl", "public-read").await,
        is(403, "AccessDenied")
    );
    face.ask("DELETE", "/bucket?publicAccessBlock").send().await;
    assert_eq!(
        list(&face, "/bucket?acl", "public-read").await,
        is(501, "NotImplemented")
    );
    assert_eq!(list(&face, "/bucket?acl", "private").await, is(200, ""));
}

#[tokio::test]
async fn whose_bucket_it_is() {
    let face = with_bucket().await;
    let expecting = async |target: &str, owner: &str, account: u64| -> Answer {
        let ask = face.ask("GET", target).account(account);
        ask.header("x-amz-expected-bucket-owner", owner).send().await
    };
    assert_eq!(expecting("/bucket", "000000000001", 1).await.status, 200);
    assert_eq!(
        code(&expecting("/bucket", "000000000002", 1).await),
        is(403, "AccessDenied")
    );
    assert_eq!(
        code(&expecting("/absent", "000000000002", 1).await),
        is(404, "NoSuchBucket")
    );
    let malformed = expecting("/bucket", "0000", 1).await;
    assert_eq!(code(&malformed), is(400, "InvalidBucketOwnerAWSAccountID"));
    // That there is no bucket comes before that one may not have it, for strangers too.
    for (target, expected) in [
        ("/bucket?tagging", is(403, "AccessDenied")),
        ("/absent?tagging", is(404, "NoSuchBucket")),
    ] {
        assert_eq!(code(&face.ask("GET", target).account(2).send().await), expected);
        assert_eq!(code(&face.ask("GET", target).send_as_it_is().await), expected);
    }
    let taken = face.ask("PUT", "/bucket").account(2).send().await;
    assert_eq!(code(&taken), is(409, "BucketAlreadyExists"));
    let head = face.ask("HEAD", "/bucket").send().await;
    assert_eq!(
        (
            head.header("x-amz-bucket-region"),
            head.header("x-amz-bucket-arn")
        ),
        ("us-east-1", "arn:aws:s3:::bucket")
    );
}

const RULES: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://*.a</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
    <AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
    <MaxAgeSeconds>60</MaxAgeSeconds></CORSRule><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
    </CORSRule></CORSConfiguration>";

/// What a browser asks before it sends a page's request.
async fn preflight(face: &Face, target: &str, origin: &'static str, method: &'static str) -> Answer {
    let ask = face.ask("OPTIONS", target).header("origin", origin);
    ask.header("access-control-request-method", method)
        .send_as_it_is()
        .await
}

#[tokio::test]
async fn what_browsers_ask_first() {
    let face = with_bucket().await;
    let none = face.ask("OPTIONS", "/bucket/k").send_as_it_is().await;
    assert_eq!(code(&none), is(400, "BadRequest"));
    assert_eq!(put(&face, "/bucket?cors", RULES).await, is(200, ""));
    let got = face.get("/bucket?cors").await;
    assert_eq!(got.elements("AllowedOrigin"), ["https://*.a", "*"]);
    let yes = preflight(&face, "/bucket/k", "https://x.a", "PUT").await;
    assert_eq!(yes.status, 200);
    for (name, value) in [
        ("access-control-allow-origin", "https://x.a"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-expose-headers", "ETag"),
        ("access-control-max-age", "60"),
        (
            "vary",
            "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
        ),
    ] {
        assert_eq!(yes.header(name), value, "{name}");
    }
    let star = preflight(&face, "/bucket", "https://x.b", "GET").await;
    assert_eq!(star.header("access-control-allow-origin"), "*");
    assert_eq!(star.header("access-control-allow-credentials"), "");
    let refused = [
        ("/bucket/k", "https://x.b", "PUT", is(403, "AccessForbidden")),
        ("/bucket/k", "https://x.b", "PATCH", is(400, "BadRequest")),
        ("/absent/k", "https://x.a", "GET", is(403, "AccessForbidden")),
    ];
    for (target, origin, method, expected) in refused {
        assert_eq!(
            code(&preflight(&face, target, origin, method).await),
            expected,
            "{target} {origin}"
        );
    }
    assert_eq!(face.ask("DELETE", "/bucket?cors").send().await.status, 204);
    assert_eq!(
        code(&face.get("/bucket?cors").await),
        is(404, "NoSuchCORSConfiguration")
    );
    let gone = preflight(&face, "/bucket/k", "https://x.a", "GET").await;
    assert_eq!(code(&gone), is(403, "AccessForbidden"));
}

/// Answered or refused, an answer says what the page may do with it; to no page, or one without a rule, it says nothing.
#[tokio::test]
async fn what_pages_are_told() {
    let face = with_bucket().await;
    face.put("/bucket/k", "x").await;
    assert_eq!(put(&face, "/bucket?cors", RULES).await, is(200, ""));
    let ask = |method, target| face.ask(method, target).header("origin", "https://x.a");
    let origin = |answer: &Answer| {
        (
            answer.status,
            answer.header("access-control-allow-origin").to_owned(),
        )
    };
    let get = ask("GET", "/bucket/k").send().await;
    assert_eq!(
        (origin(&get), get.text()),
        ((200, "https://x.a".into()), "x".into())
    );
    let absent = ask("GET", "/bucket/absent").send().await;
    assert_eq!(origin(&absent), (404, "https://x.a".into()));
    assert_eq!(absent.header("access-control-allow-methods"), "GET, PUT");
    let unsigned = ask("GET", "/bucket/k").send_as_it_is().await;
    assert_eq!(origin(&unsigned), (403, "https://x.a".into()));
    let no_rule = ask("DELETE", "/bucket/k").send().await;
    assert_eq!(origin(&no_rule), (204, String::new()));
    assert_eq!(origin(&face.get("/bucket?acl").await), (200, String::new()));
}
