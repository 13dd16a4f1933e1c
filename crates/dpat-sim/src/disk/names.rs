//! The names of files and directories: as they are listed, as they are on the medium, and the changes between.

use std::collections::{BTreeMap, BTreeSet};

use dpat_core::SplitMix64;
use dpat_storage::{Entry, ErrorKind, Kind, ROOT};

use super::fault::{Odds, chance};

/// A name in a directory.
pub(super) type Name = (u64, Box<str>);

/// The directory that is always there.
const ROOT_DIRECTORY: u64 = 0;

/// What a name stands for, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    File(u64),
    Directory(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<Name, Node>,
    medium: BTreeMap<Name, Node>,
    journal: Vec<Change>,
    /// The own name of each directory, the root left out.
    own: BTreeMap<u64, Name>,
    made: u64,
}

/// One change, and the names whose earlier changes must survive for it to survive.
#[derive(Clone, Debug)]
struct Change {
    needs: BTreeSet<Name>,
    sets: Sets,
}

#[derive(Clone, Debug)]
enum Sets {
    One(Name, Option<Node>),
    /// The new name first: once it is there, the old one may go.
    Rename {
        to: Name,
        node: Node,
        from: Name,
    },
}

impl Names {
    pub(super) fn resolve(&self, path: &str) -> Result<Option<Node>, ErrorKind> {
        if path == ROOT {
            return Ok(Some(Node::Directory(ROOT_DIRECTORY)));
        }
        Ok(self.now.get(&self.name(path)?).copied())
    }

