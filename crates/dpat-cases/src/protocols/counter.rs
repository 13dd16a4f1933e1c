//! A counter that counts each request once: asynchronous code under the simulator.
//!
//! Clients send additions with an id and repeat them until they are answered. The server appends the ids to a file in
//! groups, one sync a group, and answers when the record is durable. Between looking whether an id is known and knowing
//! it there is an await, so that a repetition may come meanwhile: the classic race of an idempotent receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Deadline, Sleep};
use dpat_model::NodeIx;
use dpat_sim::async_node::{AsyncNode, AsyncSystem, Closed, Program};
use dpat_sim::disk::{SimDisk, SimFile};
use dpat_sim::{Family, Judge, Mutant, Plan, Setup, Stream};
use dpat_storage::{File, ROOT, Storage, StorageError};
use tokio::sync::{Notify, oneshot};

use crate::sync::Mutex;

const CLIENTS: u32 = 3;
const CALLS: u64 = 40;
/// A client thinks less than so long before a call.
const THINKS_MS: u64 = 400;
/// Long enough for a client that could do nothing before everything healed: the last call begins in time, too.
const SETTLE_MS: u64 = 18_000;
const _: () = assert!(CALLS * THINKS_MS + 1_000 < SETTLE_MS);
/// How long a client waits before it sends again.
const PATIENCE: Duration = Duration::from_millis(30);
/// How long a sync takes, at least; at most twice as long.
const SYNC: Duration = Duration::from_millis(1);

const FILE: &str = "ids";
/// An id, and a check that tells a torn record.
const RECORD_BYTES: usize = 16;

/// The rules that a mutant breaks.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// An addition that is being counted is waited for, and not counted again.
    join: bool,
    /// An addition is answered when its record is durable.
    sync_first: bool,
}

/// The system: one counter a node, and clients that share them.
pub struct Counter {
    nodes: u32,
    rules: Rules,
    /// The disk of each node, as its present life sees it.
    disks: BTreeMap<NodeIx, SimDisk>,
    begun: u64,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
}

impl AsyncSystem for Counter {
    const NAME: &'static str = "counter";
    const ABOUT: &'static str = "counts each addition once, in asynchronous code on a disk";
    const NODES: u32 = 2;
    const PROPERTIES: &'static [&'static str] =
        &["counted-once", "acknowledged-kept", "all-answered"];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "check-then-act",
            rule: "an addition that is being counted is waited for, and not counted again",
            seeds_max: 10,
        },
        Mutant {
            name: "answer-before-sync",
            rule: "an addition is answered when its record is durable",
            seeds_max: 20,
        },
    ];
    const KINDS: &'static [&'static str] = &["add"];

    fn new(setup: &Setup) -> Self {
        Self {
            nodes: setup.nodes,
            rules: Rules {
                join: setup.mutant != Some("check-then-act"),
                sync_first: setup.mutant != Some("answer-before-sync"),
            },
            disks: BTreeMap::new(),
            begun: 0,
            acknowledged: Arc::default(),
        }
    }

    fn plan() -> Plan {
        // Its disk may lose what was not synced; it is not made for one that breaks.
        Plan {
            settle: Duration::from_millis(SETTLE_MS),
            ..Plan::default()
        }
        .without(Family::Disk)
    }

    fn node(&mut self, node: AsyncNode) -> Program {
        self.disks.insert(node.peer().node, node.disk().clone());
        let rules = self.rules;
        Box::pin(async move {
            // A disk without faults refuses only a life that is over.
            let _ = serve(node, rules).await;
        })
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn call(
        &mut self,
        client: u32,
        call: u64,
        node: AsyncNode,
        mut rng: Stream,
    ) -> Option<Program> {
        if call == CALLS {
            return None;
        }
        self.begun += 1;
        let id = u64::from(client) << 32 | call;
        let server = shard(id, self.nodes);
        let acknowledged = Arc::clone(&self.acknowledged);
        Some(Box::pin(async move {
            let time = node.time();
            time.sleep(Duration::from_millis(rng.below(THINKS_MS)))
                .await;
            let body = Bytes::copy_from_slice(&id.to_le_bytes());
            loop {
                let deadline = Deadline::after(time.now(), PATIENCE);
                if node
                    .call(server, "add", body.clone(), deadline)
                    .await
                    .is_ok()
                {
                    acknowledged.lock().insert(id);
                    return;
                }
                time.sleep(Duration::from_millis(1 + rng.below(20))).await;
            }
        }))
    }

    fn is_settled(&mut self) -> bool {
        let expected = u64::from(CLIENTS) * CALLS;
        self.acknowledged.lock().len() as u64 == expected
    }

    fn finish(&mut self, judge: &mut Judge) {
        let acknowledged = self.acknowledged.lock();
        let mut counted = BTreeMap::<u64, u64>::new();
        for disk in self.disks.values() {
            let Ok((_, ids)) = recover(disk) else {
                continue;
            };
            for id in ids {
                *counted.entry(id).or_default() += 1;
            }
        }
        let twice = counted.iter().find(|(_, times)| **times > 1);
        judge.always("counted-once", twice.is_none(), || {
            format!(
                "{:x} is counted {} times",
                twice.map_or(0, |(id, _)| *id),
                twice.map_or(0, |(_, times)| *times)
            )
        });
        let lost = acknowledged.iter().find(|id| !counted.contains_key(id));
        judge.always("acknowledged-kept", lost.is_none(), || {
            format!(
                "{:x} was acknowledged and is not counted",
                lost.unwrap_or(&0)
            )
        });
        let answered = acknowledged.len() as u64;
        judge.always("all-answered", answered == self.begun, || {
            format!("{answered} of {} additions were answered", self.begun)
        });
        judge.compared(answered);
    }
}

