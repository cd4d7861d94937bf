//! A collection's definition as a line of JSON, below it a document for it.
#![no_main]

use kindred_core::domain::{CollectionDefinition, Document};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (definition, document) = bytes.iter().position(|&b| b == b'\n').map_or((bytes, &b"{}"[..]), |at| (&bytes[..at], &bytes[at + 1..]));
    let Ok(definition) = serde_json::from_slice::<CollectionDefinition>(definition) else { return };
    let Ok((template, schema)) = definition.check() else { return };
    let written = serde_json::to_string(&definition).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<CollectionDefinition>(&written).expect("and read again"), definition);
    let Ok(json) = serde_json::from_slice(document) else { return };
    if let Ok(document) = Document::parse(json, &schema, &template, 10_000) {
        assert!(document.text.len() <= 10_000);
        let again =
            Document::from_fields(document.id.clone(), document.fields.clone(), &schema, &template, 10_000).expect("a sound document");
        assert_eq!((again.text, again.attributes), (document.text, document.attributes));
    }
});
