//! What scores candidates, as JSON: weights, trees, formulas. A score is a number, and its explanation adds up to it.
#![no_main]

use kindred::rescore::{Candidate, Explained, Profile, Signals, Wanted};
use kindred_fuzz::COLLECTION;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (schema, _, documents) = &*COLLECTION;
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    let Ok(scorer) = Profile::read_one(&json, schema) else { return };
    let signals =
        Signals { dot: Some(0.7), best_dot: 0.9, bm25: Some(0.2), dense_rank: Some(3), lexical_rank: None, reciprocal_rank: 0.01 };
    for wanted in [Wanted::from_text("senior night nurse, remote", 1.8e15), Wanted::from_document(&documents[0], schema, 1.8e15)] {
        for (attributes, signals) in documents.iter().zip([signals, Signals::default(), signals]) {
            let candidate = Candidate::new(&wanted, signals, attributes, schema);
            let score = scorer.score(&candidate);
            assert!(!score.is_nan(), "a score is a number");
            match scorer.explain(&candidate) {
                Explained::Terms(terms) => {
                    assert_eq!(terms.iter().fold(0.0, |sum, term| sum + term.contribution).to_bits(), (score + 0.0).to_bits())
                }
                tree => assert!(serde_json::to_string(&tree).is_ok_and(|json| !json.contains("NaN"))),
            }
        }
    }
});