    /// Finds the directory in which a path's last name is or would be.
    pub(super) fn name(&self, path: &str) -> Result<Name, ErrorKind> {
        let mut directory = ROOT_DIRECTORY;
        let mut rest = path;
        while let Some((first, below)) = rest.split_once('/') {
            directory = match self.now.get(&(directory, first.into())) {
                Some(Node::Directory(inner)) => *inner,
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory),
                None => return Err(ErrorKind::NotFound),
            };
            rest = below;
        }
        Ok((directory, rest.into()))
    }

    pub(super) fn file(&self, path: &str) -> Result<u64, ErrorKind> {
        match self.resolve(path)? {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(ErrorKind::NotAFile),
            None => Err(ErrorKind::NotFound),
        }
    }

    pub(super) fn directory(&self, path: &str) -> Result<u64, ErrorKind> {
        match self.resolve(path)? {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory),
            None => Err(ErrorKind::NotFound),
        }
    }

    /// The entries of a directory, sorted by name.
    pub(super) fn entries(&self, directory: u64) -> impl Iterator<Item = Entry> {
        self.inside(directory).map(|((_, name), node)| Entry {
            name: name.to_string(),
            kind: match node {
                Node::File(_) => Kind::File,
                Node::Directory(_) => Kind::Directory,
            },
        })
    }

    fn inside(&self, directory: u64) -> impl Iterator<Item = (&Name, &Node)> {
        let first: Name = (directory, "".into());
        self.now
            .range(first..)
            .take_while(move |((inside, _), _)| *inside == directory)
    }

    pub(super) fn is_empty(&self, directory: u64) -> bool {
        self.inside(directory).next().is_none()
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn add(&mut self, name: Name, node: Node) {
        let needs = BTreeSet::from([name.clone()]);
        self.change(needs, Sets::One(name, Some(node)));
    }

    pub(super) fn add_directory(&mut self, name: Name) {
        self.made += 1;
        self.own.insert(self.made, name.clone());
        self.add(name, Node::Directory(self.made));
    }

    pub(super) fn remove(&mut self, name: Name) {
        let mut needs = BTreeSet::from([name.clone()]);
        // A directory goes after what was in it.
        if let Some(Node::Directory(gone)) = self.now.get(&name) {
            let inside = |name: &&Name| name.0 == *gone;
            let names = self.journal.iter().flat_map(|change| change.sets.names());
            needs.extend(names.filter(inside).cloned());
        }
        self.change(needs, Sets::One(name, None));
    }

    pub(super) fn rename(&mut self, from: Name, to: Name, node: Node) {
        let mut needs = BTreeSet::from([from.clone(), to.clone()]);
        // Renamed into a directory that is lost, the file would have no name at all; unless it was in there before.
        let before = self.above(from.0);
        for inside in self.above(to.0) {
            if before.contains(&inside) {
                break;
            }
            needs.extend(self.own.get(&inside).cloned());
        }
        self.change(needs, Sets::Rename { to, node, from });
    }

    /// A directory and those above it, the innermost first.
    fn above(&self, directory: u64) -> Vec<u64> {
        let mut all = vec![directory];
        let mut inside = directory;
        while let Some((above, _)) = self.own.get(&inside) {
            all.push(*above);
            inside = *above;
        }
        all
    }

    fn change(&mut self, needs: BTreeSet<Name>, sets: Sets) {
        sets.apply(&mut self.now);
        self.journal.push(Change { needs, sets });
    }

    /// Makes the changes in one directory survive, and what they need.
    pub(super) fn sync(&mut self, directory: u64) {
        let mut wanted = BTreeSet::new();
        let mut kept = Vec::new();
        let mut synced = Vec::new();
        for change in self.journal.drain(..).rev() {
            let concerns = |name: &Name| name.0 == directory || wanted.contains(name);
            if change.sets.names().any(concerns) {
                wanted.extend(change.needs);
                synced.push(change.sets);
            } else {
                kept.push(change);
            }
        }
        for sets in synced.iter().rev() {
            sets.apply(&mut self.medium);
        }
        kept.reverse();
        self.journal = kept;
    }

    /// A sync that failed: some changes reach the medium, the others never will.
    pub(super) fn sync_in_doubt(&mut self, odds: Odds, entropy: &SplitMix64) {
        let apart = chance(entropy, odds.reordered);
        let mut ended = false;
        let mut lost: BTreeSet<Name> = BTreeSet::new();
        for change in self.journal.drain(..) {
            let possible = !ended && change.needs.iter().all(|name| !lost.contains(name));
            if !possible || chance(entropy, odds.lost) {
                lost.extend(change.sets.names().cloned());
                ended = !apart;
                continue;
            }
            match change.sets {
                Sets::Rename { to, node, from } if chance(entropy, odds.torn) => {
                    self.medium.insert(to, node);
                    lost.insert(from);
                    ended = !apart;
                }
                sets => sets.apply(&mut self.medium),
            }
        }
    }

    /// The power is gone: names are what the medium has, and of the changes what the odds leave.
    ///
    /// Returns the files that had two names and have a copy each now, as (file, copy); `next` numbers the copies.
    pub(super) fn crash(
        &mut self,
        odds: Odds,
        entropy: &SplitMix64,
        mut next: impl FnMut() -> u64,
    ) -> Vec<(u64, u64)> {
        self.sync_in_doubt(odds, entropy);
        self.drop_unreachable();
        let mut seen = BTreeSet::new();
        let mut copies = Vec::new();
        for node in self.medium.values_mut() {
            if let Node::File(file) = node {
                if !seen.insert(*file) {
                    let copy = next();
                    copies.push((*file, copy));
                    *file = copy;
                }
            }
        }
        self.now = self.medium.clone();
        copies
    }

    fn drop_unreachable(&mut self) {
        let mut reachable = BTreeSet::from([ROOT_DIRECTORY]);
        let mut own = BTreeMap::new();
        // A directory has a greater number than the one it is in: it was made later.
        for (directory, name) in std::mem::take(&mut self.own) {
            let there = self.medium.get(&name) == Some(&Node::Directory(directory));
            if there && reachable.contains(&name.0) {
                reachable.insert(directory);
                own.insert(directory, name);
            }
        }
        self.own = own;
        self.medium.retain(|name, _| reachable.contains(&name.0));
    }

    /// The files that have a name, had one, or may have one after a crash.
    pub(super) fn files(&self) -> BTreeSet<u64> {
        let journal = self.journal.iter().filter_map(|change| match &change.sets {
            Sets::One(_, node) => *node,
            Sets::Rename { node, .. } => Some(*node),
        });
        let named = self.now.values().chain(self.medium.values()).copied();
        named
            .chain(journal)
            .filter_map(|node| match node {
                Node::File(file) => Some(file),
                Node::Directory(_) => None,
            })
            .collect()
    }

    /// The present path of a file.
    pub(super) fn path_of(&self, file: u64) -> Option<String> {
        let named = |node: &Node| *node == Node::File(file);
        let (name, _) = self.now.iter().find(|(_, node)| named(node))?;
        let mut path = name.1.to_string();
        let mut inside = name.0;
        while let Some((above, own)) = self.own.get(&inside) {
            path = format!("{own}/{path}");
            inside = *above;
        }
        Some(path)
    }
}

impl Sets {
    fn names(&self) -> impl Iterator<Item = &Name> {
        let (first, second) = match self {
            Self::One(name, _) => (name, None),
            Self::Rename { to, from, .. } => (to, Some(from)),
        };
        std::iter::once(first).chain(second)
    }

    fn apply(&self, names: &mut BTreeMap<Name, Node>) {
        match self {
            Self::One(name, Some(node)) => {
                names.insert(name.clone(), *node);
            }
            Self::One(name, None) => {
                names.remove(name);
            }
            Self::Rename { to, node, from } => {
                names.insert(to.clone(), *node);
                names.remove(from);
            }
        }
    }
}
