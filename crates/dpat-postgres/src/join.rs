//! Calls that are made at one time go together, in one transaction.
//!
//! Who comes while there is a turn goes at once, alone. While all turns are taken, what else is asked for waits, and then goes as
//! one, in a task of its own: it goes on whoever of them is dropped. Nobody waits for others to come.

use std::collections::VecDeque;
use std::sync::Arc;

use dpat_core::{Classify, Effect};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::connection::Pool;
use crate::error::EngineError;
use crate::sync::Mutex;

/// How many calls of a kind wait for a turn; more are refused.
pub(crate) const WAITING_MAX: usize = 10_000;

/// The limits of what goes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// How many transactions are under way.
    pub(crate) turns: usize,
    pub(crate) items: usize,
    /// Beyond the first call.
    pub(crate) bytes: usize,
    /// How many calls wait for a turn.
    pub(crate) waiting: usize,
}

/// What a call brings.
pub(crate) struct Brought<T> {
    pub(crate) call: T,
    pub(crate) items: usize,
    pub(crate) bytes: usize,
    /// When it must have ended.
    pub(crate) by: Instant,
}

struct Waiting<T, R> {
    number: u64,
    brought: Brought<T>,
    answer: oneshot::Sender<R>,
}

struct State<T, R> {
    busy: usize,
    next: u64,
    waiting: VecDeque<Waiting<T, R>>,
}

/// Joins calls of one kind: each gets one answer.
pub(crate) struct Joiner<T, R> {
    most: Most,
    runtime: Handle,
    state: Mutex<State<T, R>>,
}

/// A call that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// As many wait as may: nothing was begun.
    Full,
    /// Its turn has not come in time: nothing was begun.
    Waited,
    /// It was begun.
    Late,
}

impl<T: Send + 'static, R: Send + 'static> Joiner<T, R> {
    /// On this runtime calls that go together are made.
    pub(crate) fn new(most: Most, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            most,
            runtime,
            state: Mutex::new(State {
                busy: 0,
                next: 0,
                waiting: VecDeque::new(),
            }),
        })
    }

    /// As [`join`](Self::join), of a call that must have ended when the pool says; who gets no answer is told why.
    pub(crate) async fn answered<W, F>(
        self: &Arc<Self>,
        pool: &Pool,
        (call, items, bytes): (T, usize, usize),
        work: W,
    ) -> Result<R, EngineError>
    where
        W: Fn(Vec<T>) -> F + Clone + Send + 'static,
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let brought = Brought {
            call,
            items,
            bytes,
            by: Instant::now() + pool.config.timeout,
        };
        let unanswered = |why| match why {
            Unanswered::Full => EngineError::full("calls that wait", self.most.waiting as u64),
            Unanswered::Waited => pool.late(Effect::NotDone),
            Unanswered::Late => pool.late(Effect::Unknown),
        };
        self.join(brought, work).await.map_err(unanswered)
    }

    /// Makes a call, with others if there are any. `work` makes all of a group, and answers each in their order.
    pub(crate) async fn join<W, F>(
        self: &Arc<Self>,
        brought: Brought<T>,
        work: W,
    ) -> Result<R, Unanswered>
    where
        W: Fn(Vec<T>) -> F + Clone + Send + 'static,
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let by = brought.by;
        let entered = self.state.with(|state| {
            if state.busy < self.most.turns {
                state.busy += 1;
                return Entered::Goes(brought.call);
            }
            if state.waiting.len() >= self.most.waiting {
                return Entered::Full;
            }
            let (answer, receiver) = oneshot::channel();
            let number = state.next;
            state.next += 1;
            state.waiting.push_back(Waiting {
                number,
                brought,
                answer,
            });
            Entered::Waits(number, receiver)
        });
        let (number, mut receiver) = match entered {
            Entered::Waits(number, receiver) => (number, receiver),
            Entered::Full => return Err(Unanswered::Full),
            Entered::Goes(call) => {
                let turn = Turn {
                    joiner: Arc::clone(self),
                    work,
                };
                // It ends by itself in time.
                let answer = (turn.work)(vec![call]).await.pop();
                return answer.ok_or(Unanswered::Late);
            }
        };
        // What a call brings is not kept for one that was dropped.
        let place = Place {
            joiner: self,
            number,
        };
        match timeout_at(by, &mut receiver).await {
            Ok(answer) => answer.map_err(|_| Unanswered::Late),
            Err(_) if place.joiner.leave(number) => Err(Unanswered::Waited),
            Err(_) => receiver.try_recv().map_err(|_| Unanswered::Late),
        }
    }

    /// Takes a call out; false: it was begun.
    fn leave(&self, number: u64) -> bool {
        let left = self.state.with(|state| {
            let at = state
                .waiting
                .binary_search_by_key(&number, |one| one.number);
            at.ok().and_then(|at| state.waiting.remove(at))
        });
        left.is_some()
    }

    /// Takes as many as may go together; if nobody waits, the turn is free.
    fn take(&self) -> Vec<Waiting<T, R>> {
        self.state.with(|state| {
            let (mut items, mut bytes) = (0, 0);
            let mut group: Vec<Waiting<T, R>> = Vec::new();
            while let Some(one) = state.waiting.pop_front() {
                items += one.brought.items;
                bytes += one.brought.bytes;
                let fits = items <= self.most.items && bytes <= self.most.bytes;
                if !(group.is_empty() || fits) {
                    state.waiting.push_front(one);
                    break;
                }
                group.push(one);
            }
            if group.is_empty() {
                state.busy -= 1;
            }
            group
        })
    }
}

