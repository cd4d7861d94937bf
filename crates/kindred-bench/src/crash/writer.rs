//! A writer: changes documents of its own in every way there is, and keeps count in its ledger.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::Method;

use super::counters::{COUNTERS, Counters};
use super::document::{Document, path};
use super::fault::Fault;
use super::ledger::{CHUNK, Change, Known, Ledger};
use super::reading;
use super::shared::{Shared, Trouble, count};
use crate::client::{Answer, Client};
use crate::corpus::drawn;
use kindred_core::domain::Choice;

/// Ids of each writer: more than a chunk, and with those of all writers few enough for one search to return all.
pub(super) const IDS: usize = 300;
const MAX_BATCH: usize = 20;
const TAGS: usize = 10;
/// Time that a server gets whose queue is full.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Writer {
    number: usize,
    dims: usize,
    choice: Choice,
    version: u64,
    pub ledger: Ledger,
}

/// A request, what it does, and how it must be answered.
struct Request {
    method: Method,
    path: String,
    body: Value,
    changes: Vec<Change>,
    expects: Expects,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expects {
    /// One change number for each item.
    Items,
    /// One change number.
    One,
    /// The number of documents that were deleted.
    Deleted,
    /// 409: the condition does not hold.
    Conflict,
}

impl Writer {
    pub fn new(number: usize, dims: usize, seed: u64) -> Self {
        let choice = Choice::new("writer", seed.wrapping_add(number as u64));
        Self { number, dims, choice, version: 0, ledger: Ledger::default() }
    }

    /// All ids that are this writer's, whether there is such a document or not.
    pub fn ids(&self) -> impl Iterator<Item = String> + use<> {
        let number = self.number;
        (0..IDS).map(move |i| id(number, i))
    }

    /// Writes until the server is killed, or something is wrong.
    pub fn run(&mut self, client: &Client, counters: &Counters, shared: &Shared) {
        while !shared.is_killing() {
            shared.n_writing.fetch_add(1, Ordering::SeqCst);
            let written = self.step(client, counters, shared);
            shared.n_writing.fetch_sub(1, Ordering::SeqCst);
            if let Err(trouble) = written {
                return shared.report(&format!("writer {}", self.number), trouble);
            }
        }
    }

    /// Writes about half of the documents.
    pub fn fill(&mut self, client: &Client, shared: &Shared) -> Result<(), Trouble> {
        let request = self.put(IDS / 2);
        self.send(client, request, shared)
    }

    fn step(&mut self, client: &Client, counters: &Counters, shared: &Shared) -> Result<(), Trouble> {
        let request = match self.choice.below(100) {
            0..40 => {
                let n = 1 + self.choice.below(MAX_BATCH);
                self.put(n)
            }
            40..43 => {
                let n = CHUNK + 1 + self.choice.below(IDS - CHUNK);
                self.put(n)
            }
            43..46 => self.put_again(),
            46..65 => self.merge(),
            65..73 => self.delete_one(),
            73..78 => self.delete_ids(),
            78..83 => self.delete_by_filter(),
            83..90 => self.conditional(true),
            90..94 => self.conditional(false),
            _ => {
                let is_added = counters.increment(client, self.choice.below(COUNTERS))?;
                count(&shared.n_acknowledged, u64::from(is_added));
                return Ok(());
            }
        };
        let touched: Vec<String> = request.changes.iter().map(|change| change.id.clone()).collect();
        self.send(client, request, shared)?;
        self.look_again(client, &touched)
    }

    /// Whoever was answered finds what he wrote.
    fn look_again(&mut self, client: &Client, touched: &[String]) -> Result<(), Trouble> {
        if touched.is_empty() || !self.choice.chance(20) {
            return Ok(());
        }
        let id = self.choice.pick(touched);
        let found = reading::document(client, id)?;
        if found.as_ref() != self.ledger.get(id) {
            let what = format!("it was acknowledged as {:?}, and right after that it is {found:?}", self.ledger.get(id));
            return Err(Trouble::Fault(Fault::Lost { id: id.clone(), what }));
        }
        let Some(Known { document, .. }) = found.filter(|_| self.choice.chance(50)) else { return Ok(()) };
        let first = reading::search(client, &drawn(document.vector, self.dims), 1, "exact")?;
        if first.first() != Some(id) {
            let what = format!("right after it was acknowledged, a search for its own vector finds {first:?}");
            return Err(Trouble::Fault(Fault::Lost { id: id.clone(), what }));
        }
        Ok(())
    }

    fn send(&mut self, client: &Client, request: Request, shared: &Shared) -> Result<(), Trouble> {
        let Request { method, path, body, changes, expects } = request;
        let n = changes.len();
        self.ledger.begin(changes, expects == Expects::Items);
        // Without an answer it stays under way: either may be right then.
        let answer = client.call(&method, &path, &if body.is_null() { String::new() } else { body.to_string() })?;
        if answer.status == 429 || (answer.status == 409 && expects == Expects::Conflict) {
            self.ledger.refuse();
            if answer.status == 429 {
                std::thread::sleep(PAUSE);
            }
            return Ok(());
        }
        let Some(seqnos) = read_seqnos(&answer, n, expects) else {
            return Err(Trouble::wrong_answer(format!("{method} {path} of {n} documents: {} {}", answer.status, answer.body)));
        };
        self.ledger.acknowledge(&seqnos);
        count(&shared.n_acknowledged, n as u64);
        Ok(())
    }

