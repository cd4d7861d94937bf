//! A segment, what is appended to it, and an oracle that knows the formula: the same documents, the same scores.

use std::collections::HashMap;
use std::path::Path;

use super::*;
use kindred_core::domain::{Choice, Lexical};

const WORDS: [&str; 24] = [
    "nurse",
    "nurses",
    "night",
    "shift",
    "welder",
    "engineer",
    "software",
    "rust",
    "c++",
    "hospital",
    "care",
    "patient",
    "senior",
    "junior",
    "remote",
    "berlin",
    "münchen",
    "clerk",
    "sales",
    "data",
    "scientist",
    "python",
    "teacher",
    "école",
];

fn analyzer() -> Analyzer {
    Analyzer::new(Lexical::English, &[]).unwrap()
}

/// Texts in which the first words are common and the last are rare.
fn texts(n: usize, seed: u64) -> Vec<String> {
    let mut choice = Choice::new("texts", seed);
    let mut word = || WORDS[choice.below(WORDS.len()).min(choice.below(WORDS.len()))];
    let mut all: Vec<String> = (0..n).map(|i| (0..i * 7 % 60).map(|_| word()).collect::<Vec<_>>().join(" ")).collect();
    if let Some(last) = all.last_mut() {
        last.push_str(" zymurgist");
    }
    all
}

fn segment(dir: &Path, texts: &[String]) -> LexicalSegment {
    let mut writer = LexicalWriter::new(&analyzer()).unwrap();
    texts.iter().for_each(|text| writer.add(text).unwrap());
    writer.finish(dir).unwrap();
    LexicalSegment::open(dir, texts.len()).unwrap().unwrap()
}

fn appended(texts: &[String], query: &LexicalQuery, n_sealed: usize) -> Matches {
    let terms: Vec<Terms> = texts.iter().map(|text| Terms::new(&analyzer(), text)).collect();
    let mut matches = Matches::new(query);
    matches.look_into(&AppendedTerms::new(terms[..n_sealed].iter()));
    terms[n_sealed..].iter().for_each(|terms| matches.look_at(terms));
    matches
}

/// BM25 as it stands in the textbook, but for lengths, which are kept in a byte (exactly up to 40).
fn oracle(texts: &[String], query: &str) -> Vec<f32> {
    let terms_of = |text: &str| {
        let (mut counts, mut len) = (HashMap::<String, f64>::new(), 0.0);
        analyzer().each_term(text, |term| {
            *counts.entry(term.to_owned()).or_default() += 1.0;
            len += 1.0;
        });
        (counts, len)
    };
    let documents: Vec<_> = texts.iter().map(|text| terms_of(text)).collect();
    let n = documents.len() as f64;
    let mean_len = documents.iter().map(|(_, len)| len).sum::<f64>() / n;
    let (wanted, _) = terms_of(query);
    let score = |(counts, len): &(HashMap<String, f64>, f64)| {
        let one = |(term, times): (&String, &f64)| {
            let n_with = documents.iter().filter(|(counts, _)| counts.contains_key(term)).count() as f64;
            let (frequency, k1, b) = (counts.get(term).copied().unwrap_or_default(), f64::from(K1), f64::from(B));
            let idf = (1.0 + (n - n_with + 0.5) / (n_with + 0.5)).ln();
            (1.0 + times.ln()) * idf * frequency * (k1 + 1.0) / (frequency + k1 * (1.0 - b + b * len / mean_len))
        };
        wanted.iter().map(one).sum::<f64>() as f32
    };
    documents.iter().map(score).collect()
}

