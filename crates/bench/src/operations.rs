//! What one client does: objects of its own, those that all read, and one operation after another on them.

use crate::body::Bodies;
use crate::connection::{Connection, Failed, Send, Want};
use crate::plan::{Operation, Payload, Plan};
use std::collections::VecDeque;

/// Keys of a page of a listing.
const PAGE_KEYS: usize = 1000;
/// Out of a hundred operations of a mixed run: gets, then puts, then heads; the rest are deletes.
const GETS: u64 = 70;
const PUTS: u64 = 20;
const HEADS: u64 = 5;
/// After so many failures in a row nothing more is cleaned.
const CLEAN_FAILURES_MAX: u32 = 3;
const AFTER_FAILURE: std::time::Duration = std::time::Duration::from_millis(20);
/// Numbers of objects that one client puts.
const OWN_BITS: u32 = 40;

/// A client of a run.
pub(crate) struct Worker<'a> {
    plan: &'a Plan,
    bodies: &'a Bodies,
    parts: &'a Bodies,
    /// Names this run's objects.
    run: &'a str,
    connection: Connection,
    number: u64,
    /// Objects it has put, and those that are there still.
    put: u64,
    there: VecDeque<u64>,
    /// Uploads that were neither completed nor aborted.
    begun: Vec<(String, String)>,
    page: Vec<u8>,
    dice: u64,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        (bodies, parts): (&'a Bodies, &'a Bodies),
        run: &'a str,
        number: usize,
    ) -> Self {
        Self {
            plan,
            bodies,
            parts,
            run,
            connection: Connection::new(&plan.endpoint, &plan.credentials),
            number: number as u64,
            put: 0,
            there: VecDeque::new(),
            begun: Vec::new(),
            page: Vec::new(),
            dice: 0x2545_f491_4f6c_dd1d ^ (number as u64 + 1),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % below.max(1)
    }

    fn shared(&self, n: u64) -> String {
        format!("/{}/{}/shared/{n:08}", self.plan.bucket, self.run)
    }

    fn own(&self, n: u64) -> String {
        format!("/{}/{}/own/{:04}/{n:09}", self.plan.bucket, self.run, self.number)
    }

    /// Its share of the objects that all read, and of the listing what the first page is.
    pub(crate) fn prepare(&mut self) -> Result<(), Failed> {
        let share = (self.number..self.plan.objects as u64).step_by(self.plan.connections);
        for n in share.filter(|_| self.plan.operation.reads()) {
            let (path, body) = (self.shared(n), self.bodies.body(n));
            let send = Send::Body(&body, Payload::Unsigned);
            self.connection.exchange("PUT", (&path, ""), &send, Want::Any)?;
        }
        Ok(())
    }

    /// The first page, looked into: what every later one is held against.
    pub(crate) fn prepare_page(&mut self) -> Result<(), Failed> {
        let (path, query) = self.listing();
        let mut page = Vec::new();
        self.connection.ask("GET", &path, &query, Want::Kept(&mut page))?;
        let keys = String::from_utf8_lossy(&page).matches("<Key>").count();
        let should = self.plan.objects.min(PAGE_KEYS);
        if keys != should {
            return Err(Failed::Wrong(format!(
                "a page of {keys} keys, {should} should be there"
            )));
        }
        self.page = page;
        Ok(())
    }

    fn listing(&self) -> (String, String) {
        let query = format!("list-type=2&max-keys={PAGE_KEYS}&prefix={}%2Fshared%2F", self.run);
        (format!("/{}", self.plan.bucket), query)
    }

    /// One operation; bytes of objects that it moved.
    pub(crate) fn one(&mut self) -> Result<u64, Failed> {
        match self.plan.operation {
            Operation::Put => self.put(),
            Operation::Get => self.get(),
            Operation::Head => self.head(),
            Operation::List => self.list(),
            Operation::Delete => self.delete(),
            Operation::Multipart => self.multipart(),
            Operation::Mixed => match self.random(100) {
                n if n < GETS => self.get(),
                n if n < GETS + PUTS => self.put(),
                n if n < GETS + PUTS + HEADS => self.head(),
                _ if self.there.is_empty() => self.put(),
                _ => self.delete(),
            },
        }
    }

    pub(crate) fn put(&mut self) -> Result<u64, Failed> {
        let n = self.put;
        self.put += 1;
        let path = self.own(n);
        let body = self.bodies.body((self.number + 1) << OWN_BITS | n);
        let send = Send::Body(&body, self.plan.payload);
        // It may be there though no answer came: it is to be cleaned away then, too.
        self.there.push_back(n);
        self.connection.exchange("PUT", (&path, ""), &send, Want::Any)?;
        Ok(body.len() as u64)
    }

    fn get(&mut self) -> Result<u64, Failed> {
        let n = self.random(self.plan.objects as u64);
        let path = self.shared(n);
        let body = self.bodies.body(n);
        self.connection.ask("GET", &path, "", Want::Body(&body))?;
        Ok(body.len() as u64)
    }

    fn head(&mut self) -> Result<u64, Failed> {
        let n = self.random(self.plan.objects as u64);
        let path = self.shared(n);
        let length = self.connection.ask("HEAD", &path, "", Want::Any)?.length;
        if length != self.plan.size {
            return Err(Failed::Wrong(format!(
                "a head of {length} bytes, {} were put",
                self.plan.size
            )));
        }
        Ok(0)
    }

    fn list(&mut self) -> Result<u64, Failed> {
        let (path, query) = self.listing();
        self.connection
            .ask("GET", &path, &query, Want::Same(&self.page))?;
        Ok(0)
    }

    pub(crate) fn delete(&mut self) -> Result<u64, Failed> {
        let Some(n) = self.there.front() else {
            return Ok(0);
        };
        let path = self.own(*n);
        self.connection.ask("DELETE", &path, "", Want::Any)?;
        self.there.pop_front();
        Ok(0)
    }

    fn multipart(&mut self) -> Result<u64, Failed> {
        let n = self.put;
        self.put += 1;
        let path = self.own(n);
        let mut created = Vec::new();
        self.connection
            .ask("POST", &path, "uploads=", Want::Kept(&mut created))?;
        let created = String::from_utf8_lossy(&created).into_owned();
        let upload = between(&created, "<UploadId>", "</UploadId>");
        let upload = upload.ok_or_else(|| Failed::Wrong(format!("an upload without an id: {created}")))?;
        let done = self.parts(n, &path, upload);
        if done.is_err() && self.abort(&path, upload).is_err() {
            self.begun.push((path, upload.to_owned()));
        }
        done.map(|()| self.plan.size as u64)
    }

    /// Puts all parts of an upload, and completes it.
    fn parts(&mut self, n: u64, path: &str, upload: &str) -> Result<(), Failed> {
        let mut complete = "<CompleteMultipartUpload>".to_owned();
        let parts = self.plan.size.div_ceil(self.plan.part_size).max(1);
        for part in 1..=parts {
            let is_last = part == parts;
            let bodies = if is_last { self.bodies } else { self.parts };
            let body = bodies.body((self.number + 1) << OWN_BITS | n << 14 | part as u64);
            let query = format!("partNumber={part}&uploadId={}", encoded(upload));
            let send = Send::Body(&body, self.plan.payload);
            let answer = self
                .connection
                .exchange("PUT", (path, &query), &send, Want::Any)?;
            let etag = answer.etag.unwrap_or_default().replace('"', "&quot;");
            complete.push_str(&format!(
                "<Part><PartNumber>{part}</PartNumber><ETag>{etag}</ETag></Part>"
            ));
        }
        complete.push_str("</CompleteMultipartUpload>");
        let query = format!("uploadId={}", encoded(upload));
        let mut done = Vec::new();
        self.there.push_back(n);
        let send = Send::Document(complete.as_bytes());
        self.connection
            .exchange("POST", (path, &query), &send, Want::Kept(&mut done))?;
        let done = String::from_utf8_lossy(&done);
        // A completion that takes long answers 200 before it knows.
        if !done.contains("<ETag>") {
            return Err(Failed::Wrong(format!("a completion without an ETag: {done}")));
        }
        Ok(())
    }

    fn abort(&mut self, path: &str, upload: &str) -> Result<(), Failed> {
        let query = format!("uploadId={}", encoded(upload));
        match self.connection.ask("DELETE", path, &query, Want::Any) {
            Ok(_) | Err(Failed::Status { status: 404, .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Deletes what it put, and its share of what all read, until that fails too often; how much stays.
    pub(crate) fn clean(&mut self) -> u64 {
        self.connection.hurry();
        let share = (self.number..self.plan.objects as u64).step_by(self.plan.connections);
        let shared = share
            .filter(|_| self.plan.operation.reads())
            .map(|n| self.shared(n));
        let mut todo: Vec<(String, String)> = shared.map(|path| (path, String::new())).collect();
        let own = std::mem::take(&mut self.there);
        todo.extend(own.into_iter().map(|n| (self.own(n), String::new())));
        let begun = std::mem::take(&mut self.begun);
        todo.extend(
            begun
                .into_iter()
                .map(|(path, id)| (path, format!("uploadId={}", encoded(&id)))),
        );
        let (mut left, mut failures) = (0, 0);
        for (path, query) in todo {
            let removed = failures < CLEAN_FAILURES_MAX
                && match self.connection.ask("DELETE", &path, &query, Want::Any) {
                    Ok(_) | Err(Failed::Status { status: 404, .. }) => true,
                    Err(_) => {
                        std::thread::sleep(AFTER_FAILURE);
                        false
                    }
                };
            failures = if removed { 0 } else { failures + 1 };
            left += u64::from(!removed);
        }
        left
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let begins = text.find(before)? + before.len();
    text[begins..].split_once(after).map(|(found, _)| found)
}

/// An upload id in a query.
fn encoded(text: &str) -> String {
    auth::uri::encode(text.as_bytes(), false)
}
