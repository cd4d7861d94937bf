//! Inputs and files that are not what they should be.

use super::*;
use crate::attributes::{AttributeFile, KIND, VERSION};
use crate::columns::N_SECTIONS;
use crate::graph_file::{Header, MAX_LEVELS, Upper};
use kindred_core::domain::Strategy;
use kindred_core::error::ErrorKind;
use kindred_core::storage::{SectionFile, SectionWriter};

const FILES: [&str; 4] = ["graph.bin", "vectors.bin", "attributes.bin", "chunks.bin"];

#[test]
fn input_that_is_wrong_is_refused() {
    let good = Sample::random(1, 4, 2);
    let refuse = |change: &dyn Fn(&mut Sample)| {
        let mut sample = Sample {
            vectors: good.vectors.clone(),
            attributes: good.attributes.clone(),
            schema: good.schema.clone(),
            n_chunks: good.n_chunks.clone(),
            ..good
        };
        change(&mut sample);
        let dir = tempfile::tempdir().unwrap();
        let error = sample.build(dir.path(), &BuildParams::default()).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
        error
    };
    assert!(matches!(refuse(&|s| s.vectors[3] = f32::NAN), IndexError::NotUnit { vector: 1 }));
    assert!(matches!(refuse(&|s| s.vectors[7] = f32::INFINITY), IndexError::NotUnit { vector: 3 }));
    assert!(matches!(refuse(&|s| s.vectors[0] += 1.0), IndexError::NotUnit { vector: 0 }));
    assert!(matches!(refuse(&|s| s.vectors.truncate(7)), IndexError::Count { expected: 8, actual: 7, .. }));
    assert!(matches!(refuse(&|s| s.dims = 0), IndexError::Dims { .. }));
    assert!(matches!(refuse(&|s| s.n_chunks[2] = 2), IndexError::Count { expected: 10, actual: 8, .. }));
    assert!(matches!(refuse(&|s| s.n_chunks[2] = 0), IndexError::Count { expected: 4, actual: 3, .. }));
    assert!(matches!(refuse(&|s| s.n_chunks.push(1)), IndexError::Count { expected: 4, actual: 5, .. }));
    for (m, ef, threads) in [(1, 200, 0), (256, 200, 0), (16, 0, 0), (16, 200, 1_000_000)] {
        let params = BuildParams { max_connections: m, ef_construction: ef, threads, ..BuildParams::default() };
        assert_eq!(params.check().unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(matches!(check_row_count(u32::MAX as usize), Err(IndexError::TooManyRows { .. })));
}

/// Searches that use every file, with and without filters.
fn answers(sample: &Sample, index: &Index) -> Vec<Result<Found, IndexError>> {
    let (mut random, none) = (Random(6), RoaringBitmap::new());
    let query = Embedding::new(sample.row(0).to_vec(), sample.dims).unwrap();
    let mut filters = vec![None];
    filters.extend((0..30).map(|_| Some(Filter::parse(&filters::random_filter(&mut random, 2), &sample.schema).unwrap())));
    let strategies = [StrategyChoice::Graph, StrategyChoice::Exact];
    let search = |(i, filter): (usize, &Option<Filter>)| {
        index.search(&query, &SearchRequest { strategy: strategies[i % 2], filter: filter.as_ref(), ..request(&none) })
    };
    filters.iter().enumerate().map(search).collect()
}

#[test]
fn damaged_files_are_named_before_they_do_harm() {
    let sample = Sample::chunked(2, 60, 3);
    let (dir, index) = sample.index();
    let sound: Vec<Found> = answers(&sample, &index).into_iter().map(Result::unwrap).collect();
    drop(index);
    for name in FILES {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let open = |damaged: &[u8]| {
            // Another file, lest a map of the last one see it.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, damaged).unwrap();
            Index::open(dir.path(), 3, 60, &sample.schema)
        };
        let named = |error: &IndexError| {
            assert!(error.to_string().contains(name), "{error}");
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unavailable), "{error}");
        };
        let step = bytes.len() / 150 + 1;
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let error = open(&damaged).and_then(|index| {
                for (answer, right) in answers(&sample, &index).iter().zip(&sound) {
                    answer.as_ref().map_or_else(named, |found| assert_eq!(found, right, "{name}, byte {at}"));
                }
                index.verify()
            });
            named(&error.expect_err("a flipped byte is found when all of them are looked at"));
        }
        for at in (0..bytes.len()).step_by(step * 10) {
            named(&open(&bytes[..at]).unwrap_err());
        }
        open(&bytes).unwrap().verify().unwrap();
        std::fs::remove_file(&path).unwrap();
        // Without the table of chunks, there are too many vectors for the rows.
        let kind = if name == "chunks.bin" { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
        assert_eq!(Index::open(dir.path(), 3, 60, &sample.schema).unwrap_err().kind(), kind);
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
        let mut level_rows = [0; MAX_LEVELS];
        level_rows[..3].copy_from_slice(&[20, 9, 9]);
        let header =
            Header { n_rows: 50, dims: 4, max_connections: 3, degree: 64, entry: 7, seed, step: 0.01, max_error: 1e-3, level_rows };
        let mut noise = |n: usize, below: usize| -> Vec<u32> {
            (0..n).map(|_| if random.chance(8) { random.next() as u32 } else { random.below(below) as u32 }).collect()
        };
        let (rows, links, codes) = (noise(20, 50), noise(38 * 3, 20), noise(20 * 16, 1 << 31));
        let upper = Upper { rows: &rows, codes: bytemuck::cast_slice(&codes), links: &links };
        std::fs::remove_file(dir.path().join("graph.bin")).unwrap();
        let encode = |_: u32, nodes: &mut [u8]| nodes.chunks_exact_mut(4).for_each(|x| x.copy_from_slice(&noise(1, 60)[0].to_le_bytes()));
        graph_file::write(dir.path(), &header, &upper, encode).unwrap();
        let index = Index::open(dir.path(), 4, 50, &sample.schema).unwrap();
        for k in [1, 10, 50] {
            let query = Embedding::new(sample.row(seed as u32).to_vec(), 4).unwrap();
            let none = RoaringBitmap::new();
            let request = SearchRequest { k, ef_search: 1, strategy: StrategyChoice::Graph, filter: None, deleted: &none };
            match index.search(&query, &request) {
                Ok(found) => {
                    assert_eq!(found.candidates.len(), k);
                    assert_ne!(found.plan.strategy, Strategy::Exact);
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt),
            }
        }
    }
}

