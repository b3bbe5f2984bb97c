//! S3 requests through every role of one process: what a client sees.

mod buckets;
mod face;
mod listings;
mod objects;
mod refusals;
mod settings;
mod uploads;

use face::{Answer, Face, face};

/// Status and code of a refusal.
fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.element("Code"))
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn with_bucket() -> Face {
    let face = face().await;
    assert_eq!(face.put("/bucket", "").await.status, 200);
    face
}
