//! Connections' memory: what they hold at rest, and who gets what there is of it.

use super::*;
use std::sync::Weak;

fn budget_of(bytes: usize) -> Arc<Budget> {
    let clock = Arc::new(TestClock(tokio::time::Instant::now()));
    Budget::new("test", bytes as u64, clock)
}

/// A buffer that says whether anybody still has it.
fn watched() -> (Bytes, Weak<()>) {
    struct Watched(#[allow(dead_code, reason = "dropped with the buffer")] Arc<()>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            b"half a head"
        }
    }
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    (Bytes::from_owner(Watched(alive)), weak)
}

/// hyper hands out what it has read and not used as a piece of the buffer that it read into, also where that is nothing.
#[tokio::test(start_paused = true)]
async fn a_connection_at_rest_keeps_no_buffer() {
    for left in [0, 4] {
        let (mut buffer, alive) = watched();
        let (stream, _theirs) = duplex(64);
        let clock = Arc::new(TestClock(tokio::time::Instant::now()));
        let mut io = Guarded::new(Box::new(stream), clock, plenty(), Held::default());
        io.unread(buffer.split_to(left));
        drop(buffer);
        assert!(alive.upgrade().is_none(), "{left} bytes keep all of it");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_of_a_large_head_comes_back() {
    let budget = budget_of(1 << 20);
    let mut client = connect_with(4096, Arc::clone(&budget));
    for round in 0..2 {
        let large = "x".repeat(2 * limits::HEAD_USUAL_BYTES);
        client
            .send(&format!("GET /slow HTTP/1.1\r\nhost: h\r\nx: {large}\r\n\r\n"))
            .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let both = limits::CONNECTION_AWAKE_BYTES + limits::CONNECTION_READ_BYTES_MAX;
        assert_eq!(budget.used(), both as u64, "round {round}");
        assert!(client.until("done").await.ends_with("done"));
        tokio::time::sleep(Duration::from_millis(3 * limits::CONNECTION_REST_MS)).await;
        assert_eq!(budget.used(), 0, "round {round}: at rest");
    }
}

/// I5: what has no memory is cut off where an answer before it is still being taken, and not told so in its middle.
#[tokio::test(start_paused = true)]
async fn nothing_is_said_in_the_middle_of_an_answer() {
    let put = |bytes: usize| {
        let body = "x".repeat(bytes);
        format!("PUT /read HTTP/1.1\r\nhost: h\r\ncontent-length: {bytes}\r\n\r\n{body}")
    };
    let mut client = connect_with(1 << 17, budget_of(limits::CONNECTION_AWAKE_BYTES + 1));
    // Lets hyper's buffer grow, so that it reads more than a usual head at once.
    client
        .send("PUT /read HTTP/1.1\r\nhost: h\r\ncontent-length: 90000\r\n\r\n")
        .await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.send(&"x".repeat(90_000)).await;
    assert!(client.until("Ok(90000)").await.ends_with("Ok(90000)"));
    client.send("GET /endless HTTP/1.1\r\nhost: h\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.send(&put(20_000)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut all = vec![0; 8 << 20];
    let mut had = 0;
    while had < all.len() {
        match client.stream.read(&mut all[had..]).await.unwrap() {
            0 => break,
            n => had += n,
        }
    }
    let all = String::from_utf8_lossy(&all[..had]);
    assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "after {had} bytes");
    assert!(all.starts_with("HTTP/1.1 200 OK\r\n") && all[had - 3..] == *"\0\0\0");
}

/// A body that comes with its head, as on any connection that is kept, is no part of it.
#[tokio::test(start_paused = true)]
async fn only_a_head_is_a_large_head() {
    let mut client = connect_with(1 << 17, budget_of(limits::CONNECTION_AWAKE_BYTES + 1));
    let body = "x".repeat(64 << 10);
    for _ in 0..4 {
        client
            .send(&format!(
                "PUT /read HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        let answer = client.until("Ok(65536)").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let large = "x".repeat(2 * limits::HEAD_USUAL_BYTES);
    client
        .send(&format!("GET / HTTP/1.1\r\nhost: h\r\nx: {large}\r\n\r\n"))
        .await;
    let answer = client.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("Full"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_operator_is_answered_when_all_memory_is_taken() {
    let mut knock = house_with(100, budget_of(2 * limits::CONNECTION_AWAKE_BYTES));
    let mut busy = [knock(), knock()];
    for client in &mut busy {
        client.send(SLOW).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let began = tokio::time::Instant::now();
    let health = "GET /-/health/live HTTP/1.1\r\nhost: h\r\n\r\n";
    for _ in 0..2 * limits::OPERATOR_CONNECTIONS_MAX {
        let mut operator = knock();
        operator.send(health).await;
        assert!(operator.until("hello").await.ends_with("hello"));
    }
    // What is kept for operators is for nothing else.
    let mut operator = knock();
    operator.send(health).await;
    assert!(operator.until("hello").await.ends_with("hello"));
    operator.send(HELLO).await;
    assert!(operator.rest().await.starts_with("HTTP/1.1 503 "));
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited");
    // Others wait their turn.
    let mut other = knock();
    other.send(HELLO).await;
    assert!(other.until("hello").await.ends_with("hello"));
    for client in &mut busy {
        assert!(client.until("done").await.ends_with("done"));
    }
}

/// As many half heads as there is memory for, and keepers of connections: both make room.
#[tokio::test(start_paused = true)]
async fn half_a_head_keeps_no_memory_from_others() {
    let mut knock = house_with(100, budget_of(3 * limits::CONNECTION_AWAKE_BYTES));
    let mut half = [knock(), knock(), knock()];
    for client in &mut half {
        client.send("G").await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let began = tokio::time::Instant::now();
    let mut others = Vec::new();
    for _ in 0..9 {
        let mut client = knock();
        client.send(HELLO).await;
        let answer = client.until("hello").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        others.push(client);
    }
    assert!(
        began.elapsed() < Duration::from_millis(2 * limits::LINGER_MS_MAX),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(half[0].rest().await, "", "half a head is waited for a little");
    // Those who were answered only rested.
    for client in &mut others {
        client.send(HELLO).await;
        assert!(client.until("hello").await.ends_with("hello"));
    }
}

/// Who was asked before its head was whole is answered, and rests then.
#[tokio::test(start_paused = true)]
async fn who_is_asked_to_rest_is_answered_first() {
    let mut knock = house_with(100, budget_of(limits::CONNECTION_AWAKE_BYTES));
    let mut first = knock();
    first.send("GET /slow HT").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut second = knock();
    second.send(HELLO).await;
    tokio::time::sleep(Duration::from_millis(limits::LINGER_MS_MAX / 2)).await;
    first.send("TP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(first.until("done").await.ends_with("done"));
    let answered = tokio::time::Instant::now();
    assert!(second.until("hello").await.ends_with("hello"));
    assert!(answered.elapsed() < Duration::from_millis(limits::CONNECTION_REST_MS));
    first.send(HELLO).await;
    assert!(first.until("hello").await.ends_with("hello"));
}

/// What is still sent to somebody who was refused for want of memory is taken off, so that the refusal is read; and takes none.
#[tokio::test(start_paused = true)]
async fn who_has_no_memory_is_listened_to_for_a_while() {
    let budget = budget_of(limits::CONNECTION_AWAKE_BYTES);
    let all = budget.take(Claim::Connection, budget.bytes()).await.unwrap();
    let mut client = connect_with(1024, Arc::clone(&budget));
    let send = "PUT /read HTTP/1.1\r\nhost: h\r\ncontent-length: 200000\r\n\r\n";
    client.send(send).await;
    let answer = client.until("Full").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    client.send(&"x".repeat(100_000)).await;
    assert_eq!(budget.used(), all.bytes());
    client.send(&"x".repeat(100_000)).await;
}

/// What it has encrypted is in no buffer of a request's.
#[tokio::test(start_paused = true)]
async fn a_secure_connection_takes_what_it_may_hold_encrypted() {
    struct AsItIs;
    #[async_trait::async_trait]
    impl Secure for AsItIs {
        async fn secure(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
            Ok(stream)
        }
    }
    let budget = budget_of(1 << 20);
    let mut client = connect_as(4096, Arc::clone(&budget), Some(Arc::new(AsItIs)));
    client.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let both = limits::CONNECTION_AWAKE_BYTES + limits::CONNECTION_SECURE_OUT_BYTES;
    assert_eq!(budget.used(), both as u64);
}