#[test]
fn headers_of_nonsense_are_refused() {
    let sample = Sample::random(3, 50, 4);
    let good = Header {
        n_rows: 50,
        dims: 4,
        max_connections: 3,
        degree: 32,
        entry: 7,
        seed: 1,
        step: 0.01,
        max_error: 1e-3,
        level_rows: [0; MAX_LEVELS],
    };
    let open = |header: Header| {
        let (dir, _) = sample.index();
        std::fs::remove_file(dir.path().join("graph.bin")).unwrap();
        // As long as the sound header wants it.
        graph_file::write(dir.path(), &good, &Upper::default(), |_, _| {}).unwrap();
        graph_file::tests::replace_header(dir.path(), &good, &header);
        Index::open(dir.path(), 4, 50, &sample.schema)
    };
    open(good).unwrap();
    let mut more_above = [0; MAX_LEVELS];
    more_above[..2].copy_from_slice(&[1, 2]);
    let bad = [
        Header { n_rows: 49, ..good },
        Header { n_rows: u32::MAX, ..good },
        Header { dims: 5, ..good },
        Header { dims: u32::MAX, ..good },
        Header { degree: 0, ..good },
        Header { degree: 31, ..good },
        Header { degree: 64, ..good },
        Header { degree: 1 << 31, ..good },
        Header { max_connections: u32::MAX, ..good },
        Header { entry: 50, ..good },
        Header { step: f32::NAN, ..good },
        Header { max_error: -1.0, ..good },
        Header { max_error: f32::INFINITY, ..good },
        Header { level_rows: [51; MAX_LEVELS], ..good },
        Header { level_rows: [1; MAX_LEVELS], ..good },
        Header { level_rows: more_above, ..good },
    ];
    for header in bad {
        let error = open(header).unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("graph.bin"), "{header:?}: {error}");
    }
}

