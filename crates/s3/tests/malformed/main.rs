//! Malformed requests, thousands of them, over HTTP: each is answered with a code, and none stops the service. // I9
//!
//! The same every time. Requests are signed well unless forging is what they try, so that what is wrong with them is
//! found where it is looked for.
#![allow(clippy::disallowed_methods)]

mod chance;
mod client;
mod roles;

mod bodies;
mod documents;
mod failing;
mod heads;

use client::{Bench, head, signed, written};

/// As many of each kind.
const ROUNDS: usize = 400;

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

/// A service that has done its first good deed.
async fn fresh() -> (Bench, usize) {
    let bench = Bench::new();
    good(&bench).await;
    (bench, tasks())
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn good(bench: &Bench) {
    let head = signed(
        bench.now_ms(),
        "PUT",
        "/bucket/good",
        &[("content-length", "4")],
        "UNSIGNED-PAYLOAD",
    );
    let answer = bench.send(&[&written(&head)[..], b"good"].concat()).await;
    assert_eq!((answer.status, answer.code), (Some(200), None));
    assert!(bench.index.take_named().is_some());
}

/// That the service still does what it is asked, and holds nothing of what it refused.
async fn unharmed(bench: &Bench, tasks_before: usize) {
    good(bench).await;
    let anonymous = bench.send(&written(&head("GET", "/bucket", &[]))).await;
    assert_eq!(
        (anonymous.status, anonymous.code.as_deref()),
        (Some(403), Some("AccessDenied"))
    );
    assert_eq!(tasks(), tasks_before, "tasks are left behind");
}
