//! Deletions of buckets that have uploads under way.
#![allow(clippy::disallowed_methods, reason = "the paused clock is tokio's")]

#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use objects::{CompleteUpload, ListObjects, ListParts, ListUploads, Objects, StartUpload};
use std::collections::BTreeSet;
use std::sync::Arc;
use support::{Bench, CALLER, OTHER_SESSION, bench, gateway, key, name};
use types::limits::LIST_KEYS_MAX;
use types::{ErrorKind, Kind, SessionId, UploadId};
use wire::double::Failure;
use wire::index::{Command, Expected, NamedPart, Precondition, Reason};
use wire::records::{ContentHeaders, PutAnswer};

impl Bench {
    async fn start(&self, k: &str) -> UploadId {
        let start = StartUpload {
            bucket: name(),
            key: key(k),
            headers: ContentHeaders::default(),
            metadata: Vec::new(),
            tags: Vec::new(),
            checksum: None,
            checksum_kind: None,
        };
        self.objects.start_upload(&CALLER, start).await.unwrap()
    }

    async fn complete(&self, k: &str, upload: UploadId) -> Result<PutAnswer, objects::ObjectsError> {
        let part = NamedPart {
            number: 1,
            etag_md5: [0; 16],
            checksums: Vec::new(),
        };
        let complete = CompleteUpload {
            bucket: name(),
            key: key(k),
            upload,
            parts: vec![part],
            precondition: Precondition::default(),
            expected: Expected::default(),
        };
        self.objects.complete_upload(&CALLER, complete).await
    }

    fn uploads(&self) -> usize {
        self.index.state().uploads.len()
    }

    fn aborts(&self) -> usize {
        let state = self.index.state();
        let aborts = state.calls.iter();
        aborts
            .filter(|c| matches!(c.command, Command::AbortUpload { .. }))
            .count()
    }

    /// Another gateway over the same index.
    fn other(&self) -> Arc<Objects> {
        gateway(&self.node, &self.index, OTHER_SESSION)
    }

    fn aborting_sessions(&self) -> usize {
        let state = self.index.state();
        let aborts = state.calls.iter();
        let aborts = aborts.filter(|c| matches!(c.command, Command::AbortUpload { .. }));
        let sessions: BTreeSet<SessionId> = aborts.map(|c| c.id.session()).collect();
        sessions.len()
    }

    async fn delete(&self) -> Result<(), Option<Reason>> {
        let deleted = self.objects.delete_bucket(&CALLER, &name()).await;
        deleted.map_err(|e| e.reason())
    }
}

#[tokio::test]
async fn uploads_go_with_their_bucket() {
    let b = bench().await;
    let uploads = [b.start("a").await, b.start("a").await, b.start("b").await];
    b.delete().await.unwrap();
    assert_eq!((b.uploads(), b.aborts()), (0, uploads.len()));
    assert!(b.index.state().buckets.is_empty());
    let late = b.complete("a", uploads[0]).await.unwrap_err();
    assert_eq!(late.reason(), Some(Reason::NoSuchBucket));
}

#[tokio::test]
async fn a_refused_deletion_touches_no_upload() {
    let b = bench().await;
    let upload = b.start("a").await;
    b.put("k", b"1").await.unwrap();
    assert_eq!(b.delete().await, Err(Some(Reason::BucketNotEmpty)));
    assert_eq!((b.uploads(), b.aborts()), (1, 0));
    b.complete("a", upload).await.unwrap();
}

#[tokio::test]
async fn more_uploads_than_a_page() {
    let b = bench().await;
    let uploads = 2 * LIST_KEYS_MAX as usize + 3;
    for n in 0..uploads {
        b.start(["a", "b"][n % 2]).await;
    }
    b.delete().await.unwrap();
    assert_eq!((b.uploads(), b.aborts()), (0, uploads));
    assert!(b.index.state().buckets.is_empty());
    let state = b.index.state();
    let closed = state.calls.iter();
    let closed = closed.filter(|c| matches!(c.command, Command::CloseBucket { .. }));
    assert_eq!(closed.count(), 2, "in one turn");
}

/// One request aborts so many; the next goes on, whoever's it is. Others get the bucket's turn in between.
// I9
#[tokio::test]
async fn a_deletion_of_very_many_uploads_is_many_requests() {
    let b = bench().await;
    let uploads = 10 * LIST_KEYS_MAX as usize + 5;
    for _ in 0..uploads {
        b.start("a").await;
    }
    let told = b.objects.delete_bucket(&CALLER, &name()).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Busy, "{told}");
    assert_eq!(b.aborts(), uploads - 5);
    b.delete().await.unwrap();
    assert_eq!((b.uploads(), b.aborts()), (0, uploads));
    assert!(b.index.state().buckets.is_empty());
}

