//! A client's copies: what a key names is opened, and its bytes are put under another name. Two operations for the judge, a read of the
//! source and a put of what was found there, each at a moment of its own: what comes between them is nobody's business, as in S3.

use crate::client::{CALLER, Client, bucket_name, mark, object_key};
use crate::life::Stage;
use crate::op::{Answer, Condition, Op, OpId, Outcome, Spoil};
use objects::{CopyObject, ObjectsError, Opened};
use wire::index::{Precondition, VersionRef};
use wire::records::ContentHeaders;

impl Stage {
    /// Copies what one key names to another; the client may go away after so many polls of the second half.
    pub(crate) async fn copy(
        &self,
        client: &Client,
        from: (usize, usize),
        to: (usize, usize),
        polls: Option<u64>,
    ) {
        let source = Op::Head {
            bucket: from.0,
            key: from.1,
        };
        let id = self.recorder.begin(source);
        let opened = client.open(from).await;
        let outcome = match &opened {
            Ok((value, _)) => Outcome::Answered(Answer::Value(*value)),
            Err(error) => crate::client::outcome_of(error),
        };
        self.end(id, outcome);
        let Ok((value, opened)) = opened else { return };
        if value == 0 {
            return;
        }
        let copy = {
            let book = &self.recorder.get().book;
            Op::Put {
                bucket: to.0,
                key: to.1,
                size: book.size(value),
                condition: Condition::Always,
                spoil: Spoil::Whole,
                of: Some(book.root(value)),
            }
        };
        let id = self.recorder.begin(copy.clone());
        self.recorder.count("copy");
        let outcome = self.unless_it_gives_up(client.copy(id, &copy, (to, opened)), polls);
        let outcome = outcome.await;
        if matches!(outcome, Outcome::Answered(_)) {
            self.recorder.count("copy.ok");
        }
        self.end(id, outcome);
    }
}

impl Client {
    /// Opens what a key names, and says which operation's object it is.
    async fn open(&self, at: (usize, usize)) -> Result<(OpId, Opened), ObjectsError> {
        let (bucket, key) = (bucket_name(at.0), object_key(at.1));
        let opened = self
            .objects
            .get_to_copy(&CALLER, &bucket, &key, VersionRef::Current);
        let opened = opened.await?;
        let seen = self.recorder.get().identify(at.0, at.1, &opened.record);
        match self.answer_value(seen) {
            Answer::Value(value) => Ok((value, opened)),
            _ => unreachable!("a value"),
        }
    }

    async fn copy(&self, id: OpId, op: &Op, (to, source): ((usize, usize), Opened)) -> Outcome {
        let copy = CopyObject {
            bucket: bucket_name(to.0),
            key: object_key(to.1),
            headers: ContentHeaders::default(),
            metadata: mark(id),
            tags: Vec::new(),
            checksum: None,
            precondition: Precondition::default(),
        };
        let copied = self.objects.copy(&CALLER, source, copy).await;
        let answered = copied.map(|answer| self.answer_put(id, &answer));
        self.told(id, op, answered)
    }
}