/// Returns which node counts an id.
fn shard(id: u64, nodes: u32) -> NodeIx {
    let nodes = u64::from(nodes.max(1));
    NodeIx(u32::try_from(id % nodes).unwrap_or(0))
}

fn check(id: u64) -> u64 {
    (id ^ 0xC0_0E_7E_5A).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Reads the ids of a file, and cuts off what a crash has torn.
fn recover(disk: &SimDisk) -> Result<(SimFile, Vec<u64>), StorageError> {
    let mut file = match disk.open(FILE) {
        Ok(file) => file,
        Err(_) => disk.create(FILE)?,
    };
    let mut ids = Vec::new();
    let mut at = 0;
    let mut record = [0; RECORD_BYTES];
    while file.read_exact_at(at, &mut record).is_ok() {
        let (id, checked) = record.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
        if check(word(id)) != word(checked) {
            break;
        }
        ids.push(word(id));
        at += RECORD_BYTES as u64;
    }
    file.truncate(at)?;
    // What survived without a sync is counted from now on, so it must survive the next crash too.
    file.sync_data()?;
    disk.sync_dir(ROOT)?;
    Ok((file, ids))
}

/// What the server knows.
#[derive(Default)]
struct State {
    counted: BTreeSet<u64>,
    /// Who waits for an id that is being counted.
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    /// Ids that the next group takes.
    queue: Vec<u64>,
}

/// Serves and commits until the node is gone.
async fn serve(node: AsyncNode, rules: Rules) -> Result<(), StorageError> {
    let (mut file, ids) = recover(node.disk())?;
    let state = Arc::new(Mutex::new(State {
        counted: ids.into_iter().collect(),
        ..State::default()
    }));
    let news = Arc::new(Notify::new());
    node.serve({
        let (state, news) = (Arc::clone(&state), Arc::clone(&news));
        move |incoming| {
            let (state, news) = (Arc::clone(&state), Arc::clone(&news));
            async move { add(&state, &news, &incoming.body, rules).await }
        }
    });
    loop {
        let group = std::mem::take(&mut state.lock().queue);
        if group.is_empty() {
            news.notified().await;
            continue;
        }
        for id in &group {
            let mut record = [0; RECORD_BYTES];
            record[..8].copy_from_slice(&id.to_le_bytes());
            record[8..].copy_from_slice(&check(*id).to_le_bytes());
            file.append(&record)?;
        }
        if rules.sync_first {
            sync(&node, &mut file).await?;
            settle(&state, &group);
        } else {
            settle(&state, &group);
            sync(&node, &mut file).await?;
        }
    }
}

async fn sync(node: &AsyncNode, file: &mut SimFile) -> Result<(), StorageError> {
    let more = u64::try_from(SYNC.as_nanos()).unwrap_or(u64::MAX);
    let takes = SYNC + Duration::from_nanos(node.entropy().below(more));
    node.time().sleep(takes).await;
    file.sync_data()
}

/// Tells everybody who waits for these ids.
fn settle(state: &Mutex<State>, group: &[u64]) {
    let mut waiters = Vec::new();
    {
        let mut state = state.lock();
        for id in group {
            state.counted.insert(*id);
            waiters.extend(state.waiting.remove(id).unwrap_or_default());
        }
    }
    for waiter in waiters {
        let _ = waiter.send(()); // a request whose node is gone
    }
}

/// Answers one addition.
async fn add(
    state: &Mutex<State>,
    news: &Notify,
    body: &[u8],
    rules: Rules,
) -> Result<Bytes, Closed> {
    let id = body
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| Closed)?;
    let counted = {
        let mut state = state.lock();
        if state.counted.contains(&id) {
            return Ok(Bytes::new());
        }
        let (sender, counted) = oneshot::channel();
        let waiters = state.waiting.entry(id).or_default();
        waiters.push(sender);
        if waiters.len() == 1 || !rules.join {
            state.queue.push(id);
        }
        counted
    };
    news.notify_one();
    counted.await.map(|()| Bytes::new()).map_err(|_| Closed)
}
