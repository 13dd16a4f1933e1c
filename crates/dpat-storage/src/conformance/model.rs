//! The pure model: what a storage answers, and what may be left after a power cut.

use std::collections::{BTreeMap, BTreeSet};

use crate::conformance::random::{Op, SLOTS};
use crate::conformance::{Violation, ensure};
use crate::error::ErrorKind;
use crate::path::{ROOT, ancestors};
use crate::storage::{Entry, Kind, Metadata};

/// A whole tree as it was read: by path, the root left out.
pub(super) type Tree = BTreeMap<String, Observed>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Observed {
    File(Vec<u8>),
    Directory,
}

/// What an operation answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Number(u64),
    Bytes(Vec<u8>),
    Metadata(Metadata),
    Entries(Vec<Entry>),
}

/// A file or directory, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    File(usize),
    Directory(usize),
}

const ROOT_DIRECTORY: usize = 0;

/// Every value since the last sync, the oldest first; never empty.
type Versions<T> = Vec<T>;

#[derive(Default)]
pub(super) struct Model {
    /// What each name of each directory stood for. No entry is as good as `[None]`.
    names: BTreeMap<(usize, String), Versions<Option<Node>>>,
    files: Vec<Versions<Vec<u8>>>,
    /// Directories made, besides the root.
    directories: usize,
    slots: [Option<usize>; SLOTS],
    locked: bool,
}

impl Model {
    pub(super) fn apply(&mut self, op: &Op) -> Result<Answer, ErrorKind> {
        match *op {
            Op::Create { slot, path } => {
                let name = self.parent(path)?;
                if self.stands_for(&name).is_some() {
                    return Err(ErrorKind::Exists);
                }
                self.files.push(vec![Vec::new()]);
                let file = self.files.len() - 1;
                self.set(name, Some(Node::File(file)));
                self.slots[slot] = Some(file);
            }
            Op::Open { slot, path } => self.slots[slot] = Some(self.file(path)?),
            Op::Close { slot } => self.slots[slot] = None,
            Op::Read { slot, offset, len } => {
                let bytes = self.now(slot);
                let rest = bytes.get(to_usize(offset)..).unwrap_or_default();
                return Ok(Answer::Bytes(rest[..rest.len().min(len)].to_vec()));
            }
            Op::Write {
                slot,
                offset,
                len,
                byte,
            } => self.write(slot, to_usize(offset), len, byte),
            Op::Append { slot, len, byte } => {
                let offset = self.now(slot).len();
                self.write(slot, offset, len, byte);
                return Ok(Answer::Number(offset as u64));
            }
            Op::Truncate { slot, len } => {
                let mut bytes = self.now(slot).to_vec();
                bytes.resize(to_usize(len), 0);
                self.change(slot, bytes);
            }
            Op::SyncData { slot } => {
                if let Some(file) = self.slots[slot] {
                    keep_last(&mut self.files[file]);
                }
            }
            Op::Metadata { path } => {
                return match self.resolve(path)? {
                    None => Err(ErrorKind::NotFound),
                    Some(Node::Directory(_)) => Ok(Answer::Metadata(Metadata {
                        kind: Kind::Directory,
                        len: 0,
                    })),
                    Some(Node::File(file)) => Ok(Answer::Metadata(Metadata {
                        kind: Kind::File,
                        len: last(&self.files[file]).len() as u64,
                    })),
                };
            }
            Op::Rename { from, to } => {
                let file = self.file(from)?;
                let (from, to) = (self.parent(from)?, self.parent(to)?);
                if let Some(Node::Directory(_)) = self.stands_for(&to) {
                    return Err(ErrorKind::NotAFile);
                }
                if from != to {
                    self.set(from, None);
                    self.set(to, Some(Node::File(file)));
                }
            }
            Op::Remove { path } => {
                self.file(path)?;
                let name = self.parent(path)?;
                self.set(name, None);
            }
            Op::CreateDir { path } => match self.resolve(path)? {
                Some(Node::Directory(_)) => {}
                Some(Node::File(_)) => return Err(ErrorKind::Exists),
                None => {
                    let name = self.parent(path)?;
                    self.directories += 1;
                    self.set(name, Some(Node::Directory(self.directories)));
                }
            },
            Op::RemoveDir { path } => {
                let directory = self.directory(path)?;
                if !self.entries(directory).is_empty() {
                    return Err(ErrorKind::NotEmpty);
                }
                let name = self.parent(path)?;
                self.set(name, None);
            }
            Op::List { path } => {
                let directory = self.directory(path)?;
                return Ok(Answer::Entries(self.entries(directory)));
            }
            Op::SyncDir { path } => {
                let directory = self.directory(path)?;
                for ((inside, _), versions) in &mut self.names {
                    if *inside == directory {
                        keep_last(versions);
                    }
                }
            }
            Op::Lock => {
                if std::mem::replace(&mut self.locked, true) {
                    return Err(ErrorKind::Locked);
                }
            }
            Op::Unlock => self.locked = false,
            Op::Restart { .. } => self.restart(),
        }
        Ok(Answer::Done)
    }

