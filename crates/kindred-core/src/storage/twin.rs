//! The file system's twin, in tests: records every change below a folder, makes any of them fail, and tells what a crash after
//! any of them could have left on the disk.
//!
//! The model: a file has bytes, and those of them that were synced; a folder has names, and those that were synced. A process
//! that ends leaves all; a power failure leaves what was synced, and any part of the rest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Granularity in which a disk loses what was not synced.
const SECTOR: usize = 512;

/// One change.
#[derive(Debug, Clone)]
pub enum Step {
    CreateDir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Cut(PathBuf, u64),
    Sync(PathBuf),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With this error, and nothing done.
    Refuse(io::ErrorKind),
    /// A write with this error, and half of it done; other steps as above.
    Short(io::ErrorKind),
}

#[derive(Debug, Default)]
struct Watched {
    steps: Vec<Step>,
    fail: Option<(usize, Failure)>,
}

type Watching = Vec<(PathBuf, Arc<Mutex<Watched>>)>;

fn watching() -> MutexGuard<'static, Watching> {
    static WATCHING: Mutex<Watching> = Mutex::new(Vec::new());
    WATCHING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches a folder until it is dropped.
#[derive(Debug)]
pub struct Twin {
    root: PathBuf,
    watched: Arc<Mutex<Watched>>,
}

impl Twin {
    pub fn watch(root: &Path) -> Self {
        let watched = Arc::new(Mutex::new(Watched::default()));
        watching().push((root.to_owned(), Arc::clone(&watched)));
        Self { root: root.to_owned(), watched }
    }

    /// Makes the step of this number, counted from 0, fail.
    pub fn fail_at(&self, step: usize, failure: Failure) {
        self.watched.lock().unwrap().fail = Some((step, failure));
    }

    /// What has been done so far.
    pub fn steps(&self) -> Vec<Step> {
        self.watched.lock().unwrap().steps.clone()
    }

    pub fn n_steps(&self) -> usize {
        self.watched.lock().unwrap().steps.len()
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        watching().retain(|(root, _)| *root != self.root);
    }
}

/// Called before a step is done; an error is that of the step.
pub(super) fn before(step: &Step) -> io::Result<()> {
    let Some(failure) = note(step) else { return Ok(()) };
    match failure {
        Failure::Refuse(kind) | Failure::Short(kind) => Err(io::Error::from(kind)),
    }
}

/// Called before bytes are written.
pub(super) fn before_write(path: &Path, position: u64, bytes: &[u8], file: &mut File) -> io::Result<()> {
    match note(&Step::Write(path.to_owned(), position, bytes.to_vec())) {
        None => Ok(()),
        Some(Failure::Refuse(kind)) => Err(kind.into()),
        Some(Failure::Short(kind)) => {
            file.write_all(&bytes[..bytes.len() / 2])?;
            Err(kind.into())
        }
    }
}

fn note(step: &Step) -> Option<Failure> {
    let (Step::CreateDir(path)
    | Step::Create(path)
    | Step::Write(path, ..)
    | Step::Cut(path, _)
    | Step::Sync(path)
    | Step::SyncDir(path)
    | Step::Rename(path, _)
    | Step::Remove(path)) = step;
    let watched = watching().iter().find(|(root, _)| path.starts_with(root)).map(|(_, watched)| Arc::clone(watched))?;
    let mut watched = watched.lock().unwrap();
    let failure = watched.fail.filter(|(at, _)| *at == watched.steps.len()).map(|(_, failure)| failure);
    watched.steps.push(step.clone());
    failure
}

/// What ends the process, and what of the unsynced is then on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: everything.
    Process,
    /// The power fails: nothing.
    Power,
    /// The power fails: names, but no bytes.
    Names,
    /// The power fails: bytes, but no names.
    Bytes,
    /// The power fails: of each file's bytes the first half; of the last folder that was deleted, half of what was in it is gone.
    Half,
    /// The power fails: of each file's bytes all but the first sector of those not synced.
    Reordered,
}

impl Crash {
    pub const ALL: [Self; 6] = [Self::Process, Self::Power, Self::Names, Self::Bytes, Self::Half, Self::Reordered];
}

#[derive(Debug)]
enum Node {
    Dir { names: BTreeMap<String, usize>, synced: BTreeMap<String, usize> },
    File { bytes: Vec<u8>, synced: Vec<u8> },
}

struct Model {
    nodes: Vec<Node>,
}

/// Writes what a crash after the first `n` steps leaves of `root` into the empty folder `into`.
pub fn leave(steps: &[Step], n: usize, crash: Crash, root: &Path, into: &Path) {
    let mut model = Model { nodes: vec![Node::dir()] };
    for (i, step) in steps[..n].iter().enumerate() {
        let is_last = i + 1 == n;
        model.apply(step, root, is_last && crash == Crash::Half);
    }
    model.write(0, crash, into);
}

