//! Reads back what the server has.

use serde_json::{Value, json};

use super::document::{Document, path};
use super::fault::Fault;
use super::ledger::Known;
use super::shared::Trouble;
use crate::client::Client;

/// A document as the server has it.
///
/// # Errors
/// No answer, or one that is neither the document nor that there is none.
pub(super) fn document(client: &Client, id: &str) -> Result<Option<Known>, Trouble> {
    let answer = client.get(&path(&format!("/documents/{id}")))?;
    if answer.status == 404 {
        return Ok(None);
    }
    let parsed = serde_json::from_value::<Document>(answer.body["fields"].clone());
    match (answer.status, answer.body["seqno"].as_u64(), parsed) {
        (200, Some(seqno), Ok(document)) => Ok(Some(Known { document, seqno })),
        (200, Some(_), Err(e)) => {
            Err(Trouble::Fault(Fault::Phantom { id: id.to_owned(), what: format!("{e} in {}", answer.body["fields"]) }))
        }
        _ => Err(Trouble::wrong_answer(format!("reading {id}: {} {}", answer.status, answer.body))),
    }
}

/// The ids that a search finds, best first.
///
/// # Errors
/// No answer, or one that is not 200.
pub(super) fn search(client: &Client, vector: &[i32], limit: usize, strategy: &str) -> Result<Vec<String>, Trouble> {
    let body = json!({"query": {"vector": vector}, "limit": limit, "strategy": strategy, "fields": []});
    let answer = client.post(&path("/search"), &body.to_string())?;
    let Some(hits) = answer.body["hits"].as_array().filter(|_| answer.status == 200) else {
        return Err(Trouble::wrong_answer(format!("a search: {} {}", answer.status, answer.body)));
    };
    Ok(hits.iter().filter_map(|hit| hit["id"].as_str().map(str::to_owned)).collect())
}

/// How many documents the collection says it has.
///
/// # Errors
/// No answer, or another one.
pub(super) fn n_documents(client: &Client) -> Result<u64, Trouble> {
    let answer = client.get(&path(""))?;
    let n: Option<u64> = answer.body["n_documents"].as_u64();
    n.ok_or_else(|| Trouble::wrong_answer(format!("looking at the collection: {} {}", answer.status, Value::to_string(&answer.body))))
}
