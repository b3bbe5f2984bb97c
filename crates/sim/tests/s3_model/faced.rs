//! Listings as clients read them: documents, and each page begun where the one before says.

use crate::face::{Answer, element, elements, escaped, unescaped};
use crate::pages::{Asked, Line};
use crate::sequence::Sequence;
use crate::stack::Stack;
use http::Method;
use types::VersionId;

/// What a document says of a page's lines, each in a form that can be compared.
type Told = Vec<String>;

impl Sequence {
    pub(crate) async fn list_through_the_face(&mut self, stack: &mut Stack) {
        let (b, asked) = (self.place().0, self.asked());
        self.note(format!("list {b} through the face {asked:?}"));
        match self.dice.below(4) {
            0 => self.first_version(stack, b, &asked).await,
            1 => self.second_version(stack, b, &asked).await,
            2 => self.versions_of_the_face(stack, b, &asked).await,
            _ => self.uploads_of_the_face(stack, b, &asked).await,
        }
    }

    async fn page_of_the_face(&mut self, stack: &mut Stack, b: usize, asked: &Asked, more: &str) -> Answer {
        let target = format!(
            "/{}?encoding-type=url&prefix={}&delimiter={}{more}",
            self.buckets[b].name,
            escaped(&asked.prefix, b""),
            escaped(&asked.delimiter, b"")
        );
        let answer = stack.face.ask(Method::GET, &target, &[]).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer
    }

    /// Keys with ETags and sizes, then common prefixes, over all pages.
    fn wanted_objects(&self, b: usize, asked: &Asked) -> (Told, Told) {
        let all = Asked {
            max: 1000,
            ..asked.clone()
        };
        let (mut keys, mut prefixes) = (Told::new(), Told::new());
        for line in all.objects(&self.buckets[b], "").0 {
            match line {
                Line::Under(key, v) => keys.push(format!("{key} {} {}", v.etag, v.size())),
                Line::Prefix(prefix) => prefixes.push(prefix),
            }
        }
        (keys, prefixes)
    }

    async fn first_version(&mut self, stack: &mut Stack, b: usize, asked: &Asked) {
        let (mut keys, mut prefixes, mut marker) = (Told::new(), Told::new(), String::new());
        loop {
            let more = format!("&max-keys={}&marker={}", asked.max, escaped(&marker, b""));
            let answer = self.page_of_the_face(stack, b, asked, &more).await;
            take_objects(answer.text(), (&mut keys, &mut prefixes));
            if element(answer.text(), "IsTruncated") != "true" {
                break;
            }
            // Without a delimiter there is no NextMarker: clients go on from the last key.
            let next = element(answer.text(), "NextMarker");
            let last = elements(answer.text(), "Key").last().copied().unwrap_or_default();
            assert_eq!(next.is_empty(), asked.delimiter.is_empty(), "{}", answer.text());
            marker = unescaped(if next.is_empty() { last } else { next });
            self.covered.count("list v1", "a later page");
        }
        assert_eq!((keys, prefixes), self.wanted_objects(b, asked), "{asked:?}");
        self.covered.count("list v1", "ok");
    }

    async fn second_version(&mut self, stack: &mut Stack, b: usize, asked: &Asked) {
        let (mut keys, mut prefixes, mut token) = (Told::new(), Told::new(), String::new());
        loop {
            let token_part = format!("&continuation-token={}", escaped(&token, b""));
            let more = format!(
                "&list-type=2&max-keys={}{}",
                asked.max,
                if token.is_empty() { "" } else { &token_part }
            );
            let answer = self.page_of_the_face(stack, b, asked, &more).await;
            let text = answer.text();
            let count = take_objects(text, (&mut keys, &mut prefixes));
            assert_eq!(element(text, "KeyCount"), count.to_string());
            token = element(text, "NextContinuationToken").to_owned();
            assert_eq!(element(text, "IsTruncated") == "true", !token.is_empty());
            if token.is_empty() {
                break;
            }
            assert_eq!(count as u32, asked.max, "only the last page is short");
            self.covered.count("list v2", "a later page");
        }
        assert_eq!((keys, prefixes), self.wanted_objects(b, asked), "{asked:?}");
        self.covered.count("list v2", "ok");
    }