/// An upload that cannot be read keeps its bucket, which goes on as it was.
#[tokio::test]
async fn uploads_that_cannot_be_read_keep_their_bucket() {
    let b = bench().await;
    b.start("a").await;
    // Begun, closed, and then.
    b.index.plan_after(2, Failure::Before(ErrorKind::Corrupt));
    let told = b.objects.delete_bucket(&CALLER, &name()).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Corrupt, "{told}");
    assert_eq!(b.index.state().buckets["bucket"].state, 2, "open");
    b.put("k", b"1").await.unwrap();
}

/// Where even that cannot be had the objects are read.
#[tokio::test]
async fn a_bucket_whose_deletion_cannot_be_finished_is_read() {
    let b = bench().await;
    b.put("k", b"1").await.unwrap();
    b.index.plan_after(1, Failure::Before(ErrorKind::Corrupt));
    let told = b.objects.delete_bucket(&CALLER, &name()).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Corrupt, "{told}");
    assert_eq!(b.index.state().buckets["bucket"].state, 3, "left");
    b.index.plan_after(1, Failure::Before(ErrorKind::Corrupt));
    let list = ListObjects {
        bucket: name(),
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        max: 9,
    };
    let listed = b.objects.list(&CALLER, list).await.unwrap();
    assert_eq!(listed.entries.len(), 1);
}

/// Who waits for a bucket's turn is told to come again, in time.
// I9
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_turn_for_ever() {
    let b = bench().await;
    let held = b.index.answers.lock().await;
    let late = async {
        tokio::task::yield_now().await;
        let made = b.objects.create_bucket(&CALLER, &name()).await;
        drop(held);
        made.unwrap_err().kind()
    };
    let (deleted, late) = tokio::join!(b.delete(), late);
    assert_eq!((deleted, late), (Ok(()), ErrorKind::Busy));
    b.objects.create_bucket(&CALLER, &name()).await.unwrap();
}

/// Either the object is made and keeps the bucket, or the bucket goes and nothing was answered to be made.
// I11
#[tokio::test(start_paused = true)]
async fn a_completion_is_never_lost_to_a_deletion() {
    let (mut made, mut gone) = (0, 0);
    for round in 0..40 {
        let b = bench().await;
        let (upload, _other) = (b.start("k").await, b.start("l").await);
        let wait = async |turns| {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        let complete = async {
            wait(round).await;
            b.complete("k", upload).await
        };
        let delete = async {
            wait(10).await;
            b.delete().await
        };
        let (completed, deleted) = tokio::join!(complete, delete);
        assert!(
            completed.is_ok() != deleted.is_ok(),
            "round {round}: {completed:?} {deleted:?}"
        );
        let is_there = b.objects.head_bucket(&CALLER, &name()).await.is_ok();
        assert_eq!(is_there, completed.is_ok());
        if completed.is_ok() {
            made += 1;
            assert_eq!((b.uploads(), b.aborts()), (1, 0), "the other one is not touched");
            assert!(b.index.state().objects.contains_key(&(1, "k".into())));
        } else {
            gone += 1;
        }
    }
    assert!(made > 3 && gone > 3, "{made} made, {gone} gone");
}

/// While another gateway takes the uploads away they are all there, or the bucket is gone.
// I2
#[tokio::test(start_paused = true)]
async fn nobody_sees_uploads_half_taken_away() {
    let b = bench().await;
    let uploads = [b.start("k").await, b.start("k").await];
    // What a look at the bucket's row saw before the deletion began, and what the partition says after one abortion.
    let seen = b.index.state().buckets["bucket"].clone();
    {
        let mut state = b.index.state();
        let row = state.buckets.get_mut("bucket").unwrap();
        (row.turn, row.state) = (2, 3);
        state.copies.insert(1, (2, false));
        state.uploads.remove(&(1, "k".into(), uploads[0]));
    }
    let query = || ListUploads {
        bucket: name(),
        prefix: String::new(),
        delimiter: String::new(),
        after: (String::new(), None),
        max: 9,
    };
    let parts = ListParts {
        bucket: name(),
        key: key("k"),
        upload: uploads[0],
        after: 0,
        max: 9,
    };
    for what in 0..3 {
        b.index.state().seen = Some(seen.clone());
        let refused = match what {
            0 => b.objects.list_uploads(&CALLER, query()).await.map(|_| ()),
            1 => b.objects.list_parts(&CALLER, parts.clone()).await.map(|_| ()),
            _ => {
                let (bucket, key) = (name(), key("k"));
                b.objects.abort_upload(&CALLER, &bucket, &key, uploads[0]).await
            }
        };
        assert_eq!(
            refused.unwrap_err().reason(),
            Some(Reason::NoSuchBucket),
            "{what}"
        );
    }
}

/// A crash after each step: whoever finds the row goes on.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_died_among_its_aborts_is_finished() {
    // The first one died before it had closed anything.
    for (closed, aborted) in [(false, 0), (true, 0), (true, 1), (true, 2)] {
        for finder in 0..3 {
            let b = bench().await;
            for _ in 0..2 {
                b.start("k").await;
            }
            {
                let mut state = b.index.state();
                let row = state.buckets.get_mut("bucket").unwrap();
                (row.turn, row.state) = (2, 3);
                if closed {
                    state.copies.insert(1, (2, false));
                }
                let gone: Vec<_> = state.uploads.iter().take(aborted).cloned().collect();
                state.uploads.retain(|u| !gone.contains(u));
            }
            let busy = match finder {
                0 => b.delete().await,
                1 => {
                    let head = b.objects.head_bucket(&CALLER, &name()).await;
                    assert_eq!(head.unwrap_err().reason(), Some(Reason::NoSuchBucket));
                    Ok(())
                }
                _ => {
                    let (made, existed) = b.objects.create_bucket(&CALLER, &name()).await.unwrap();
                    assert_eq!((made.bucket, existed), (2, false));
                    Ok(())
                }
            };
            assert_eq!((busy, b.uploads(), b.aborts()), (Ok(()), 0, 2 - aborted));
        }
    }
}

