//! Downloads wheels through the user's own pip.

use std::env::consts::EXE_SUFFIX;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::AssetError;
use kindred_core::storage::{self, StorageError};

/// Python's names, in the order in which they are tried.
const PYTHONS: [&str; 2] = ["python3", "python"];
/// Lines of pip's complaint that an error repeats.
const COMPLAINT_LINES: usize = 4;

/// What pip and the wheel call this platform.
pub struct Platform {
    pub pip_tag: &'static str,
    /// The library's name in the wheel, and its sha256.
    pub library: &'static str,
    pub library_sha256: &'static str,
}

impl Platform {
    /// This one, if there is an ONNX Runtime wheel for it.
    pub fn this() -> Option<Self> {
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
    let own = std::env::current_exe().map(|program| pythons_of_environment(&program)).unwrap_or_default();
    let pythons: Vec<PathBuf> = own.into_iter().chain(PYTHONS.map(PathBuf::from)).collect();
    download_wheels_with(&pythons, lock_text, into)
}

/// The Pythons of the virtual environment that a program was installed into by pip, if it was: they have a pip where the path's may have
/// none, and the environment need not be activated.
fn pythons_of_environment(program: &Path) -> Vec<PathBuf> {
    let is_environment = program.parent().and_then(Path::parent).is_some_and(|folder| folder.join("pyvenv.cfg").is_file());
    let beside = PYTHONS.map(|name| program.with_file_name(format!("{name}{EXE_SUFFIX}")));
    beside.into_iter().filter(|python| is_environment && python.is_file()).collect()
}

fn download_wheels_with(pythons: &[PathBuf], lock_text: &str, into: &Path) -> Result<(), AssetError> {
    let lock = into.join("requirements.lock");
    storage::replace_file(&lock, lock_text.as_bytes())?;
    let mut without_pip = None;
    for python in pythons {
        let output = match pip_download(python, &lock, into) {
            Ok(output) => output,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(StorageError::io("run", python)(e).into()),
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
    Err(without_pip.map_or(AssetError::NoPython, |python| AssetError::NoPip { python: python.clone() }))
}

fn pip_download(python: &Path, lock: &Path, into: &Path) -> io::Result<Output> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::wheel::tests::zip_of;
    use crate::assets::wheel_in;
    use kindred_core::domain::hex;
    use sha2::{Digest, Sha256};

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
        let sha256 = hex(Sha256::digest(std::fs::read(&wheel).unwrap()));
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
        let error = download_wheels_with(&[PathBuf::from("kindred-no-python")], &lock("1.0", &sha256), into.path()).unwrap_err();
        assert!(matches!(error, AssetError::NoPython) && error.to_string().contains("python3-pip"), "{error}");
    }

    #[test]
    fn a_virtual_environment_has_a_python_of_its_own() {
        let environment = tempfile::tempdir().unwrap();
        let [program, python] = ["kindred", "python3"].map(|name| environment.path().join("bin").join(format!("{name}{EXE_SUFFIX}")));
        std::fs::create_dir(environment.path().join("bin")).unwrap();
        std::fs::write(&python, "").unwrap();
        assert!(pythons_of_environment(&program).is_empty(), "just a folder with a Python");
        std::fs::write(environment.path().join("pyvenv.cfg"), "").unwrap();
        assert_eq!(pythons_of_environment(&program), [python]);
        assert!(pythons_of_environment(Path::new("kindred")).is_empty());
    }
}
