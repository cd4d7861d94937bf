//! Vectors from files, checked and scaled to unit length.
//!
//! `.fvecs`: each row is its number of dimensions as an i32 and then so many f32. `.npy`: NumPy's `[rows × dims]` float32 array in
//! C order. Both little-endian.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use kindred_core::domain::Embedding;

/// More is a damaged file, or none of vectors: it must not decide how much memory is asked for.
const MAX_DIMS: usize = 65_536;

/// `[rows × dims]`, row-major, unit length.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vectors {
    pub dims: usize,
    pub numbers: Vec<f32>,
}

impl Vectors {
    /// Reads a file by what its name ends with.
    ///
    /// # Errors
    /// Another ending, a damaged file, rows of different lengths, numbers that are not finite, vectors of length zero.
    pub fn read(path: &Path) -> Result<Self> {
        let open = || File::open(path).map(BufReader::new);
        let vectors = match path.extension().and_then(|ending| ending.to_str()) {
            Some("fvecs") => open().map_err(Into::into).and_then(read_fvecs),
            Some("npy") => open().map_err(Into::into).and_then(read_npy),
            _ => Err(anyhow::anyhow!("its name must end with .fvecs or .npy")),
        };
        vectors.with_context(|| format!("cannot read the vectors in {}", path.display()))
    }

    pub fn n_rows(&self) -> usize {
        self.numbers.len() / self.dims
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.dims..][..self.dims]
    }

    /// A row as a query.
    pub fn embedding(&self, row: usize) -> Embedding {
        Embedding::new(self.row(row).to_vec(), self.dims).expect("rows were checked when they were read")
    }

    /// Takes the last rows off: they become queries.
    pub fn split_last(&mut self, n_rows: usize) -> Self {
        let at = (self.n_rows() - n_rows) * self.dims;
        Self { dims: self.dims, numbers: self.numbers.split_off(at) }
    }

    /// Takes rows off at even distances: for rows that are in some order, such as documents in that of their ids.
    pub fn split_evenly(self, n_rows: usize) -> (Self, Self) {
        let (dims, step) = (self.dims, self.n_rows() / n_rows.max(1));
        let (mut kept, mut taken) = (Vec::with_capacity(self.numbers.len()), Vec::new());
        for (row, vector) in self.numbers.chunks_exact(dims).enumerate() {
            let is_taken = row % step == 0 && row / step < n_rows;
            if is_taken { &mut taken } else { &mut kept }.extend_from_slice(vector);
        }
        (Self { dims, numbers: kept }, Self { dims, numbers: taken })
    }

    fn push(&mut self, vector: Vec<f32>) -> Result<()> {
        let row = self.n_rows();
        let vector = Embedding::new(vector, self.dims).with_context(|| format!("row {row}"))?;
        self.numbers.extend_from_slice(vector.as_slice());
        Ok(())
    }
}

fn read_fvecs(mut file: impl Read) -> Result<Vectors> {
    let mut vectors = Vectors { dims: 1, numbers: Vec::new() };
    for row in 0.. {
        let mut head = [0; 4];
        if !fill(&mut file, &mut head).with_context(|| format!("row {row}"))? {
            break;
        }
        let dims = i32::from_le_bytes(head);
        let dims = usize::try_from(dims).ok().filter(|dims| (1..=MAX_DIMS).contains(dims));
        let Some(dims) = dims else { bail!("row {row} claims {} dimensions: this is no .fvecs file", i32::from_le_bytes(head)) };
        if row == 0 {
            vectors.dims = dims;
        }
        ensure!(dims == vectors.dims, "row {row} has {dims} dimensions, the rows before it {}", vectors.dims);
        vectors.push(read_row(&mut file, dims).with_context(|| format!("row {row}"))?)?;
    }
    ensure!(!vectors.numbers.is_empty(), "there are no vectors in it");
    Ok(vectors)
}

fn read_npy(mut file: impl Read) -> Result<Vectors> {
    let mut head = [0; 8];
    file.read_exact(&mut head).context("it is too short for a .npy file")?;
    ensure!(head.starts_with(b"\x93NUMPY"), "it does not begin as a .npy file");
    // The length of the text that follows has two bytes in version 1, four in 2 and 3.
    let mut length = [0; 4];
    file.read_exact(&mut length[..if head[6] == 1 { 2 } else { 4 }])?;
    let length = u32::from_le_bytes(length);
    ensure!(length <= 1 << 16, "its header claims {length} bytes");
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).context("its header is cut short")?;
    let (n_rows, dims) = npy_shape(&String::from_utf8_lossy(&text))?;
    let mut vectors = Vectors { dims, numbers: Vec::new() };
    for row in 0..n_rows {
        vectors.push(read_row(&mut file, dims).with_context(|| format!("row {row} of {n_rows}"))?)?;
    }
    ensure!(file.read(&mut [0])? == 0, "it is longer than the {n_rows} × {dims} numbers of its header");
    Ok(vectors)
}

