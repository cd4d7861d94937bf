//! The typed Rust client against a running server.

use kindred::client::{Client, ClientError, Facet, Search};
use serde_json::json;

use crate::app::{TestApp, jobs, members};

#[tokio::test(flavor = "multi_thread")]
async fn the_typed_client_does_what_its_users_do() {
    let app = TestApp::start().await;
    let client = Client::new(&format!("http://{}/", app.address)).unwrap();
    let written = client.put("jobs", jobs().as_array().unwrap()).await.unwrap();
    assert!(!written.errors && written.items.iter().all(|item| item.result.as_deref() == Some("created")), "{written:?}");
    client.put("members", members().as_array().unwrap()).await.unwrap();
    let in_paris = json!({"must": [{"key": "location.city", "match": {"value": "Paris"}}]});
    let search = Search::text("make desserts").limit(1).filter(in_paris).fields(&["title"]).facets(&["company"]).explain();
    let found = client.search("jobs", &search).await.unwrap();
    assert_eq!((found.hits.len(), found.hits[0].id.as_str(), &found.hits[0].fields["title"]), (1, "chef", &json!("Pastry chef")));
    assert_eq!(found.facets["company"], ["Café Lune", "Kiln"].map(|name| Facet { value: json!(name), count: 1 }));
    assert!(found.hits[0].explanation.is_some() && found.timings["total_us"] > 0 && found.degraded.is_empty());
    let matched = client.match_documents(("members", "m-nurse"), "jobs", json!({"limit": 1})).await.unwrap();
    assert_eq!(matched.hits[0].id, "nurse");
    assert_eq!(client.search("jobs", &Search::like("chef").limit(9)).await.unwrap().hits.len(), 4);

    let odd = "a/b?c#d %e";
    client.put("jobs", &[json!({"id": odd, "title": "Odd"})]).await.unwrap();
    assert_eq!(client.get("jobs", odd).await.unwrap().unwrap().fields["title"], "Odd");
    assert_eq!(client.delete("jobs", &[odd, "nobody"]).await.unwrap(), 1);
    let french = json!({"must": [{"key": "location.country", "match": {"value": "FR"}}]});
    assert_eq!(client.delete_matching("jobs", &french).await.unwrap(), 2);
    let refused = client.delete_matching("jobs", &json!({"must": []})).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: 422, .. }), "{refused}");
    assert_eq!(client.delete_all("jobs").await.unwrap(), 3);
    assert!(client.get("jobs", odd).await.unwrap().is_none());
    let refused = client.search("jobs", &Search::text("x").limit(0)).await.unwrap_err();
    let ClientError::Refused { status: 422, code, field, request_id, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((code.as_str(), field.as_deref(), request_id.is_empty()), ("invalid", Some("limit"), false));
    assert!(
        matches!(client.get("cats", "x").await, Err(ClientError::Refused { status: 404, .. })),
        "no such collection is no such document"
    );
    assert!(matches!(Client::new("nowhere"), Err(ClientError::Url(_))));
    assert!(matches!(Client::new("data:x"), Err(ClientError::Url(_))));
    assert!(matches!(Client::new("http://127.0.0.1:1").unwrap().get("a", "b").await, Err(ClientError::Unreachable(_))));
}
