//! Long documents: cut, or in chunks, of which the best counts, or their mean.

use kindred::collection::Access;
use kindred::pipeline::{ModelChoice, Query, RebuildRequest, WriteRequest};
use kindred_core::Progress;
use kindred_core::domain::CollectionName;
use serde_json::{Value, json};

use crate::app::{TestApp, ids, open, request, settings};

/// A posting of more tokens than the model takes (256), whose last words are about something else than the rest.
fn long_posting() -> Value {
    let office = "The clerk files letters, answers the telephone, keeps the calendar of the department and orders paper and ink. ";
    json!({"id": "clerk", "title": "Office clerk", "company": "Port Authority", "location": {"city": "Bremen", "country": "DE"},
           "description": format!("{}Once a year the clerk steers a crane that unloads container ships.", office.repeat(20))})
}

fn postings() -> Value {
    json!([
        long_posting(),
        {"id": "driver", "title": "Truck driver", "description": "Drive goods from the warehouse to shops.", "location": {"city": "Bremen"}},
        {"id": "baker", "title": "Baker", "description": "Bake bread in the early morning.", "location": {"city": "Paris"}},
    ])
}

const CRANE: &str = "crane operator for container ships";

async fn search(app: &TestApp, collection: &str, query: Value) -> Value {
    app.search(collection, json!({"query": query, "limit": 3})).await.ok()
}

fn score_of(answer: &Value, id: &str) -> f64 {
    let hits = answer["hits"].as_array().unwrap();
    hits.iter().find(|hit| hit["id"] == id).unwrap()["retrieval_score"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_chunk_of_a_long_document_counts() {
    let app = TestApp::start().await;
    let fields = json!({"location.city": {"type": "keyword", "index": true}});
    for mode in ["cut", "best", "mean"] {
        let definition = json!({"template": "{title}\n{description}", "fields": fields, "chunks": {"mode": mode, "max_tokens": 128}});
        app.put(&format!("/v1/collections/{mode}"), definition).await.ok();
        app.put(&format!("/v1/collections/{mode}/documents"), postings()).await.ok();
    }
    let mut scores = Vec::new();
    for mode in ["cut", "best", "mean"] {
        let before = search(&app, mode, json!({"text": CRANE})).await;
        scores.push(score_of(&before, "clerk"));
        let path = format!("/v1/collections/{mode}");
        let info = app.get(&path).await.ok();
        assert_eq!(info["n_documents"], 3);
        assert_eq!(info["n_vectors"].as_u64().unwrap() > 5, mode == "best", "{mode}: {info}");
        // What was in memory is in a graph now, with the same scores; only texts over one chunk are other than with cut.
        let task = app.post(&format!("{path}/rebuild"), json!({})).await.ok();
        app.ended(&task).await;
        let after = search(&app, mode, json!({"text": CRANE})).await;
        for id in ["clerk", "driver", "baker"] {
            assert!((score_of(&before, id) - score_of(&after, id)).abs() < 1e-3, "{mode} {id}");
        }
        assert_eq!(app.get(&path).await.ok()["n_vectors"], info["n_vectors"], "{mode}");
    }
    let [cut, best, mean] = scores[..] else { panic!("three modes") };
    assert!(best > cut + 0.1 && best > mean && mean > cut, "cut {cut}, best {best}, mean {mean}");

    // Each document once, and only those that match.
    assert_eq!(ids(&search(&app, "best", json!({"text": "telephone and calendar of the department"})).await).len(), 3);
    let filter = json!({"must": [{"key": "location.city", "match": {"value": "Bremen"}}]});
    let filtered = app.search("best", json!({"query": {"text": CRANE}, "filter": filter})).await.ok();
    let mut found = ids(&filtered);
    found.sort_unstable();
    assert_eq!(found, ["clerk", "driver"]);
    assert_eq!(filtered["plan"]["n_matching"], 2);
    // A long document can be asked with, and does not find itself.
    let like = search(&app, "best", json!({"id": "clerk"})).await;
    assert_eq!(ids(&like).len(), 2);
    // Replaced by a short one, and gone: nothing is left of its chunks.
    app.put("/v1/collections/best/documents", json!([{"id": "clerk", "title": "Piano lessons for children"}])).await.ok();
    assert!(score_of(&search(&app, "best", json!({"text": CRANE})).await, "clerk") < best - 0.05);
    app.delete("/v1/collections/best/documents/clerk").await.ok();
    assert_eq!(ids(&search(&app, "best", json!({"text": CRANE})).await).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_chunks_takes_a_rebuild_that_leaves_given_embeddings() {
    let name = CollectionName::new("jobs").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut given = vec![0.0f32; 384];
    given[7] = 1.0;
    {
        let app = open(&settings(dir.path(), &["collections.jobs.chunks.mode=\"cut\""]), Access::Serve).unwrap();
        let mut documents = postings().as_array().unwrap().clone();
        documents.push(json!({"id": "given", "title": "Given", "embedding": given}));
        app.write.write(&name, WriteRequest::put(documents.into_iter().map(Ok)), &Progress::hidden()).await.unwrap();
    }
    let settings = settings(dir.path(), &["collections.jobs.chunks.mode=\"best\""]);
    assert!(open(&settings, Access::Serve).unwrap_err().to_string().contains("kindred rebuild jobs"));
    let app = open(&settings, Access::Rebuild).unwrap();
    let cut = app.query.search(request(name.clone(), Query::Text(CRANE.to_owned()))).await.unwrap();
    let to_configured = RebuildRequest { model: ModelChoice::Configured, ..RebuildRequest::default() };
    let report = app.rebuild.rebuild(&name, &to_configured, &|_, _| Progress::hidden()).unwrap();
    assert_eq!((report.n_documents, report.n_encoded), (4, 3));
    let best = app.query.search(request(name.clone(), Query::Text(CRANE.to_owned()))).await.unwrap();
    assert_eq!(best.hits[0].id.as_str(), "clerk");
    let score = |hits: &[kindred::pipeline::Hit]| hits.iter().find(|hit| hit.id.as_str() == "clerk").unwrap().retrieval_score.unwrap();
    assert!(score(&best.hits) > score(&cut.hits) + 0.05);
    let of_given = app.query.search(request(name.clone(), Query::Vector(given))).await.unwrap();
    assert_eq!((of_given.hits[0].id.as_str(), of_given.hits[0].retrieval_score > Some(0.999)), ("given", true));
    assert_eq!(app.rebuild.rebuild(&name, &to_configured, &|_, _| Progress::hidden()).unwrap().n_encoded, 0, "it is as it should be");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_make_no_sense_are_refused() {
    let app = TestApp::start().await;
    for (chunks, word) in [
        (json!({"mode": "best", "max_tokens": 3}), "chunks.max_tokens is 3"),
        (json!({"mode": "best", "max_tokens": 64, "overlap_tokens": 60}), "at most half"),
        (json!({"mode": "best", "max_chunks": 0}), "1 to 1024"),
    ] {
        let definition = json!({"template": "{title}", "chunks": chunks});
        let answer = app.put("/v1/collections/c", definition).await;
        assert_eq!(answer.status.as_u16(), 422, "{}", answer.body);
        assert!(answer.body["error"]["message"].as_str().unwrap().contains(word), "{}", answer.body);
    }
}
