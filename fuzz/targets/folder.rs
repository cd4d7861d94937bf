//! A file of a collection's folder: the first byte is its number in `FILES`, the rest its contents. Checksums are not looked at here (`cfg(fuzzing)`),
//! so that what lies behind them is met. Whatever is opened is searched and read; errors are fine, all else is not.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use kindred::collection::{
    Access, BuildParams, Change, Changes, Collection, CollectionError, Collections, Description, Durability, ModelIdentity, OpenOptions,
    Question, RetrieveRequest, Searcher, StoredDocument, WalSettings,
};
use kindred_core::Progress;
use kindred_core::domain::{Clock, CollectionName, Document, DocumentId, Embedding, Filter, Precondition, StrategyChoice};
use kindred_fuzz::{COLLECTION, abort_on_own_panics, definition, documents, scratch};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::json;

const DIMS: usize = 4;
const N_DOCUMENTS: usize = 40;

/// A sound collection: most of its documents in a generation, some in the log.
struct Folder {
    data: PathBuf,
    /// Path and contents of each file, in the order of paths.
    files: Vec<(PathBuf, Vec<u8>)>,
}

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let data = scratch();
    let collection = open(&data, Access::Rebuild).expect("a new collection");
    let write = |range: std::ops::Range<usize>| {
        let changes = range.map(upsert).collect();
        let changes = Changes::checked_in(&collection.searcher(), changes);
        collection.apply(changes).expect("sound changes");
    };
    write(0..N_DOCUMENTS);
    let pinned = collection.searcher();
    let params = BuildParams { threads: 1, max_connections: 4, ..BuildParams::default() };
    let id = collection.build(&pinned.contents().expect("they are sound"), &pinned, &params, &Progress::hidden()).expect("it is built");
    collection.activate(id, |_: &Description, _| -> Result<_, CollectionError> { Ok(Vec::new()) }).expect("it is sound");
    write(N_DOCUMENTS - 2..N_DOCUMENTS + 3);
    let mut paths = Vec::new();
    list(&data.join("jobs"), &mut paths);
    paths.sort();
    let files = paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("it was listed"))).collect();
    Folder { data, files }
});

fn list(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { list(&path, paths) } else { paths.push(path) }
    }
}

fn open(data: &Path, access: Access) -> Result<Arc<Collection>, CollectionError> {
    let name = CollectionName::new("jobs").expect("a name");
    let configured = BTreeMap::from([(name.clone(), definition())]);
    let identify = |_: &_, _: Option<&str>| Ok(ModelIdentity { name: "m".into(), fingerprint: "m".into(), dims: DIMS, folder: None });
    let options = OpenOptions { access, durability: Durability::Sync, wal: WalSettings { rotate_bytes: 1 << 20 }, clock: Clock::default() };
    Collections::open(data, configured, Arc::new(identify), options)?.get(&name)
}

fn embedding(number: usize) -> Vec<f32> {
    let numbers = (0..DIMS).map(|i| ((number * 7 + i * i * 3) % 11) as f32 - 4.5).collect();
    Embedding::new(numbers, DIMS).expect("it is no zero").into_vec()
}

fn upsert(number: usize) -> Change {
    let (schema, template, _) = &*COLLECTION;
    let [mut fields, ..] = documents();
    let place = json!({"lat": number, "lon": -(number as f64)});
    for (name, value) in [("id", json!(format!("d{number}"))), ("salary", json!({"min": number * 1000})), ("location", place)] {
        fields[name] = value;
    }
    let document = Document::parse(fields, schema, template, 10_000).expect("a sound document");
    let text_hash = document.text_hash();
    let fields = serde_json::to_string(&document.fields).expect("it is JSON");
    let document_stored = StoredDocument { fields, attributes: document.attributes, embedding: embedding(number), text_hash };
    Change::Upsert { id: document.id, document: document_stored, condition: Precondition::None }
}

/// Everything that reads: each way to search, with and without filters, documents, verification.
fn use_all(searcher: &Searcher) -> Result<(), CollectionError> {
    let (schema, ..) = &*COLLECTION;
    let filters = [
        json!({"must": [{"key": "skills", "match": {"value": "wards"}}, {"key": "salary.min", "range": {"lt": 20_000}}]}),
        json!({"should": [{"key": "location", "geo_radius": {"center": {"lat": 5, "lon": -5}, "radius": 2e5}}, {"key": "remote", "match": {"value": true}}]}),
    ];
    let query = Embedding::new(embedding(3), DIMS).expect("a query");
    let words = searcher.words("night nurse").ok();
    for filter in [None, Some(&filters[0]), Some(&filters[1])] {
        let filter = filter.map(|json| Filter::parse(json, schema).expect("a sound filter"));
        for strategy in [StrategyChoice::Graph, StrategyChoice::Exact, StrategyChoice::Auto] {
            let request = RetrieveRequest { k: 5, ef_search: 8, strategy, filter: filter.as_ref(), exclude: None, until: None };
            let question = words.as_ref().map_or(Question::Meaning(&query), |words| Question::Both(&query, words));
            for found in searcher.retrieve(question, &request)?.found {
                searcher.id(&found.document)?;
                searcher.fields(&found.document)?;
                searcher.attributes(&found.document)?;
                searcher.embeddings(&found.document)?;
            }
        }
    }
    searcher.get(&DocumentId::new("d7").expect("an id"))?;
    searcher.page(&Filter::default(), None, 10)?;
    searcher.verify()?;
    searcher.contents().map(drop)
}

fuzz_target!(
    init: {
        abort_on_own_panics();
        // Seeds are made here: files of this very format.
        if let Some(seeds) = std::env::var_os("KINDRED_FUZZ_SEEDS") {
            for (number, (_, contents)) in FOLDER.files.iter().enumerate() {
                let seed = [&[number as u8][..], contents].concat();
                std::fs::write(Path::new(&seeds).join(number.to_string()), seed).expect("the folder of seeds");
            }
        }
    },
    |bytes: &[u8]| -> Corpus {
        let Some((&number, contents)) = bytes.split_first() else { return Corpus::Reject };
        let Some((path, sound)) = FOLDER.files.get(usize::from(number)) else { return Corpus::Reject };
        // Another file, lest a map of the last one see it.
        let replace = |contents: &[u8]| {
            std::fs::remove_file(path).and_then(|()| std::fs::write(path, contents)).expect("a file in memory");
        };
        replace(contents);
        if let Ok(collection) = open(&FOLDER.data, Access::Read) {
            let _ = use_all(&collection.searcher());
        }
        replace(sound);
        Corpus::Keep
    }
);