    /// Forgets handles and lock.
    pub(super) fn restart(&mut self) {
        self.slots = [None; SLOTS];
        self.locked = false;
    }

    /// Checks that the storage holds exactly this tree.
    pub(super) fn matches(&self, observed: &Tree) -> Result<(), Violation> {
        let mut tree = Tree::new();
        let mut open = vec![(ROOT_DIRECTORY, String::new())];
        while let Some((directory, path)) = open.pop() {
            for entry in self.entries(directory) {
                let below = join(&path, &entry.name);
                match self.stands_for(&(directory, entry.name)) {
                    Some(Node::File(file)) => {
                        let bytes = last(&self.files[file]).clone();
                        tree.insert(below, Observed::File(bytes));
                    }
                    Some(Node::Directory(inner)) => {
                        open.push((inner, below.clone()));
                        tree.insert(below, Observed::Directory);
                    }
                    None => {}
                }
            }
        }
        for path in tree.keys().chain(observed.keys()).collect::<BTreeSet<_>>() {
            let (model, storage) = (tree.get(path), observed.get(path));
            ensure!(
                model == storage,
                "{path:?} is {}, the model says {}",
                brief(storage),
                brief(model)
            );
        }
        Ok(())
    }

    /// Checks that the tree may be what a power cut left, and returns the model that goes on from it.
    pub(super) fn after_power_cut(&self, observed: &Tree) -> Result<Self, Violation> {
        // Directories whose own names all have one possible value, and those that can only be this one if there.
        let mut certain = BTreeMap::new();
        let mut open = vec![(ROOT_DIRECTORY, String::new(), true)];
        while let Some((directory, path, is_certain)) = open.pop() {
            if is_certain {
                certain.insert(directory, path.clone());
            }
            for name in self.names_in(directory, &path, observed) {
                let below = join(&path, &name);
                let nothing = vec![None];
                let versions = self.names.get(&(directory, name)).unwrap_or(&nothing);
                let seen = observed.get(&below);
                let allowed = match seen {
                    None => versions.contains(&None),
                    Some(Observed::Directory) => versions
                        .iter()
                        .any(|version| matches!(version, Some(Node::Directory(_)))),
                    Some(Observed::File(bytes)) => versions.iter().any(|version| {
                        matches!(version, Some(Node::File(file)) if self.may_be(*file, bytes))
                    }),
                };
                ensure!(
                    allowed,
                    "after a power cut {below:?} is {}, which it was at no time since the last sync",
                    brief(seen)
                );
                let candidates: BTreeSet<_> = versions.iter().flatten().collect();
                if let (Some(Observed::Directory), [Node::Directory(inner)]) = (
                    seen,
                    candidates
                        .into_iter()
                        .copied()
                        .collect::<Vec<_>>()
                        .as_slice(),
                ) {
                    open.push((*inner, below, is_certain && versions.len() == 1));
                }
            }
        }
        self.renamed_files_are_somewhere(&certain, observed)?;
        Ok(Self::from_tree(observed))
    }

    /// A file that had a synced name, and was never unnamed since, has one of its names.
    fn renamed_files_are_somewhere(
        &self,
        certain: &BTreeMap<usize, String>,
        observed: &Tree,
    ) -> Result<(), Violation> {
        for file in 0..self.files.len() {
            let node = Some(Node::File(file));
            let mut names = self
                .names
                .iter()
                .filter(|(_, versions)| versions.contains(&node))
                .peekable();
            let was_synced = names.clone().any(|(_, versions)| versions[0] == node);
            let is_named = names.clone().any(|(_, versions)| *last(versions) == node);
            let all_certain = names
                .clone()
                .all(|((directory, _), _)| certain.contains_key(directory));
            if names.peek().is_none() || !(was_synced && is_named && all_certain) {
                continue;
            }
            let found = names.any(|((directory, name), _)| {
                let path = join(&certain[directory], name);
                matches!(observed.get(&path), Some(Observed::File(bytes)) if self.may_be(file, bytes))
            });
            ensure!(
                found,
                "a power cut during a rename lost the file that was {:?} bytes long",
                last(&self.files[file]).len()
            );
        }
        Ok(())
    }

    /// Says whether a power cut may leave these bytes of a file.
    fn may_be(&self, file: usize, bytes: &[u8]) -> bool {
        let versions = &self.files[file];
        let shortest = versions.iter().map(Vec::len).min();
        let longest = versions.iter().map(Vec::len).max();
        shortest <= Some(bytes.len())
            && Some(bytes.len()) <= longest
            && bytes.iter().enumerate().all(|(at, byte)| {
                versions
                    .iter()
                    .any(|version| *byte == version.get(at).copied().unwrap_or(0))
            })
    }