#[test]
fn vectors_of_nonsense_are_searched_without_harm() {
    let sample = Sample::random(3, 50, 4);
    let (dir, _) = sample.index();
    std::fs::remove_file(dir.path().join("vectors.bin")).unwrap();
    let numbers = [f32::NAN, f32::INFINITY, -f32::INFINITY, 1e38, 0.0];
    let vectors: Vec<f32> = (0..200).map(|i| numbers[i * 7 % 5]).collect();
    vectors::write(dir.path(), 4, &vectors, Quantization::F32).unwrap();
    let index = Index::open(dir.path(), 4, 50, &sample.schema).unwrap();
    for strategy in [StrategyChoice::Graph, StrategyChoice::Exact] {
        let query = Embedding::new(vec![0.5; 4], 4).unwrap();
        let none = RoaringBitmap::new();
        let found = index.search(&query, &SearchRequest { strategy, ..request(&none) }).unwrap();
        assert_eq!(found.candidates.len(), 10);
    }
}

/// Flips two bits in every section of `attributes.bin` in a folder.
fn garble_columns(dir: &Path, random: &mut Random) {
    let path = dir.join("attributes.bin");
    let file = SectionFile::open(&path, KIND, VERSION, N_SECTIONS).unwrap();
    let mut sections: Vec<Vec<u8>> = (0..N_SECTIONS).map(|section| file.bytes(section).unwrap().to_vec()).collect();
    for section in sections.iter_mut().filter(|section| !section.is_empty()) {
        for _ in 0..2 {
            let at = random.below(section.len());
            section[at] ^= 1 << random.below(8);
        }
    }
    std::fs::remove_file(&path).unwrap();
    let mut file = SectionWriter::create(&path, KIND, VERSION).unwrap();
    sections.iter().for_each(|section| file.section(section).unwrap());
    file.finish().unwrap();
}

#[test]
fn columns_of_nonsense_are_errors() {
    let sample = Sample::random(4, 50, 4);
    let mut n_errors = 0;
    for seed in 0..60 {
        let (dir, _) = sample.index();
        let mut random = Random(seed);
        garble_columns(dir.path(), &mut random);
        let Ok(index) = Index::open(dir.path(), 4, 50, &sample.schema) else {
            n_errors += 1;
            continue;
        };
        for _ in 0..20 {
            let filter = filters::random_filter(&mut random, 2);
            let rows =
                index.matching(Some(&Filter::parse(&filter, &sample.schema).unwrap()), &RoaringBitmap::new(), FilterDeadline::start(None));
            assert!(rows.as_ref().map_or(true, |rows| rows.max().is_none_or(|row| row < 50)));
            n_errors += usize::from(rows.is_err());
        }
    }
    assert!(n_errors > 0, "some of that was noticed");
}

#[test]
fn blocks_of_nonsense_are_errors() {
    let (schema, n) = (definition().1, 1_203);
    let (mut random, mut n_errors) = (Random(5), 0);
    for max in [1, 3] {
        let documents = filters::many_numbers(&mut random, n, 900, max);
        for _ in 0..150 {
            let dir = tempfile::tempdir().unwrap();
            filters::columns_of(dir.path(), &documents);
            garble_columns(dir.path(), &mut random);
            let Ok(columns) = AttributeFile::open(dir.path(), n as u32, &schema) else { continue };
            for _ in 0..20 {
                let rows = filters::satisfying(&columns, &filters::range_of_many(&mut random, 900));
                n_errors += usize::from(rows.is_err());
                assert!(rows.map_or(None, |rows| rows.max()).is_none_or(|row| row < n as u32));
            }
        }
    }
    assert!(n_errors > 0, "some of that was noticed");
}
