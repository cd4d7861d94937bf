//! Inputs and files that are not what they should be.

use super::*;
use crate::domain::Strategy;
use crate::error::ErrorKind;
use crate::index::graph_file::{Graph, Header};
use crate::storage::SectionWriter;

const FILES: [&str; 3] = ["graph.bin", "vectors.bin", "attributes.bin"];

#[test]
fn input_that_is_wrong_is_refused() {
    let good = Sample::random(1, 4, 2);
    let refuse = |change: &dyn Fn(&mut Sample)| {
        let mut sample = Sample { vectors: good.vectors.clone(), attributes: good.attributes.clone(), schema: good.schema.clone(), ..good };
        change(&mut sample);
        let dir = tempfile::tempdir().unwrap();
        let error = sample.build(dir.path(), &BuildParams::default()).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
        error
    };
    assert!(matches!(refuse(&|s| s.vectors[3] = f32::NAN), IndexError::NotUnit { row: 1 }));
    assert!(matches!(refuse(&|s| s.vectors[7] = f32::INFINITY), IndexError::NotUnit { row: 3 }));
    assert!(matches!(refuse(&|s| s.vectors[0] += 1.0), IndexError::NotUnit { row: 0 }));
    assert!(matches!(refuse(&|s| s.vectors.truncate(7)), IndexError::Count { expected: 8, actual: 7, .. }));
    assert!(matches!(refuse(&|s| s.dims = 0), IndexError::Dims { .. }));
    for (m, ef, threads) in [(1, 200, 0), (256, 200, 0), (16, 0, 0), (16, 200, 1_000_000)] {
        let params = BuildParams { max_connections: m, ef_construction: ef, threads, ..BuildParams::default() };
        assert_eq!(params.check().unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(matches!(check_row_count(u32::MAX as usize), Err(IndexError::TooManyRows { .. })));
}

#[test]
fn damaged_files_are_refused_by_name() {
    let sample = Sample::random(2, 60, 3);
    let (dir, index) = sample.index();
    drop(index);
    for name in FILES {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let step = bytes.len() / 150 + 1;
        let flipped = (0..bytes.len()).step_by(step).map(|at| {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            damaged
        });
        let cut = (0..bytes.len()).step_by(step * 10).map(|at| bytes[..at].to_vec());
        for damaged in flipped.chain(cut) {
            std::fs::write(&path, damaged).unwrap();
            let error = Index::open(dir.path(), 3, 60, &sample.schema).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Index::open(dir.path(), 3, 60, &sample.schema).unwrap_err().kind(), ErrorKind::Unavailable);
        std::fs::write(&path, bytes).unwrap();
    }
    for (dims, n_rows) in [(2, 60), (3, 59), (3, 61), (60, 3)] {
        assert_eq!(Index::open(dir.path(), dims, n_rows, &sample.schema).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    Index::open(dir.path(), 3, 60, &sample.schema).unwrap();
}

#[test]
fn a_sound_file_of_nonsense_is_searched_without_harm() {
    let sample = Sample::random(3, 50, 4);
    for seed in 0..20 {
        let (dir, _) = sample.index();
        let mut random = Random(seed);
        let mut noise = |n: usize, below: usize| -> Vec<u32> {
            (0..n).map(|_| if random.chance(8) { random.next() as u32 } else { random.below(below) as u32 }).collect()
        };
        let (level0, mut upper_starts, upper) = (noise(50 * 6, 60), noise(51, 20), noise(20 * 3, 60));
        upper_starts[50] = 20;
        let header = Header { n_rows: 50, dims: 4, max_connections: 3, degree: 6, entry: 7, max_level: 60 };
        std::fs::remove_file(dir.path().join("graph.bin")).unwrap();
        graph_file::write(dir.path(), &Graph { header, level0: &level0, upper_starts: &upper_starts, upper: &upper }).unwrap();
        let index = Index::open(dir.path(), 4, 50, &sample.schema).unwrap();
        for k in [1, 10, 50] {
            let query = Embedding::new(sample.row(seed as u32).to_vec(), 4).unwrap();
            let none = RoaringBitmap::new();
            let request = SearchRequest { k, ef_search: 1, strategy: StrategyChoice::Graph, filter: None, deleted: &none };
            let found = index.search(&query, &request).unwrap();
            assert_eq!(found.candidates.len(), k);
            assert_ne!(found.plan.strategy, Strategy::Exact);
        }
    }
}

#[test]
fn vectors_of_nonsense_are_searched_without_harm() {
    let sample = Sample::random(3, 50, 4);
    let (dir, _) = sample.index();
    std::fs::remove_file(dir.path().join("vectors.bin")).unwrap();
    let numbers = [f32::NAN, f32::INFINITY, -f32::INFINITY, 1e38, 0.0];
    let vectors: Vec<f32> = (0..200).map(|i| numbers[i * 7 % 5]).collect();
    vectors::write(dir.path(), 50, 4, &vectors).unwrap();
    let index = Index::open(dir.path(), 4, 50, &sample.schema).unwrap();
    for strategy in [StrategyChoice::Graph, StrategyChoice::Exact] {
        let query = Embedding::new(vec![0.5; 4], 4).unwrap();
        let none = RoaringBitmap::new();
        let found = index.search(&query, &SearchRequest { strategy, ..request(&none) }).unwrap();
        assert_eq!(found.candidates.len(), 10);
    }
}

#[test]
fn columns_of_nonsense_are_errors() {
    let sample = Sample::random(4, 50, 4);
    let mut n_errors = 0;
    for seed in 0..60 {
        let (dir, _) = sample.index();
        let path = dir.path().join("attributes.bin");
        let file = crate::storage::SectionFile::open(&path, *b"ATTR", 1, 5).unwrap();
        let mut sections: Vec<Vec<u8>> = (0..5).map(|section| file.bytes(section).to_vec()).collect();
        let mut random = Random(seed);
        for section in &mut sections {
            for _ in 0..2 {
                let at = random.below(section.len());
                section[at] ^= 1 << random.below(8);
            }
        }
        std::fs::remove_file(&path).unwrap();
        let mut file = SectionWriter::create(&path, *b"ATTR", 1).unwrap();
        sections.iter().for_each(|section| file.section(section).unwrap());
        file.finish().unwrap();
        let Ok(index) = Index::open(dir.path(), 4, 50, &sample.schema) else {
            n_errors += 1;
            continue;
        };
        for _ in 0..20 {
            let filter = filters::random_filter(&mut random, 2);
            let rows = index.matching(Some(&Filter::parse(&filter, &sample.schema).unwrap()), &RoaringBitmap::new());
            assert!(rows.as_ref().map_or(true, |rows| rows.max().is_none_or(|row| row < 50)));
            n_errors += usize::from(rows.is_err());
        }
    }
    assert!(n_errors > 0, "some of that was noticed");
}
