//! API keys, as they lie in a file: hashed, each with what it may do. A changed file counts within seconds; one that cannot be read changes
//! nothing.
//!
//! Keys are 256 random bits, so a plain SHA-256 keeps them: there is nothing to guess that a slow hash would make slower.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Refused;
use kindred_core::domain::{CollectionName, hex};
use kindred_core::error::ErrorKind;

/// What keys begin with, so that people and scanners recognise them.
const PREFIX: &str = "kindred_";
/// All of them are compared with each request's.
const MAX_KEYS: usize = 1_000;

/// What a key may do: each role also what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Search, look at documents and collections, embed.
    Read,
    /// Write and delete documents.
    Write,
    /// Everything: collections, rebuilds, profiles, snapshots, evaluations.
    Admin,
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err("there are read, write and admin".to_owned()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "administer",
        })
    }
}

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("a key needs a name: the log tells by it who asks")]
    NoName,
    #[error("cannot read the API keys in {}: make them with `kindred keys create`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the API keys in {} cannot be used: {reason}", path.display())]
    Contents { path: PathBuf, reason: String },
    #[error("cannot write API keys to {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the operating system gives no random numbers: {reason}")]
    Random { reason: String },
}

impl KeysError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoName => ErrorKind::Invalid,
            Self::Contents { .. } => ErrorKind::Invalid,
            Self::Read { .. } | Self::Write { .. } | Self::Random { .. } => ErrorKind::Unavailable,
        }
    }
}

/// A key as it is written in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    /// Of the key, in hexadecimal.
    sha256: String,
    role: Role,
    /// Without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    collections: Option<BTreeSet<CollectionName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: Vec<Entry>,
}

/// A key, ready to be compared with.
#[derive(Debug)]
pub(super) struct Key {
    pub name: String,
    digest: [u8; 32],
    pub role: Role,
    pub collections: Option<BTreeSet<CollectionName>>,
    limiter: Option<DefaultDirectRateLimiter>,
    expires_at: Option<Timestamp>,
}

impl Key {
    /// Counts a request. How long to wait, where there were too many.
    pub fn wait(&self) -> Option<Duration> {
        let refused = self.limiter.as_ref()?.check().err()?;
        Some(refused.wait_time_from(DefaultClock::default().now()))
    }
}

/// The keys of a file, as it was when it was last read.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    table: ArcSwap<Table>,
}

#[derive(Debug)]
struct Table {
    /// What was read: while that stays, so do the counts of requests.
    text: String,
    keys: Vec<Arc<Key>>,
}

impl Keys {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// [`KeysError`] says what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        let text = fs::read_to_string(path).map_err(|source| KeysError::Read { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), table: ArcSwap::from_pointee(parse(path, text)?) })
    }

    /// Reads the file again, if it has changed. Returns whether other keys count now; what cannot be read changes nothing.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn reload(&self) -> Result<bool, KeysError> {
        let text = fs::read_to_string(&self.path).map_err(|source| KeysError::Read { path: self.path.clone(), source })?;
        if text == self.table.load().text {
            return Ok(false);
        }
        self.table.store(Arc::new(parse(&self.path, text)?));
        Ok(true)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.load().keys.len()
    }

    /// Whether there is none: then nobody is let in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key that was presented. All are compared, each in the same time, so that how long it takes tells nothing.
    pub(super) fn find(&self, presented: &str) -> Result<Arc<Key>, Refused> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let table = self.table.load();
        let mut found = None;
        for key in &table.keys {
            if bool::from(key.digest.ct_eq(&digest)) {
                found = Some(key);
            }
        }
        let key = found.ok_or(Refused::UnknownKey)?;
        match key.expires_at {
            Some(at) if at <= Timestamp::now() => Err(Refused::Expired { key: key.name.clone() }),
            _ => Ok(Arc::clone(key)),
        }
    }
}

fn parse(path: &Path, text: String) -> Result<Table, KeysError> {
    let fail = |reason: String| KeysError::Contents { path: path.to_owned(), reason };
    // The parser's message would show the line, and with it a key that somebody put there by mistake.
    let file: File = toml::from_str(&text).map_err(|e| {
        let line =
            1 + e.span().map_or(0, |span| text.as_bytes()[..span.start.min(text.len())].iter().filter(|&&byte| byte == b'\n').count());
        fail(format!("line {line}: {}", e.message()))
    })?;
    if file.keys.len() > MAX_KEYS {
        return Err(fail(format!("{} keys are over the limit of {MAX_KEYS}", file.keys.len())));
    }
    let mut names = HashSet::new();
    let mut keys = Vec::with_capacity(file.keys.len());
    for Entry { name, sha256, role, collections, requests_per_second, expires_at } in file.keys {
        if !names.insert(name.clone()) {
            return Err(fail(format!("two keys are named {name:?}")));
        }
        let digest = digest(&sha256).ok_or_else(|| fail(format!("the sha256 of key {name:?} is not 64 hexadecimal digits")))?;
        if collections.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(fail(format!("key {name:?} is for no collection: leave \"collections\" out for all of them")));
        }
        let limiter = requests_per_second.map(|n| DefaultDirectRateLimiter::direct(Quota::per_second(n)));
        keys.push(Arc::new(Key { name, digest, role, collections, limiter, expires_at }));
    }
    Ok(Table { text, keys })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

