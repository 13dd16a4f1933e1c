//! Runs of the broadcast: who says what, and what everybody must have heard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dpat_model::{Answer, NodeIx};
use dpat_sim::{Call, ClientCx, Judge, Mutant, Plan, Protocol, Setup, Wire, World};

use super::super::harness;
use super::{Broadcast, Broken, Config, Msg};

const CLIENTS: u32 = 3;
const CALLS: u64 = 20;

/// One run: clients that tell words to nodes, of which a minority may crash and never come back.
#[derive(Debug)]
pub struct Broadcasts {
    setup: Setup,
    broken: Option<Broken>,
    /// Which node was told a word. Of some it is certain that the node was down.
    told: BTreeMap<u64, NodeIx>,
    refused: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

impl Broadcasts {
    /// Judges what one node has delivered.
    fn judge(&self, at: NodeIx, process: &Broadcast, judge: &mut Judge) {
        let mut next = BTreeMap::new();
        let mut words = BTreeSet::new();
        for item in process.delivered() {
            judge.always("no-duplicates", words.insert(item.word), || {
                format!("{at} delivered {} twice", item.word)
            });
            let number = next.entry(item.origin).or_insert(0);
            judge.always("in-order", item.number == *number, || {
                format!("{at} delivered {item:?}, not number {number}")
            });
            *number += 1;
            let told = self.told.get(&item.word) == Some(&NodeIx(item.origin));
            let told = told && !self.refused.contains(&item.word);
            judge.always("nothing-made-up", told, || {
                format!("{at} delivered {item:?}, which nobody said")
            });
        }
        let lost = self.acknowledged.difference(&words).next();
        judge.always("acknowledged-delivered", lost.is_none(), || {
            format!("{at} lacks {lost:?}, which was acknowledged")
        });
    }
}

impl Protocol for Broadcasts {
    type Process = Broadcast;

    const NAME: &'static str = "broadcast";
    const ABOUT: &'static str = "what is acknowledged reaches every node once, in order";
    const NODES: u32 = 5;
    const NODES_MIN: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &[
        "no-duplicates",
        "in-order",
        "nothing-made-up",
        "acknowledged-delivered",
        "agreement",
    ];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "sends-once",
            rule: "what is not acknowledged is sent again",
            seeds_max: 10,
        },
        Mutant {
            name: "delivers-copies",
            rule: "a word that is known is not delivered again",
            seeds_max: 10,
        },
        Mutant {
            name: "delivers-out-of-order",
            rule: "a word waits for those that its origin sent before",
            seeds_max: 10,
        },
        Mutant {
            name: "only-the-origin-sends",
            rule: "whoever has a word sends it on",
            seeds_max: 20,
        },
        Mutant {
            name: "answers-before-a-majority-has-it",
            rule: "a caller is answered when a majority has its word",
            seeds_max: 120,
        },
    ];
    const KINDS: &'static [&'static str] = &["Data", "Have"];
    const PHASES: &'static [&'static str] = &["all-have-all", "sending"];

    fn new(setup: &Setup) -> Self {
        let rules = [
            Broken::SendsOnce,
            Broken::DeliversCopies,
            Broken::DeliversOutOfOrder,
            Broken::OnlyTheOriginSends,
            Broken::AnswersBeforeAMajorityHasIt,
        ];
        Self {
            setup: setup.clone(),
            broken: harness::broken(setup, Self::MUTANTS, &rules),
            told: BTreeMap::new(),
            refused: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    fn config(&self, _node: NodeIx) -> Config {
        Config {
            nodes: self.setup.nodes,
            broken: self.broken,
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(4),
            settle: Duration::from_secs(10),
            // A majority is up at any time. Who is down for ever is told nothing.
            down_max: (self.setup.nodes - 1) / 2,
            restart: false,
            // A disk that refuses to write halts its node, beyond any bound.
            disk_errors: false,
            ..Plan::default()
        }
    }

    fn kind(msg: &Msg) -> usize {
        match msg {
            Msg::Data(_) => 0,
            Msg::Have(..) => 1,
        }
    }

    fn phase(process: &Broadcast) -> usize {
        usize::from(!process.everybody_has_all())
    }

    fn key(msg: &Msg) -> Option<String> {
        let (Msg::Data(super::Item { origin, .. }) | Msg::Have(origin, _)) = msg;
        Some(format!("from {}", NodeIx(*origin)))
    }

    fn wire() -> Option<Wire<Broadcast>> {
        Some(harness::postcard())
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<u64>> {
        if call == CALLS {
            return None;
        }
        let node = harness::node(cx.rng.below(u64::from(cx.nodes)));
        let word = u64::from(client) * CALLS + call;
        self.told.insert(word, node);
        Some(Call {
            node,
            req: word,
            after: Duration::from_millis(cx.rng.below(200)),
            patience: Duration::from_secs(2),
        })
    }

    fn answered(
        &mut self,
        _client: u32,
        _call: u64,
        word: &u64,
        answer: &Answer<bool>,
        _cx: &mut ClientCx<'_>,
    ) {
        match answer {
            Answer::Reply(true) => self.acknowledged.insert(*word),
            Answer::NotDone(_) => self.refused.insert(*word),
            Answer::Reply(false) | Answer::Unknown => false,
        };
    }

    fn finish(&mut self, world: &World<Broadcast>, judge: &mut Judge) {
        judge.compared(self.acknowledged.len() as u64);
        let mut first: Option<(NodeIx, BTreeSet<u64>)> = None;
        for (at, process) in world.processes() {
            self.judge(at, process, judge);
            let words: BTreeSet<u64> = process.delivered().iter().map(|it| it.word).collect();
            let (other, expected) = first.get_or_insert_with(|| (at, words.clone()));
            judge.always("agreement", words == *expected, || {
                let only: Vec<&u64> = words.symmetric_difference(expected).collect();
                format!("only one of {other} and {at} delivered {only:?}")
            });
        }
    }
}
