//! `kindred inspect`: what a collection holds.

use anyhow::Result;

use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use kindred_core::domain::CollectionName;

/// Reading so many bytes takes more than a second.
const LONG_BYTES: u64 = 1_000_000_000;

/// Prints what a collection holds, as lines or as JSON.
///
/// # Errors
/// A collection that is not there or cannot be opened, or of whose files any is damaged: all of them are read.
pub fn run(settings: &Settings, collection: &CollectionName, json: bool) -> Result<()> {
    let catalog = App::open(settings, Access::Read)?.catalog;
    let info = catalog.get(collection)?;
    let total: u64 = info.files.iter().map(|file| file.size_bytes).sum();
    if total >= LONG_BYTES {
        eprintln!("checking all {:.1} GB of {collection}", total as f64 / 1e9);
    }
    catalog.verify(collection)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&info)?);
        return Ok(());
    }
    println!("collection   {}", info.name);
    println!("documents    {} ({} changes since the generation, last change {})", info.n_documents, info.n_changes, info.seqno);
    println!("generation   {}{}", info.generation, info.generation_created_at.map(|at| format!(", built {at}")).unwrap_or_default());
    println!("model        {}, {} dims, fingerprint {}", info.model, info.dims, info.fingerprint);
    if let Some(quantization) = info.quantization {
        println!("vectors      {}, stored as {quantization:?}", info.n_vectors);
    }
    println!("template     {}", info.definition.template.replace('\n', " ⏎ "));
    for (name, spec) in &info.definition.fields {
        let field_type = serde_json::to_string(&spec.field_type)?;
        let role = spec.role.map(|role| format!(", role {role:?}")).unwrap_or_default();
        println!("field        {name}: {}{}{role}", field_type.trim_matches('"'), if spec.index { ", indexed" } else { "" });
    }
    let each = |bytes: u64| bytes.checked_div(info.n_documents).map(|each| format!(", {each} a document")).unwrap_or_default();
    for file in &info.files {
        println!("file         {} {} bytes{}", file.name, file.size_bytes, each(file.size_bytes));
    }
    if total > 0 {
        println!("on disk      {total} bytes{}; all checksums match", each(total));
    }
    Ok(())
}
