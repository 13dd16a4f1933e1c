//! Records what simulated clients saw.

use std::borrow::Cow;

use dpat_model::{Answer, Event, Kind};

/// Writes a history, with a new process for each client whose call ended unknown.
///
/// One call of a client is open at a time, as in the engine. A completion without an open call is dropped, so that an
/// answer which comes after its client gave up does no harm.
///
/// # Examples
/// ```
/// use dpat_sim::Recorder;
///
/// let mut recorder = Recorder::new(2);
/// recorder.invoke(10, 0, "write", Some(7));
/// recorder.info(20, 0, None); // nobody knows
/// recorder.invoke(30, 0, "read", None);
/// recorder.ok(40, 0, Some(7));
/// let processes: Vec<u64> = recorder.events().iter().map(|event| event.process).collect();
/// assert_eq!(processes, [0, 0, 2, 2]);
/// ```
#[derive(Clone, Debug)]
pub struct Recorder<V> {
    events: Vec<Event<V>>,
    clients: Vec<Client>,
    next_process: u64,
}

#[derive(Clone, Debug)]
struct Client {
    process: u64,
    open: Option<Cow<'static, str>>,
}

impl<V> Recorder<V> {
    /// Starts a history of so many clients, which are the first processes.
    #[must_use]
    pub fn new(clients: u32) -> Self {
        let client = |process| Client {
            process,
            open: None,
        };
        Self {
            events: Vec::new(),
            clients: (0..u64::from(clients)).map(client).collect(),
            next_process: u64::from(clients),
        }
    }

    /// Records that a client calls; returns the index of the event.
    ///
    /// A call that is still open ends unknown, with the value of this invocation left out: the process just stops.
    pub fn invoke(
        &mut self,
        now_ns: u64,
        client: u32,
        f: impl Into<Cow<'static, str>>,
        value: V,
    ) -> usize {
        while self.clients.len() <= client as usize {
            self.clients.push(Client {
                process: self.next_process,
                open: None,
            });
            self.next_process += 1;
        }
        let state = &mut self.clients[client as usize];
        if state.open.is_some() {
            state.process = self.next_process;
            self.next_process += 1;
        }
        let f = f.into();
        state.open = Some(f.clone());
        let process = state.process;
        self.push(now_ns, process, Kind::Invoke, f, value)
    }

    /// Records that the open call of a client happened.
    pub fn ok(&mut self, now_ns: u64, client: u32, value: V) -> Option<usize> {
        self.complete(now_ns, client, Kind::Ok, value)
    }

    /// Records that the open call of a client surely did not happen.
    pub fn fail(&mut self, now_ns: u64, client: u32, value: V) -> Option<usize> {
        self.complete(now_ns, client, Kind::Fail, value)
    }

    /// Records that nobody knows whether the open call of a client happened; the client goes on as a new process.
    pub fn info(&mut self, now_ns: u64, client: u32, value: V) -> Option<usize> {
        let index = self.complete(now_ns, client, Kind::Info, value)?;
        self.clients[client as usize].process = self.next_process;
        self.next_process += 1;
        Some(index)
    }

    /// Records an answer: `reply` makes the value of a reply, anything else gets `otherwise`.
    pub fn answer<R>(
        &mut self,
        now_ns: u64,
        client: u32,
        answer: &Answer<R>,
        reply: impl FnOnce(&R) -> V,
        otherwise: V,
    ) -> Option<usize> {
        match answer {
            Answer::Reply(value) => self.ok(now_ns, client, reply(value)),
            Answer::NotDone(_) => self.fail(now_ns, client, otherwise),
            Answer::Unknown => self.info(now_ns, client, otherwise),
        }
    }

    /// Returns the history so far.
    #[must_use]
    pub fn events(&self) -> &[Event<V>] {
        &self.events
    }

    /// Returns the history.
    #[must_use]
    pub fn into_events(self) -> Vec<Event<V>> {
        self.events
    }

    fn complete(&mut self, now_ns: u64, client: u32, kind: Kind, value: V) -> Option<usize> {
        let state = self.clients.get_mut(client as usize)?;
        let f = state.open.take()?;
        let process = state.process;
        Some(self.push(now_ns, process, kind, f, value))
    }

    fn push(
        &mut self,
        time_ns: u64,
        process: u64,
        kind: Kind,
        f: Cow<'static, str>,
        value: V,
    ) -> usize {
        self.events.push(Event {
            time_ns,
            process,
            kind,
            f,
            value,
        });
        self.events.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use dpat_model::{Pairing, Refusal};

    use super::*;

    #[test]
    fn every_order_of_calls_is_a_history() {
        let mut recorder = Recorder::new(1);
        recorder.invoke(1, 0, "w", 1);
        recorder.invoke(2, 3, "w", 2); // a client nobody announced
        recorder.invoke(3, 0, "w", 3); // while a call is open
        assert_eq!(recorder.ok(4, 0, 3), Some(3));
        assert_eq!(recorder.ok(5, 0, 3), None); // nothing is open
        assert_eq!(recorder.ok(5, 9, 3), None); // nobody
        let unknown: Answer<i32> = Answer::Unknown;
        recorder.answer(6, 3, &unknown, |value| *value, 0);
        recorder.invoke(7, 3, "r", 0);
        let draining: Answer<i32> = Answer::NotDone(Refusal::Draining);
        recorder.answer(8, 3, &draining, |value| *value, 0);
        recorder.invoke(9, 3, "r", 0);
        recorder.answer(9, 3, &Answer::Reply(8), |value| *value, 0);
        let mut pairing = Pairing::default();
        for event in recorder.events() {
            pairing.next(event).unwrap();
        }
        let kinds: Vec<Kind> = recorder
            .into_events()
            .iter()
            .map(|event| event.kind)
            .collect();
        use Kind::{Fail, Info, Invoke, Ok};
        assert_eq!(
            kinds,
            [Invoke, Invoke, Invoke, Ok, Info, Invoke, Fail, Invoke, Ok]
        );
    }
}
