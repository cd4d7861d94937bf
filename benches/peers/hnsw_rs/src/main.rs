//! Builds with hnsw_rs and searches with hnsw_rs: `hnsw-rs-peer base.fvecs queries.fvecs rows ef,ef,…`; prints recall@10 against an
//! exact scan, and queries a second on one thread.

use std::time::Instant;

use hnsw_rs::prelude::*;

fn read(path: &str, rows: usize) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).expect("the file can be read");
    let dims = i32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let number = |x: &[u8]| f32::from_le_bytes(x.try_into().unwrap());
    let unit = |row: &[u8]| {
        let row: Vec<f32> = row[4..].chunks_exact(4).map(number).collect();
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        // hnsw_rs ends the process where rounding makes a dot product exceed 1.
        row.iter().map(|x| x / length * 0.999_999).collect()
    };
    bytes.chunks_exact(4 + 4 * dims).take(rows).map(unit).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (base, queries) = (read(&args[1], args[3].parse().unwrap()), read(&args[2], 500));
    let hnsw: Hnsw<f32, DistDot> = Hnsw::new(16, base.len(), 16, 200, DistDot {});
    let started = Instant::now();
    let rows: Vec<(&Vec<f32>, usize)> = base.iter().zip(0..).collect();
    hnsw.parallel_insert(&rows);
    println!("{} rows built in {:.1} s on all cores", base.len(), started.elapsed().as_secs_f64());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let tenth = |query: &Vec<f32>| {
        let mut scores: Vec<f32> = base.iter().map(|row| dot(row, query)).collect();
        scores.select_nth_unstable_by(9, |a, b| b.total_cmp(a));
        scores[9] - 1e-6
    };
    let tenths: Vec<f32> = queries.iter().map(tenth).collect();
    for ef in args[4].split(',').map(|ef| ef.parse::<usize>().unwrap()) {
        let started = Instant::now();
        let found: Vec<Vec<Neighbour>> = queries.iter().map(|query| hnsw.search(query, 10, ef)).collect();
        let seconds = started.elapsed().as_secs_f64();
        let right = |((query, found), tenth): ((&Vec<f32>, &Vec<Neighbour>), &f32)| {
            found.iter().filter(|hit| dot(&base[hit.d_id], query) >= *tenth).count()
        };
        let n_right: usize = queries.iter().zip(&found).zip(&tenths).map(right).sum();
        println!("ef {ef}: recall@10 {:.4}, {:.0} queries a second", n_right as f64 / 10.0 / queries.len() as f64, queries.len() as f64 / seconds);
    }
}