/// A key to be made.
#[derive(Debug)]
pub struct NewKey {
    pub name: String,
    pub role: Role,
    /// Empty: all.
    pub collections: BTreeSet<CollectionName>,
    pub requests_per_second: Option<NonZeroU32>,
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    /// Makes a key and adds its hash to a file, which is made if it is not there, for its owner alone. Returns the key, which nobody can tell
    /// again.
    ///
    /// # Errors
    /// [`KeysError`]: a name that is taken, a file that cannot be used. The file is as it was then.
    pub fn add_to(self, path: &Path) -> Result<String, KeysError> {
        if self.name.trim().is_empty() {
            return Err(KeysError::NoName);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|e| KeysError::Random { reason: e.to_string() })?;
        let key = format!("{PREFIX}{}", hex(random));
        let entry = Entry {
            name: self.name,
            sha256: hex(Sha256::digest(&key)),
            role: self.role,
            collections: (!self.collections.is_empty()).then_some(self.collections),
            requests_per_second: self.requests_per_second,
            expires_at: self.expires_at,
        };
        let mut text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(KeysError::Read { path: path.to_owned(), source }),
        };
        if !text.is_empty() {
            text.push('\n');
        }
        // What people wrote between the keys stays.
        text.push_str(&toml::to_string(&File { keys: vec![entry] }).expect("a key is made of strings and numbers"));
        parse(path, text.clone())?;
        write(path, &text).map_err(|source| KeysError::Write { path: path.to_owned(), source })?;
        Ok(key)
    }
}

/// Writes a file as a whole or not at all. It is its owner's alone; temporary files are made so.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    if let Ok(there) = fs::metadata(path) {
        file.as_file().set_permissions(there.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_key(name: &str) -> NewKey {
        NewKey { name: name.to_owned(), role: Role::Read, collections: BTreeSet::new(), requests_per_second: None, expires_at: None }
    }

    #[test]
    fn what_is_made_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        fs::write(&path, "# who made which key\n").unwrap();
        let one = new_key("one").add_to(&path).unwrap();
        let two = NewKey { role: Role::Admin, ..new_key("two") }.add_to(&path).unwrap();
        assert!(one.starts_with(PREFIX) && one.len() == PREFIX.len() + 64 && one != two);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("who made") && !text.contains(&one) && !text.contains(&two[PREFIX.len()..]), "{text}");
        let keys = Keys::open(&path).unwrap();
        assert_eq!((keys.find(&one).unwrap().name.as_str(), keys.find(&two).unwrap().role), ("one", Role::Admin));
        for other in ["", "kindred_", &one[..one.len() - 1], &format!("{one}0")] {
            assert!(matches!(keys.find(other), Err(Refused::UnknownKey)), "{other}");
        }
        let taken = new_key("one").add_to(&path).unwrap_err().to_string();
        assert!(taken.contains("two keys are named \"one\""), "{taken}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "the file is as it was");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        new_key("one").add_to(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_changed_file_counts_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let one = NewKey { requests_per_second: NonZeroU32::new(1), ..new_key("one") }.add_to(&path).unwrap();
        let keys = Keys::open(&path).unwrap();
        let key = keys.find(&one).unwrap();
        assert_eq!(key.wait(), None);
        assert!(key.wait().unwrap() <= Duration::from_secs(1));
        assert!(!keys.reload().unwrap(), "nothing has changed");
        assert!(keys.find(&one).unwrap().wait().is_some(), "requests go on being counted");
        let two = new_key("two").add_to(&path).unwrap();
        assert!(keys.reload().unwrap());
        assert!(keys.find(&two).is_ok());
        fs::write(&path, "[[keys]]\nname = \"two\"").unwrap();
        assert!(keys.reload().unwrap_err().to_string().contains("sha256"));
        fs::remove_file(&path).unwrap();
        assert!(keys.reload().is_err());
        assert!(keys.find(&two).is_ok() && keys.len() == 2, "what cannot be read changes nothing");
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not_shown() {
        let entry = |rest: &str| format!("[[keys]]\nname = \"a\"\nsha256 = \"{}\"\nrole = \"read\"\n{rest}", "0a".repeat(32));
        for (text, word) in [
            (entry("collections = []"), "for no collection"),
            (entry(&entry("")), "two keys are named"),
            (entry("role = \"read\""), "line 5"),
            (entry("requests_per_second = 0"), "nonzero"),
            (entry("key = \"kindred_secret\""), "unknown field `key`"),
            (entry("").replace("0a0a", "kindred_secret"), "64 hexadecimal digits"),
            (entry("").replace("0a0a", "é"), "64 hexadecimal digits"),
            (entry("").replace("\"read\"", "\"owner\""), "owner"),
        ] {
            let error = parse(Path::new("keys.toml"), text.clone()).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("secret"), "{text}: {error}");
        }
        let expired = entry("expires_at = \"2020-01-01T00:00:00Z\"").replace(&"0a".repeat(32), &hex(Sha256::digest("old")));
        let table = parse(Path::new("keys.toml"), expired).unwrap();
        let keys = Keys { path: PathBuf::new(), table: ArcSwap::from_pointee(table) };
        assert!(matches!(keys.find("old"), Err(Refused::Expired { .. })));
    }
}
