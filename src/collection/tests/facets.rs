//! What counting values may cost.

use super::*;
use crate::collection::facets::{Facet, FacetBudget};
use crate::collection::retrieve::RetrieveRequest;
use kindred_core::domain::StrategyChoice;

#[test]
fn counting_stays_within_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let collection = create_and_open(dir.path(), Durability::Sync).unwrap();
    let put = |ids: std::ops::Range<usize>| {
        let upsert = |id| upsert("one", &format!("d{id}"), &json!({"title": "x", "kind": format!("kind {}", id % 7)}), Precondition::None);
        apply(&collection, ids.map(upsert).collect()).unwrap();
    };
    put(0..40);
    rebuild(&collection, "one").unwrap();
    put(40..50);
    let searcher = collection.searcher();
    let field = searcher.meaning().schema.id("kind").unwrap();
    let request = RetrieveRequest { k: 1, ef_search: 1, strategy: StrategyChoice::Auto, filter: None, exclude: None, until: None };
    let scope = searcher.scope(&request).unwrap();
    // Of the generation the 7 values, which are fewer than its 40 documents; of newer documents all 10.
    let mut budget = FacetBudget::of(2 * 17);
    for _ in 0..2 {
        let Facet::Counted(counts) = searcher.facet(&scope, field, 3, &mut budget).unwrap() else { panic!("it is within the budget") };
        assert_eq!(counts, [("kind 0".to_owned(), 8), ("kind 1".to_owned(), 7), ("kind 2".to_owned(), 7)]);
    }
    assert_eq!(searcher.facet(&scope, field, 3, &mut budget).unwrap(), Facet::TooMany(17));
}