#[test]
fn scores_are_bm25_in_a_segment_and_before() {
    let dir = tempfile::tempdir().unwrap();
    let texts = texts(300, 1);
    let segment = segment(dir.path(), &texts);
    segment.verify().unwrap();
    let rows: Vec<u32> = (0..300).collect();
    for text in ["night nurse", "c++ c++ engineer", "Zymurgists", "ecole Munchen", "sales clerks or teachers", ""] {
        let query = LexicalQuery::new(&analyzer(), text);
        let statistics = segment.statistics(&query).unwrap();
        let bm25 = Bm25::new(&query, &statistics);
        let scores = segment.scores(&query, &bm25, &rows).unwrap();
        for (row, (actual, expected)) in scores.iter().zip(oracle(&texts, text)).enumerate() {
            // Lengths over 40 are rounded.
            assert!((actual - expected).abs() <= expected * 0.05, "{text:?} in row {row}: {actual} instead of {expected}");
        }
        for n_sealed in [0, 128, 300] {
            let matches = appended(&texts, &query, n_sealed);
            assert_eq!(matches.statistics(), statistics);
            assert_eq!(matches.scores(&bm25), scores, "the same to the last bit");
        }
        // Of two halves, each in a place of its own, together.
        let other = tempfile::tempdir().unwrap();
        let half = self::segment(other.path(), &texts[..150]);
        let newer = appended(&texts[150..], &query, 0);
        let mut both = half.statistics(&query).unwrap();
        both.add(&newer.statistics());
        assert_eq!(both, statistics);
        assert_eq!([half.scores(&query, &bm25, &rows[..150]).unwrap(), newer.scores(&bm25)].concat(), scores);
    }
}

#[test]
fn the_best_allowed_rows_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let texts = texts(3_000, 2);
    let segment = segment(dir.path(), &texts);
    let rows: Vec<u32> = (0..3_000).collect();
    let mut choice = Choice::new("queries", 3);
    for _ in 0..100 {
        let text = (0..1 + choice.below(6)).map(|_| *choice.pick(&WORDS)).collect::<Vec<_>>().join(" ");
        let query = LexicalQuery::new(&analyzer(), &text);
        let statistics = segment.statistics(&query).unwrap();
        let scores = segment.scores(&query, &Bm25::new(&query, &statistics), &rows).unwrap();
        let (k, every) = (1 + choice.below(40), 1 + choice.below(5) as u32);
        let found = segment.search(&query, &statistics, k, |row| row.is_multiple_of(every)).unwrap();
        let mut expected: Vec<f32> = rows.iter().filter(|row| row.is_multiple_of(every)).map(|&row| scores[row as usize]).collect();
        expected.retain(|&score| score > 0.0);
        expected.sort_by(|a, b| b.total_cmp(a));
        expected.truncate(k);
        assert_eq!(found.len(), expected.len(), "{text:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.row.is_multiple_of(every) && (found.score - expected).abs() < 1e-4, "{text:?}: {found:?} instead of {expected}");
        }
    }
}

#[test]
fn equal_documents_make_equal_files() {
    let files = [0, 1].map(|_| {
        let dir = tempfile::tempdir().unwrap();
        segment(dir.path(), &texts(100, 4));
        std::fs::read(dir.path().join(LEXICAL_FILE)).unwrap()
    });
    assert_eq!(files[0], files[1]);
}

#[test]
fn damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let texts = texts(2_000, 5);
    assert!(LexicalSegment::open(dir.path(), 2_000).unwrap().is_none(), "there is no file yet");
    drop(segment(dir.path(), &texts));
    assert!(LexicalSegment::open(dir.path(), 1_999).unwrap_err().to_string().contains("2000 rows instead of 1999"));
    let path = dir.path().join(LEXICAL_FILE);
    let sound = std::fs::read(&path).unwrap();
    let query = LexicalQuery::new(&analyzer(), "night nurse");
    for at in (0..sound.len()).step_by(sound.len() / 97) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let told = match LexicalSegment::open(dir.path(), 2_000) {
            Err(e) => e,
            Ok(opened) => {
                // What was not needed was not looked at; all of it is here.
                let _ = opened.unwrap().statistics(&query).map_err(|e| assert_eq!(e.kind(), ErrorKind::Corrupt));
                LexicalSegment::open(dir.path(), 2_000).unwrap().unwrap().verify().expect_err("a byte is not what it was")
            }
        };
        assert_eq!(told.kind(), ErrorKind::Corrupt, "byte {at}: {told}");
        assert!(told.to_string().contains(LEXICAL_FILE), "byte {at}: {told}");
    }
}