    async fn versions_of_the_face(&mut self, stack: &mut Stack, b: usize, asked: &Asked) {
        let (mut versions, mut markers, mut prefixes) = (Told::new(), Told::new(), Told::new());
        let mut after = String::new();
        loop {
            let more = format!("&versions&max-keys={}{after}", asked.max);
            let answer = self.page_of_the_face(stack, b, asked, &more).await;
            let text = answer.text();
            let told = |entry: &str| {
                let of = |name| element(entry, name);
                format!("{} {} {}", unescaped(of("Key")), of("VersionId"), of("IsLatest"))
            };
            let size = |entry: &str| format!("{} {} {}", told(entry), tag(entry), element(entry, "Size"));
            versions.extend(elements(text, "Version").into_iter().map(size));
            markers.extend(elements(text, "DeleteMarker").into_iter().map(told));
            take_prefixes(text, &mut prefixes);
            if element(text, "IsTruncated") != "true" {
                break;
            }
            after = format!(
                "&key-marker={}",
                escaped(&unescaped(element(text, "NextKeyMarker")), b"")
            );
            let id = element(text, "NextVersionIdMarker");
            if !id.is_empty() {
                after += &format!("&version-id-marker={id}");
            }
            self.covered
                .count("list versions through the face", "a later page");
        }
        let all = Asked {
            max: 1000,
            ..asked.clone()
        };
        let mut wanted = (Told::new(), Told::new(), Told::new());
        for line in all.versions(&self.buckets[b], ("", None)).0 {
            match line {
                Line::Prefix(prefix) => wanted.2.push(prefix),
                Line::Under(key, (v, newest)) => {
                    let id = if v.null {
                        "null".to_owned()
                    } else {
                        VersionId(v.id).to_string()
                    };
                    let told = format!("{key} {id} {newest}");
                    if v.marker {
                        wanted.1.push(told);
                    } else {
                        wanted.0.push(format!("{told} {} {}", v.etag, v.size()));
                    }
                }
            }
        }
        assert_eq!((versions, markers, prefixes), wanted, "{asked:?}");
        self.covered.count("list versions through the face", "ok");
    }

    async fn uploads_of_the_face(&mut self, stack: &mut Stack, b: usize, asked: &Asked) {
        let (mut uploads, mut prefixes, mut after) = (Told::new(), Told::new(), String::new());
        loop {
            let more = format!("&uploads&max-uploads={}{after}", asked.max);
            let answer = self.page_of_the_face(stack, b, asked, &more).await;
            let text = answer.text();
            let told = |entry: &str| {
                format!(
                    "{} {}",
                    unescaped(element(entry, "Key")),
                    element(entry, "UploadId")
                )
            };
            uploads.extend(elements(text, "Upload").into_iter().map(told));
            take_prefixes(text, &mut prefixes);
            if element(text, "IsTruncated") != "true" {
                break;
            }
            let key = unescaped(element(text, "NextKeyMarker"));
            let id = element(text, "NextUploadIdMarker");
            after = format!("&key-marker={}&upload-id-marker={id}", escaped(&key, b""));
            self.covered
                .count("list uploads through the face", "a later page");
        }
        let all = Asked {
            max: 1000,
            ..asked.clone()
        };
        let mut wanted = (Told::new(), Told::new());
        for line in all.uploads(&self.buckets[b], ("", None)).0 {
            match line {
                Line::Prefix(prefix) => wanted.1.push(prefix),
                Line::Under(key, (_, u)) => wanted.0.push(format!("{key} {}", u.id)),
            }
        }
        assert_eq!((uploads, prefixes), wanted, "{asked:?}");
        self.covered.count("list uploads through the face", "ok");
    }
}

/// An entry's ETag, without its quotes.
fn tag(entry: &str) -> String {
    element(entry, "ETag").replace("&quot;", "").replace('"', "")
}

/// Takes the keys and common prefixes of a page; how many there were.
fn take_objects(text: &str, (keys, prefixes): (&mut Told, &mut Told)) -> usize {
    let entries = elements(text, "Contents");
    let told = |entry: &&str| {
        format!(
            "{} {} {}",
            unescaped(element(entry, "Key")),
            tag(entry),
            element(entry, "Size")
        )
    };
    keys.extend(entries.iter().map(told));
    entries.len() + take_prefixes(text, prefixes)
}

fn take_prefixes(text: &str, prefixes: &mut Told) -> usize {
    let common = elements(text, "CommonPrefixes");
    prefixes.extend(common.iter().map(|c| unescaped(element(c, "Prefix"))));
    common.len()
}