impl Node {
    fn dir() -> Self {
        Self::Dir { names: BTreeMap::new(), synced: BTreeMap::new() }
    }
}

impl Model {
    fn names(&mut self, dir: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[dir] {
            Node::Dir { names, .. } => names,
            Node::File { .. } => panic!("a file is no folder"),
        }
    }

    /// The folder that a path lies in, and its name there.
    fn parent(&mut self, path: &Path, root: &Path) -> (usize, String) {
        let relative = path.strip_prefix(root).expect("a path below the root");
        let parts: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let (last, above) = parts.split_last().expect("the root itself is not changed");
        let dir = above.iter().fold(0, |dir, name| self.names(dir)[name]);
        (dir, last.clone())
    }

    fn find(&mut self, path: &Path, root: &Path) -> Option<usize> {
        let relative = path.strip_prefix(root).expect("a path below the root");
        relative.iter().try_fold(0, |dir, name| self.names(dir).get(name.to_string_lossy().as_ref()).copied())
    }

    fn add(&mut self, path: &Path, root: &Path, node: Node) {
        let (dir, name) = self.parent(path, root);
        self.nodes.push(node);
        let new = self.nodes.len() - 1;
        self.names(dir).insert(name, new);
    }

    fn apply(&mut self, step: &Step, root: &Path, half: bool) {
        match step {
            Step::CreateDir(path) => {
                let missing: Vec<&Path> = path.ancestors().take_while(|p| *p != root).collect::<Vec<_>>().into_iter().rev().collect();
                for path in missing {
                    if self.find(path, root).is_none() {
                        self.add(path, root, Node::dir());
                    }
                }
            }
            Step::Create(path) => match self.find(path, root) {
                Some(file) => self.bytes(file).clear(),
                None => self.add(path, root, Node::File { bytes: Vec::new(), synced: Vec::new() }),
            },
            Step::Write(path, position, written) => {
                let file = self.find(path, root).expect("a file that is there");
                let bytes = self.bytes(file);
                let start = *position as usize;
                bytes.resize(bytes.len().max(start + written.len()), 0);
                bytes[start..start + written.len()].copy_from_slice(written);
            }
            Step::Cut(path, len) => {
                let file = self.find(path, root).expect("a file that is there");
                self.bytes(file).truncate(*len as usize);
            }
            Step::Sync(path) => {
                let file = self.find(path, root).expect("a file that is there");
                if let Node::File { bytes, synced } = &mut self.nodes[file] {
                    *synced = bytes.clone();
                }
            }
            Step::SyncDir(path) => {
                let dir = self.find(path, root).expect("a folder that is there");
                if let Node::Dir { names, synced } = &mut self.nodes[dir] {
                    *synced = names.clone();
                }
            }
            Step::Rename(from, to) => {
                let (dir, name) = self.parent(from, root);
                let moved = self.names(dir).remove(&name).expect("what is renamed is there");
                let (dir, name) = self.parent(to, root);
                self.names(dir).insert(name, moved);
            }
            Step::Remove(path) => {
                let Some(node) = self.find(path, root) else { return };
                if half && let Node::Dir { names, synced } = &mut self.nodes[node] {
                    let gone: Vec<String> = names.keys().step_by(2).cloned().collect();
                    for name in gone {
                        names.remove(&name);
                        synced.remove(&name);
                    }
                } else {
                    let (dir, name) = self.parent(path, root);
                    self.names(dir).remove(&name);
                }
            }
        }
    }

    fn bytes(&mut self, file: usize) -> &mut Vec<u8> {
        match &mut self.nodes[file] {
            Node::File { bytes, .. } => bytes,
            Node::Dir { .. } => panic!("a folder is no file"),
        }
    }

    fn write(&self, node: usize, crash: Crash, to: &Path) {
        match &self.nodes[node] {
            Node::Dir { names, synced } => {
                fs::create_dir_all(to).unwrap();
                let left = if matches!(crash, Crash::Power | Crash::Bytes) { synced } else { names };
                left.iter().for_each(|(name, &node)| self.write(node, crash, &to.join(name)));
            }
            Node::File { bytes, synced } => fs::write(to, left_of(bytes, synced, crash)).unwrap(),
        }
    }
}

fn left_of(bytes: &[u8], synced: &[u8], crash: Crash) -> Vec<u8> {
    // Where a file is not what was synced: behind it, as it is appended to, or all of it.
    let from = if bytes.starts_with(synced) { synced.len() } else { 0 };
    match crash {
        Crash::Process | Crash::Bytes => bytes.to_vec(),
        Crash::Power | Crash::Names => synced.to_vec(),
        Crash::Half => bytes[..from + (bytes.len() - from) / 2].to_vec(),
        Crash::Reordered => {
            let mut left = bytes.to_vec();
            let end = (from / SECTOR + 1) * SECTOR;
            let end = end.min(left.len());
            left[from.min(end)..end].fill(0);
            left
        }
    }
}
