//! What is said to those whom nobody serves, and that nobody else's bytes are taken for it.

use super::*;

/// What hyper itself says, as somebody's object.
pub(super) const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// All that comes for `sent`.
async fn said(sent: &str) -> String {
    let mut client = connect();
    let _cut_off = client.stream.write_all(sent.as_bytes()).await;
    let answer = client.rest().await;
    client.served.await.unwrap();
    answer
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const MALFORMED: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 9\r\n\r\nMalformed";
const TOO_LARGE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 8\r\n\r\nTooLarge";

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_answered_with_a_document() {
    let long = "y".repeat(3 * limits::CONNECTION_READ_BYTES_MAX);
    let many = "x: y\r\n".repeat(HEADERS_MAX + 1);
    for (sent, expected) in [
        ("GET\r\n\r\n".to_owned(), MALFORMED),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), MALFORMED),
        ("GET / HTTP/1.0\r\na b: c\r\n\r\n".to_owned(), MALFORMED),
        (
            "PUT / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
            MALFORMED,
        ),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), TOO_LARGE),
        (format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), TOO_LARGE),
        (format!("GET /{} HTTP/1.1\r\n\r\n", &long[..70_000]), TOO_LARGE),
    ] {
        assert_eq!(said(&sent).await, expected, "{:.60}", sent);
    }
}

#[tokio::test(start_paused = true)]
async fn it_comes_after_the_answers_before_it() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    let twice = get("/") + &get("/") + "\u{1}\r\n\r\n";
    assert_eq!(said(&twice).await, format!("{HELLO}{HELLO}{MALFORMED}"));
    let kept = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n?\r\n\r\n";
    let all = said(kept).await;
    assert!(all.ends_with(&format!("hello{MALFORMED}")), "{all}");
}

/// An object may end as hyper's own answers do, or be one.
#[tokio::test(start_paused = true)]
async fn an_object_that_looks_like_it_is_given_whole() {
    let whole = format!("content-length: {}\r\n\r\n{BARE}", BARE.len());
    let pieces = format!(
        "content-length: {}\r\n\r\nx{BARE}{BARE}{BARE}",
        1 + 3 * BARE.len()
    );
    for (path, body) in [("/bare", &whole), ("/bare-in-pieces", &pieces)] {
        let get = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        let expected = format!("HTTP/1.1 200 OK\r\n{body}");
        let mut client = connect();
        for _ in 0..3 {
            client.send(&get).await;
            assert_eq!(client.until(&expected).await, expected);
        }
        // Nothing but the next request comes between an object and what is no request.
        client.send("\u{1}\r\n\r\n").await;
        assert_eq!(client.rest().await, MALFORMED);
        assert_eq!(
            said(&format!("{get}{get}?\r\n\r\n")).await,
            format!("{expected}{expected}{MALFORMED}")
        );
        // Of this hyper says nothing.
        let two = said(&format!("{get}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).await;
        assert_eq!(two, expected);
        let last = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n");
        let closed = said(&last).await;
        let (_, object) = body.split_once("\r\n\r\n").unwrap();
        assert!(closed.ends_with(&format!("\r\n\r\n{object}")), "{closed}");
    }
}