/// Whether a failure may be that of one call, and has nothing to do with those that went with it.
pub(crate) fn is_of_one(error: &impl Classify) -> bool {
    error.effect() == Effect::NotDone && !error.class().is_retryable()
}

/// What becomes of a call that comes.
enum Entered<T, R> {
    Goes(T),
    Waits(u64, oneshot::Receiver<R>),
    Full,
}

/// The place of a call that waits: given up when it is dropped.
struct Place<'j, T: Send + 'static, R: Send + 'static> {
    joiner: &'j Joiner<T, R>,
    number: u64,
}

impl<T: Send + 'static, R: Send + 'static> Drop for Place<'_, T, R> {
    fn drop(&mut self) {
        self.joiner.leave(self.number);
    }
}

/// The right to make calls; passed on when it is dropped, also by who is dropped in the middle.
struct Turn<T, R, W, F>
where
    T: Send + 'static,
    R: Send + 'static,
    W: Fn(Vec<T>) -> F + Clone + Send + 'static,
    F: Future<Output = Vec<R>> + Send + 'static,
{
    joiner: Arc<Joiner<T, R>>,
    work: W,
}

impl<T, R, W, F> Drop for Turn<T, R, W, F>
where
    T: Send + 'static,
    R: Send + 'static,
    W: Fn(Vec<T>) -> F + Clone + Send + 'static,
    F: Future<Output = Vec<R>> + Send + 'static,
{
    fn drop(&mut self) {
        let group = self.joiner.take();
        if group.is_empty() {
            return;
        }
        let turn = Self {
            joiner: Arc::clone(&self.joiner),
            work: self.work.clone(),
        };
        self.joiner.runtime.spawn(async move {
            let one = |one: Waiting<T, R>| (one.brought.call, one.answer);
            let (calls, answers): (Vec<T>, Vec<_>) = group.into_iter().map(one).unzip();
            let done = (turn.work)(calls).await;
            for (to, answer) in answers.into_iter().zip(done) {
                // Whoever has gone is not told.
                drop(to.send(answer));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MOST: Most = Most {
        turns: 1,
        items: 4,
        bytes: 100,
        waiting: 6,
    };
    const LONG: Duration = Duration::from_secs(60);

    /// Notes the groups that are made, each of which waits until it is let go.
    #[derive(Clone)]
    struct Server {
        groups: Arc<Mutex<Vec<Vec<u32>>>>,
        lets_go: Arc<tokio::sync::Semaphore>,
    }

    impl Server {
        fn new() -> Self {
            Self {
                groups: Arc::new(Mutex::new(Vec::new())),
                lets_go: Arc::new(tokio::sync::Semaphore::new(0)),
            }
        }

        fn groups(&self) -> Vec<Vec<u32>> {
            self.groups.with(|groups| groups.clone())
        }

        async fn let_go(&self, groups: usize) {
            self.lets_go.add_permits(groups);
            settled().await;
        }

        fn call(
            &self,
            joiner: &Arc<Joiner<u32, u32>>,
            number: u32,
            (by, bytes): (Duration, usize),
        ) -> tokio::task::JoinHandle<Result<u32, Unanswered>> {
            let (joiner, server) = (Arc::clone(joiner), self.clone());
            let brought = Brought {
                call: number,
                items: 1,
                bytes,
                by: Instant::now() + by,
            };
            tokio::spawn(async move {
                let work = move |calls: Vec<u32>| {
                    let server = server.clone();
                    async move {
                        server.groups.with(|groups| groups.push(calls.clone()));
                        let permit = server.lets_go.acquire().await;
                        permit.unwrap().forget();
                        calls.into_iter().map(|call| call + 100).collect()
                    }
                };
                joiner.join(brought, work).await
            })
        }
    }

    fn joiner() -> Arc<Joiner<u32, u32>> {
        Joiner::new(MOST, Handle::current())
    }

    /// Lets all tasks run until they wait.
    async fn settled() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_call_is_under_way_goes_together_and_each_gets_its_answer() {
        let (joiner, server) = (joiner(), Server::new());
        let mut calls = Vec::new();
        for number in 1..=7 {
            calls.push(server.call(&joiner, number, (LONG, 1)));
            settled().await;
        }
        assert_eq!(server.groups(), [vec![1]], "nobody waits for others");
        server.let_go(1).await;
        assert_eq!(server.groups()[1..], [vec![2, 3, 4, 5]], "as many as fit");
        server.let_go(2).await;
        assert_eq!(server.groups()[2..], [vec![6, 7]]);
        for (number, call) in (1..).zip(calls) {
            assert_eq!(call.await.unwrap(), Ok(number + 100));
        }
        // The turn is free again.
        let next = server.call(&joiner, 8, (LONG, 1));
        settled().await;
        server.let_go(1).await;
        assert_eq!(next.await.unwrap(), Ok(108));
    }

    #[tokio::test]
    async fn who_is_dropped_while_it_waits_is_not_made_and_holds_up_nobody() {
        let (joiner, server) = (joiner(), Server::new());
        let under_way = server.call(&joiner, 1, (LONG, 1));
        settled().await;
        let gone = server.call(&joiner, 2, (LONG, 1));
        let stays = server.call(&joiner, 3, (LONG, 1));
        settled().await;
        gone.abort();
        // The one under way is dropped in the middle: its turn is passed on.
        under_way.abort();
        settled().await;
        assert_eq!(server.groups(), [vec![1], vec![3]]);
        server.let_go(1).await;
        assert_eq!(stays.await.unwrap(), Ok(103));
    }

    #[tokio::test]
    async fn a_group_goes_on_when_one_of_it_is_dropped() {
        let (joiner, server) = (joiner(), Server::new());
        let under_way = server.call(&joiner, 1, (LONG, 1));
        settled().await;
        let (gone, stays) = (
            server.call(&joiner, 2, (LONG, 1)),
            server.call(&joiner, 3, (LONG, 1)),
        );
        settled().await;
        server.let_go(1).await;
        assert_eq!(server.groups()[1..], [vec![2, 3]]);
        gone.abort();
        settled().await;
        server.let_go(1).await;
        assert_eq!(stays.await.unwrap(), Ok(103));
        assert_eq!(under_way.await.unwrap(), Ok(101));
    }

    #[tokio::test(start_paused = true)]
    async fn each_ends_by_its_deadline_and_knows_whether_it_was_begun() {
        let (joiner, server) = (joiner(), Server::new());
        let under_way = server.call(&joiner, 1, (LONG, 1));
        settled().await;
        let soon = Duration::from_millis(1);
        let waits = server.call(&joiner, 2, (soon, 1));
        settled().await;
        tokio::time::advance(soon).await;
        assert_eq!(waits.await.unwrap(), Err(Unanswered::Waited));
        let begun = server.call(&joiner, 3, (soon, 1));
        settled().await;
        server.let_go(1).await;
        tokio::time::advance(soon).await;
        assert_eq!(begun.await.unwrap(), Err(Unanswered::Late));
        assert_eq!(server.groups(), [vec![1], vec![3]]);
        assert_eq!(under_way.await.unwrap(), Ok(101));
    }

    #[tokio::test]
    async fn no_more_wait_than_may_and_who_is_dropped_makes_room() {
        let (joiner, server) = (joiner(), Server::new());
        let under_way = server.call(&joiner, 1, (LONG, 1));
        settled().await;
        let mut waiting = Vec::new();
        for number in 2..=7 {
            waiting.push(server.call(&joiner, number, (LONG, 1)));
        }
        settled().await;
        let refused = server.call(&joiner, 8, (LONG, 1));
        assert_eq!(refused.await.unwrap(), Err(Unanswered::Full));
        for call in &waiting[..5] {
            call.abort();
        }
        settled().await;
        assert_eq!(joiner.state.with(|state| state.waiting.len()), 1);
        let comes = server.call(&joiner, 9, (LONG, 1));
        settled().await;
        server.let_go(2).await;
        assert_eq!(server.groups(), [vec![1], vec![7, 9]]);
        assert_eq!(comes.await.unwrap(), Ok(109));
        assert_eq!(under_way.await.unwrap(), Ok(101));
    }

    #[tokio::test]
    async fn what_is_too_large_to_go_with_others_goes_alone() {
        let (joiner, server) = (joiner(), Server::new());
        let mut calls = Vec::new();
        for (number, bytes) in [(1, 1), (2, 1), (3, 1_000), (4, 1)] {
            calls.push(server.call(&joiner, number, (LONG, bytes)));
            settled().await;
        }
        server.let_go(4).await;
        settled().await;
        assert_eq!(server.groups(), [vec![1], vec![2], vec![3], vec![4]]);
        for call in calls {
            assert!(call.await.unwrap().is_ok());
        }
    }
}