    fn put(&mut self, n: usize) -> Request {
        let mut numbers: Vec<usize> = (0..IDS).collect();
        self.choice.shuffle(&mut numbers);
        let changes: Vec<Change> =
            numbers[..n].iter().map(|i| Change { id: id(self.number, *i), after: Some(self.new_document()) }).collect();
        let body = changes.iter().filter_map(|c| Some(c.after.as_ref()?.item(&c.id, self.dims))).collect();
        Request { method: Method::PUT, path: path("/documents"), body: Value::Array(body), changes, expects: Expects::Items }
    }

    /// Documents as they are. Whether that counts as a change depends on how exactly the server keeps vectors.
    fn put_again(&mut self) -> Request {
        let n = 1 + self.choice.below(MAX_BATCH);
        let (mut changes, mut body) = (Vec::new(), Vec::new());
        for (id, document) in self.some(n) {
            body.push(document.item(&id, self.dims));
            changes.push(Change { id, after: Some(document) });
        }
        self.unless_empty(Request { method: Method::PUT, path: path("/documents"), body: body.into(), changes, expects: Expects::Items })
    }

    fn merge(&mut self) -> Request {
        let n = 1 + self.choice.below(MAX_BATCH);
        let (mut changes, mut body) = (Vec::new(), Vec::new());
        for (id, before) in self.some(n) {
            let fresh = self.new_document();
            let after = Document { vector: before.vector, note: self.choice.chance(50).then_some(fresh.version), ..fresh };
            body.push(after.patch(&id, &before));
            changes.push(Change { id, after: Some(after) });
        }
        self.unless_empty(Request { method: Method::PATCH, path: path("/documents"), body: body.into(), changes, expects: Expects::Items })
    }

    fn delete_one(&mut self) -> Request {
        let changes = self.some_deleted(1);
        let path = path(&format!("/documents/{}", changes.first().map(|change| change.id.as_str()).unwrap_or_default()));
        self.unless_empty(Request { method: Method::DELETE, path, body: Value::Null, changes, expects: Expects::One })
    }

    fn delete_ids(&mut self) -> Request {
        let n = 1 + self.choice.below(MAX_BATCH);
        let changes = self.some_deleted(n);
        let body = json!({"ids": changes.iter().map(|change| change.id.as_str()).collect::<Vec<_>>()});
        self.unless_empty(Request { method: Method::POST, path: path("/documents/delete"), body, changes, expects: Expects::Deleted })
    }

    fn delete_by_filter(&mut self) -> Request {
        let tag = format!("t{}", self.choice.below(TAGS));
        let (key, other) = (json!({"key": "writer", "match": {"value": self.name()}}), json!({"key": "tag", "match": {"value": tag}}));
        let tagged = self.ledger.documents().filter(|(_, known)| known.document.tag == tag);
        let changes = tagged.map(|(id, _)| Change { id: id.clone(), after: None }).collect();
        let body = json!({"filter": {"must": [key, other]}});
        Request { method: Method::POST, path: path("/documents/delete"), body, changes, expects: Expects::Deleted }
    }

    /// A document is written on a condition that holds, or on one that does not.
    fn conditional(&mut self, holds: bool) -> Request {
        let id = id(self.number, self.choice.below(IDS));
        let condition = match (self.ledger.get(&id), holds) {
            (Some(known), true) => format!("if_seqno={}", known.seqno),
            (Some(known), false) if known.seqno > 1 && self.choice.chance(50) => format!("if_seqno={}", known.seqno - 1),
            (Some(_), false) | (None, true) => "create_only=true".to_owned(),
            (None, false) => "if_seqno=1".to_owned(),
        };
        let document = self.new_document();
        let (path, body) = (path(&format!("/documents/{id}?{condition}")), document.item(&id, self.dims));
        let expects = if holds { Expects::One } else { Expects::Conflict };
        // What must be refused changes nothing, whatever becomes of the server.
        let changes = if holds { vec![Change { id, after: Some(document) }] } else { Vec::new() };
        Request { method: Method::PUT, path, body, changes, expects }
    }

    /// Different documents that are there, at most `n`.
    fn some(&mut self, n: usize) -> Vec<(String, Document)> {
        let mut all: Vec<(String, Document)> = self.ledger.documents().map(|(id, known)| (id.clone(), known.document.clone())).collect();
        self.choice.shuffle(&mut all);
        all.truncate(n);
        all
    }

    fn some_deleted(&mut self, n: usize) -> Vec<Change> {
        self.some(n).into_iter().map(|(id, _)| Change { id, after: None }).collect()
    }

    /// Where there is nothing to change, something is written.
    fn unless_empty(&mut self, request: Request) -> Request {
        if request.changes.is_empty() { self.put(1) } else { request }
    }

    fn name(&self) -> String {
        format!("w{}", self.number)
    }

    fn new_document(&mut self) -> Document {
        self.version += 1;
        Document {
            title: "document".to_owned(),
            writer: self.name(),
            tag: format!("t{}", self.choice.below(TAGS)),
            version: self.version,
            vector: (self.version << 8) + self.number as u64,
            note: None,
        }
    }
}

fn id(writer: usize, number: usize) -> String {
    format!("w{writer}-{number:03}")
}

/// A change number for each change, if the answer is as it must be.
fn read_seqnos(answer: &Answer, n: usize, expects: Expects) -> Option<Vec<u64>> {
    let body = Some(&answer.body).filter(|_| answer.is_success())?;
    match expects {
        Expects::Items => {
            let items = body["items"].as_array().filter(|items| items.len() == n && body["errors"] == false)?;
            items.iter().map(|item| item["seqno"].as_u64()).collect()
        }
        Expects::One => Some(vec![body["seqno"].as_u64()?]),
        Expects::Deleted => (body["deleted"].as_u64()? == n as u64).then(|| vec![0; n]),
        Expects::Conflict => None,
    }
}