    fn from_tree(tree: &Tree) -> Self {
        let mut model = Self::default();
        // A directory sorts before what is in it.
        for (path, seen) in tree {
            let node = match seen {
                Observed::File(bytes) => {
                    model.files.push(vec![bytes.clone()]);
                    Node::File(model.files.len() - 1)
                }
                Observed::Directory => {
                    model.directories += 1;
                    Node::Directory(model.directories)
                }
            };
            if let Ok(name) = model.parent(path) {
                model.names.insert(name, vec![Some(node)]);
            }
        }
        model
    }

    fn names_in(&self, directory: usize, path: &str, observed: &Tree) -> BTreeSet<String> {
        let known = self
            .names
            .keys()
            .filter(|(inside, _)| *inside == directory)
            .map(|(_, name)| name.clone());
        let seen = observed
            .keys()
            .map(|found| split(found))
            .filter(|(above, _)| *above == path)
            .map(|(_, name)| name.to_owned());
        known.chain(seen).collect()
    }

    /// The directory that a path's name is in, and the name.
    fn parent(&self, path: &str) -> Result<(usize, String), ErrorKind> {
        let mut directory = ROOT_DIRECTORY;
        for above in ancestors(path) {
            let name = (directory, split(above).1.to_owned());
            directory = match self.stands_for(&name) {
                None => return Err(ErrorKind::NotFound),
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory),
                Some(Node::Directory(inner)) => inner,
            };
        }
        Ok((directory, split(path).1.to_owned()))
    }

    fn resolve(&self, path: &str) -> Result<Option<Node>, ErrorKind> {
        if path == ROOT {
            return Ok(Some(Node::Directory(ROOT_DIRECTORY)));
        }
        Ok(self.stands_for(&self.parent(path)?))
    }

    fn file(&self, path: &str) -> Result<usize, ErrorKind> {
        match self.resolve(path)? {
            None => Err(ErrorKind::NotFound),
            Some(Node::Directory(_)) => Err(ErrorKind::NotAFile),
            Some(Node::File(file)) => Ok(file),
        }
    }

    fn directory(&self, path: &str) -> Result<usize, ErrorKind> {
        match self.resolve(path)? {
            None => Err(ErrorKind::NotFound),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory),
            Some(Node::Directory(directory)) => Ok(directory),
        }
    }

    fn stands_for(&self, name: &(usize, String)) -> Option<Node> {
        self.names.get(name).and_then(|versions| *last(versions))
    }

    fn set(&mut self, name: (usize, String), node: Option<Node>) {
        self.names
            .entry(name)
            .or_insert_with(|| vec![None])
            .push(node);
    }

    fn entries(&self, directory: usize) -> Vec<Entry> {
        self.names
            .iter()
            .filter(|((inside, _), _)| *inside == directory)
            .filter_map(|((_, name), versions)| {
                let kind = match (*last(versions))? {
                    Node::File(_) => Kind::File,
                    Node::Directory(_) => Kind::Directory,
                };
                Some(Entry {
                    name: name.clone(),
                    kind,
                })
            })
            .collect()
    }

    fn now(&self, slot: usize) -> &[u8] {
        self.slots[slot].map_or(&[], |file| last(&self.files[file]).as_slice())
    }

    fn write(&mut self, slot: usize, offset: usize, len: usize, byte: u8) {
        if len == 0 {
            return;
        }
        let mut bytes = self.now(slot).to_vec();
        bytes.resize(bytes.len().max(offset + len), 0);
        bytes[offset..offset + len].fill(byte);
        self.change(slot, bytes);
    }

    fn change(&mut self, slot: usize, bytes: Vec<u8>) {
        if let Some(file) = self.slots[slot] {
            self.files[file].push(bytes);
        }
    }
}

fn last<T>(versions: &Versions<T>) -> &T {
    versions
        .last()
        .expect("a list of versions begins with one and keeps its last")
}

fn keep_last<T>(versions: &mut Versions<T>) {
    versions.drain(..versions.len() - 1);
}

/// Splits a path into its directory and its name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((ROOT, path))
}

fn join(directory: &str, name: &str) -> String {
    if directory == ROOT {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

#[allow(clippy::cast_possible_truncation)] // operations draw small numbers
fn to_usize(number: u64) -> usize {
    number as usize
}

fn brief(seen: Option<&Observed>) -> String {
    match seen {
        None => "nothing".into(),
        Some(Observed::Directory) => "a directory".into(),
        Some(Observed::File(bytes)) => format!("a file of {} bytes", bytes.len()),
    }
}