/// Rows and dims from `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn npy_shape(header: &str) -> Result<(usize, usize)> {
    let after = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':']));
    let described = after("'descr'").zip(after("'fortran_order'")).zip(after("'shape'"));
    let Some(((kind, order), shape)) = described else { bail!("its header names no type, order and shape: {header}") };
    ensure!(kind.starts_with("'<f4'"), "its numbers are not little-endian float32: save array.astype(\"<f4\")");
    ensure!(order.starts_with("False"), "it is in Fortran order: save numpy.ascontiguousarray(array)");
    let inside = shape.strip_prefix('(').and_then(|shape| shape.split_once(')')).map(|(inside, _)| inside);
    let sizes: Vec<usize> = inside.unwrap_or_default().split(',').filter_map(|size| size.trim().parse().ok()).collect();
    match sizes[..] {
        [n_rows, dims] if n_rows > 0 && (1..=MAX_DIMS).contains(&dims) => Ok((n_rows, dims)),
        _ => bail!("its shape is not (rows, dims): {header}"),
    }
}

fn read_row(file: &mut impl Read, dims: usize) -> Result<Vec<f32>> {
    let mut bytes = vec![0; 4 * dims];
    ensure!(fill(file, &mut bytes)?, "it is cut short");
    Ok(bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// Fills the buffer, or tells that the file ended before its first byte.
pub(super) fn fill(file: &mut impl Read, buffer: &mut [u8]) -> Result<bool> {
    let n = loop {
        match file.read(buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            n => break n?,
        }
    };
    if n == 0 {
        return Ok(false);
    }
    file.read_exact(&mut buffer[n..]).context("it is cut short")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fvecs(rows: &[&[f32]]) -> Vec<u8> {
        let row =
            |row: &&[f32]| [(row.len() as i32).to_le_bytes()].into_iter().chain(row.iter().map(|x| x.to_le_bytes())).flatten().collect();
        rows.iter().map(row).collect::<Vec<Vec<u8>>>().concat()
    }

    fn npy(header: &str, numbers: &[f32]) -> Vec<u8> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.bytes());
        file.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        file
    }

    const HEADER: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }    \n";

    #[test]
    fn both_formats_give_unit_vectors() {
        let expected = Vectors { dims: 2, numbers: vec![0.6, 0.8, 0.0, -1.0] };
        assert_eq!(read_fvecs(&fvecs(&[&[3.0, 4.0], &[0.0, -7.0]])[..]).unwrap(), expected);
        assert_eq!(read_npy(&npy(HEADER, &[3.0, 4.0, 0.0, -7.0])[..]).unwrap(), expected);
    }

    #[test]
    fn bad_fvecs_are_refused() {
        let whole = fvecs(&[&[3.0, 4.0], &[0.0, 1.0]]);
        for (bytes, word) in [
            (&b""[..], "no vectors"),
            (&whole[..3], "cut short"),
            (&whole[..13], "row 1: it is cut short"),
            (&whole[..whole.len() - 4], "row 1: it is cut short"),
            (&fvecs(&[&[3.0, 4.0], &[1.0]]), "row 1 has 1 dimensions, the rows before it 2"),
            (&fvecs(&[&[3.0, 4.0], &[0.0, f32::NAN]]), "row 1: number 1"),
            (&fvecs(&[&[0.0, 0.0]]), "row 0: the vector has length zero"),
            (&fvecs(&[&[]]), "claims 0 dimensions"),
            (b"text, no vectors", "this is no .fvecs file"),
        ] {
            let error = format!("{:#}", read_fvecs(bytes).unwrap_err());
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn bad_npy_is_refused() {
        let numbers = [3.0, 4.0, 0.0, 1.0];
        for (bytes, word) in [
            (b"short".to_vec(), "too short"),
            (b"\x00NUMPY\x01\x00....".to_vec(), "does not begin"),
            (npy(&HEADER.replace("<f4", "<f8"), &numbers), "float32"),
            (npy(&HEADER.replace("False", "True"), &numbers), "Fortran"),
            (npy(&HEADER.replace("(2, 2)", "(4,)"), &numbers), "shape"),
            (npy(&HEADER.replace("(2, 2)", "(2, 99999999)"), &numbers), "shape"),
            (npy("{}", &numbers), "no type"),
            (npy(HEADER, &numbers[..3]), "row 1 of 2: it is cut short"),
            (npy(HEADER, &[3.0, 4.0, 0.0, 0.0]), "length zero"),
            (npy(HEADER, &[3.0, 4.0, 0.0, 1.0, 1.0]), "longer"),
        ] {
            let error = format!("{:#}", read_npy(&bytes[..]).unwrap_err());
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn rows_are_held_out() {
        let all = Vectors { dims: 1, numbers: (0..10).map(|x| x as f32).collect() };
        let mut base = all.clone();
        assert_eq!((base.split_last(2).numbers, base.n_rows()), (vec![8.0, 9.0], 8));
        let (base, queries) = all.split_evenly(3);
        assert_eq!((queries.numbers, base.n_rows()), (vec![0.0, 3.0, 6.0], 7));
    }
}