/// An answer of any step is lost, or a step fails for as long as it is tried: asked for again, it is done.
#[tokio::test(start_paused = true)]
async fn a_deletion_survives_lost_answers_and_faults() {
    for at in 0..6 {
        let b = bench().await;
        b.start("k").await;
        b.start("l").await;
        b.index.plan_after(at, Failure::After(ErrorKind::Unknown));
        b.delete().await.unwrap();
        assert_eq!(b.uploads(), 0);
        assert!(b.index.state().buckets.is_empty(), "at {at}");

        let b = bench().await;
        b.start("k").await;
        b.start("l").await;
        b.index.plan_after(at, Failure::Before(ErrorKind::Full));
        let failed = b.objects.delete_bucket(&CALLER, &name()).await.unwrap_err();
        assert_eq!(failed.reason(), None, "at {at}: {failed:?}");
        b.delete().await.unwrap();
        assert_eq!(b.uploads(), 0);
        assert!(b.index.state().buckets.is_empty(), "at {at}");
    }
}

async fn wait(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// Two gateways delete one bucket, the second begins at any step of the first: it is gone, and nobody was told of anything else.
// I2, I11
#[tokio::test(start_paused = true)]
async fn two_deleters_abort_the_same_uploads() {
    let mut both = 0;
    for later in 0..80 {
        let b = bench().await;
        for _ in 0..100 {
            b.start("k").await;
        }
        let other = b.other();
        let second = async {
            wait(later).await;
            let deleted = other.delete_bucket(&CALLER, &name()).await;
            deleted.map_err(|e| e.reason())
        };
        let told: [_; 2] = tokio::join!(b.delete(), second).into();
        let gone = |told: &Result<_, _>| matches!(told, Ok(()) | Err(Some(Reason::NoSuchBucket)));
        assert!(
            told.iter().all(gone) && told.iter().any(Result::is_ok),
            "{later}: {told:?}"
        );
        both += usize::from(b.aborting_sessions() == 2);
        assert!(b.uploads() == 0 && b.index.state().buckets.is_empty(), "{later}");
        // The name is free for another.
        let (made, existed) = other.create_bucket(&CALLER, &name()).await.unwrap();
        assert_eq!((made.bucket, existed), (2, false), "{later}");
    }
    assert!(both > 0, "in {both} rounds both aborted");
}

/// A gateway dies at any step of a deletion: another one ends it.
#[tokio::test(start_paused = true)]
async fn what_a_dead_deleter_began_another_one_ends() {
    let mut died = 0;
    for steps in 0..60 {
        let b = bench().await;
        for _ in 0..20 {
            b.start("k").await;
        }
        let ended = tokio::select! {
            biased;
            deleted = b.delete() => Some(deleted),
            () = wait(steps) => None,
        };
        died += usize::from(ended.is_none());
        let other = b.other();
        let deleted = other.delete_bucket(&CALLER, &name()).await;
        let deleted = deleted.map_err(|e| e.reason());
        let want = match ended {
            Some(_) => Err(Some(Reason::NoSuchBucket)),
            None => Ok(()),
        };
        // Where the last step had its effect and no answer it is gone, too.
        let late = ended.is_none() && deleted == Err(Some(Reason::NoSuchBucket));
        assert!(deleted == want || late, "{steps}: {deleted:?}");
        assert!(b.uploads() == 0 && b.index.state().buckets.is_empty(), "{steps}");
    }
    assert!(died > 5, "{died} died");
}
