//! A filter as JSON: read, and held against documents.
#![no_main]

use kindred_core::domain::Filter;
use kindred_fuzz::COLLECTION;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (schema, _, documents) = &*COLLECTION;
    if let Ok(json) = serde_json::from_slice(bytes)
        && let Ok(filter) = Filter::parse(&json, schema)
    {
        let passed = documents.iter().filter(|values| filter.matches(values)).count();
        assert!(passed <= documents.len() && filter.size_bytes() > 0);
    }
});
