//! Several decisions of the same nodes: one alone is taken before most faults strike.

use dpat_model::{Cx, Digest, Input, Lsn, Output, Peer, Process};

use super::{Coin, Config, Consensus, Msg, Record};

/// A message, record or timer with the index of its decision.
pub type At<T> = (u32, T);

/// One node that takes part in decisions, each on its own. It joins one when it is asked or told about it.
#[derive(Debug)]
pub struct Series<C: Coin> {
    me: Peer,
    /// What the node has to know for each decision.
    configs: Vec<Config>,
    joined: Vec<Consensus<C>>,
    buffer: Vec<Output<Consensus<C>>>,
}

impl<C: Coin> Clone for Series<C> {
    fn clone(&self) -> Self {
        Self {
            me: self.me,
            configs: self.configs.clone(),
            joined: self.joined.clone(),
            buffer: Vec::new(),
        }
    }
}

impl<C: Coin> Series<C> {
    /// Returns the decisions that the node takes part in, in their order.
    #[must_use]
    pub fn joined(&self) -> &[Consensus<C>] {
        &self.joined
    }

    /// Joins the decisions up to one; false if there is no such decision.
    fn boot_upto(&mut self, index: u32) -> bool {
        let index = index as usize;
        if index >= self.configs.len() {
            return false;
        }
        while self.joined.len() <= index {
            let config = &self.configs[self.joined.len()];
            self.joined.push(Consensus::boot(self.me, config, None));
        }
        true
    }

    fn join(&mut self, index: u32, cx: &mut Cx<'_, Self>) -> bool {
        let known = self.joined.len();
        if !self.boot_upto(index) {
            return false;
        }
        for new in (0..=index).skip(known) {
            self.child(new, Input::Start, cx);
        }
        true
    }

    fn child(&mut self, index: u32, input: Input<Consensus<C>>, cx: &mut Cx<'_, Self>) {
        let Some(child) = self.joined.get_mut(index as usize) else {
            return;
        };
        cx.child(
            &mut self.buffer,
            |output| {
                let at = |record| (index, record);
                output.lift(at, |msg| (index, msg), |reply| reply, |()| (), |()| index)
            },
            |cx| child.step(input, cx),
        );
    }

    fn children(&mut self, input: &Input<Consensus<C>>, cx: &mut Cx<'_, Self>) {
        for index in (0_u32..).take(self.joined.len()) {
            self.child(index, input.clone(), cx);
        }
    }
}

impl<C: Coin> Process for Series<C> {
    type Config = Vec<Config>;
    type Snapshot = ();
    /// Which decision.
    type Req = u32;
    type Rep = Option<bool>;
    type Msg = At<Msg>;
    type Rec = At<Record>;
    type Timer = u32;
    type Work = ();
    type Done = ();
    const CHOOSES: bool = C::CHOOSES;

    fn boot(me: Peer, configs: &Vec<Config>, _snapshot: Option<&()>) -> Self {
        Self {
            me,
            configs: configs.clone(),
            joined: Vec::new(),
            buffer: Vec::new(),
        }
    }

    fn apply(&mut self, at: Lsn, (index, record): &At<Record>) {
        if self.boot_upto(*index) {
            self.joined[*index as usize].apply(at, record);
        }
    }

    fn snapshot(&self) {}

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => self.children(&Input::Start, cx),
            Input::Req { id, deadline, req } => {
                if self.join(req, cx) {
                    let input = Input::Req {
                        id,
                        deadline,
                        req: (),
                    };
                    self.child(req, input, cx);
                } else {
                    cx.reply(id, None);
                }
            }
            Input::Msg { from, msg } => {
                let (index, msg) = msg;
                if self.join(index, cx) {
                    self.child(index, Input::Msg { from, msg }, cx);
                }
            }
            Input::Timer(index) => self.child(index, Input::Timer(()), cx),
            Input::Cancel(id) => self.children(&Input::Cancel(id), cx),
            Input::Drain { deadline } => self.children(&Input::Drain { deadline }, cx),
            Input::PeerUp(_) | Input::PeerDown(_) | Input::Done { .. } | Input::Durable(_) => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        for child in &self.joined {
            child.digest(digest);
        }
    }
}
