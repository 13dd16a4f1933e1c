//! Which tasks are to be polled, and the wakers that say so.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};

use super::sync::Mutex;
use crate::Stream;

/// Names one task: a slot, and which of the tasks that have been in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId {
    pub(super) slot: u32,
    generation: u32,
}

/// A task that was woken, and the event in which it first was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Woken {
    pub(super) task: TaskId,
    pub(super) cause: u64,
}

/// The tasks that were woken and not yet polled, each once.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queue: Mutex<Queue>,
    /// The event that is under way.
    event: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    slots: Vec<Slot>,
    free: Vec<u32>,
    woken: VecDeque<Woken>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    open: bool,
    queued: bool,
}

impl Ready {
    /// Takes a slot for a task.
    #[allow(clippy::cast_possible_truncation, reason = "tasks are limited below")]
    pub(super) fn open(&self) -> TaskId {
        let mut queue = self.queue.lock();
        let slot = queue.free.pop().unwrap_or_else(|| {
            queue.slots.push(Slot {
                generation: 0,
                open: false,
                queued: false,
            });
            queue.slots.len() as u32 - 1
        });
        let state = &mut queue.slots[slot as usize];
        state.open = true;
        state.queued = false;
        TaskId {
            slot,
            generation: state.generation,
        }
    }

    /// Gives the slot of a task back; its wakers do nothing from now on.
    pub(super) fn close(&self, task: TaskId) {
        let mut queue = self.queue.lock();
        let state = &mut queue.slots[task.slot as usize];
        if state.open && state.generation == task.generation {
            state.open = false;
            state.generation = state.generation.wrapping_add(1);
            queue.free.push(task.slot);
        }
    }

    /// Says which event is under way, for the causes of what is woken.
    pub(super) fn at_event(&self, event: u64) {
        self.event.store(event, Ordering::Relaxed);
    }

    /// Wakes a task because of an earlier event.
    pub(super) fn wake(&self, task: TaskId, cause: u64) {
        self.queue.lock().wake(task, cause);
    }

    /// Takes the next task: a drawn one, or the first.
    #[allow(clippy::cast_possible_truncation, reason = "below a length")]
    pub(super) fn next(&self, mut order: Option<&mut Stream>) -> Option<Woken> {
        let mut queue = self.queue.lock();
        loop {
            let woken = match (&mut order, queue.woken.len()) {
                (_, 0) => return None,
                (Some(stream), waiting @ 2..) => {
                    let drawn = stream.below(waiting as u64) as usize;
                    queue.woken.swap_remove_front(drawn)
                }
                _ => queue.woken.pop_front(),
            }?;
            let slot = &mut queue.slots[woken.task.slot as usize];
            if slot.open && slot.generation == woken.task.generation {
                slot.queued = false;
                return Some(woken);
            }
        }
    }

    /// Makes the waker of a task.
    pub(super) fn waker(self: &Arc<Self>, task: TaskId) -> Waker {
        let ready = Arc::clone(self);
        Waker::from(Arc::new(TaskWaker { task, ready }))
    }
}

impl Queue {
    fn wake(&mut self, task: TaskId, cause: u64) {
        let slot = &mut self.slots[task.slot as usize];
        if slot.open && slot.generation == task.generation && !slot.queued {
            slot.queued = true;
            self.woken.push_back(Woken { task, cause });
        }
    }
}

struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let cause = self.ready.event.load(Ordering::Relaxed);
        self.ready.queue.lock().wake(self.task, cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(ready: &Ready, mut order: Option<&mut Stream>) -> Vec<u32> {
        std::iter::from_fn(|| ready.next(order.as_deref_mut()))
            .map(|woken| woken.task.slot)
            .collect()
    }

    #[test]
    fn a_task_is_queued_once_however_often_it_is_woken() {
        let ready = Arc::new(Ready::default());
        let waker = ready.waker(ready.open());
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(drain(&ready, None), [0]);
        waker.wake();
        assert_eq!(drain(&ready, None), [0]);
    }

    #[test]
    fn wakers_of_a_closed_task_do_not_wake_the_next_one_in_its_slot() {
        let ready = Arc::new(Ready::default());
        let first = ready.open();
        let waker = ready.waker(first);
        waker.wake_by_ref();
        ready.close(first);
        ready.close(first); // twice is once
        let second = ready.open();
        assert_eq!((second.slot, ready.open().slot), (0, 1));
        waker.wake();
        assert!(drain(&ready, None).is_empty());
    }

    #[test]
    fn the_order_is_drawn_or_first_come_first_served() {
        let ready = Arc::new(Ready::default());
        let tasks: Vec<TaskId> = (0..20).map(|_| ready.open()).collect();
        let wake = || tasks.iter().for_each(|task| ready.wake(*task, 7));
        wake();
        assert_eq!(drain(&ready, None), (0..20).collect::<Vec<_>>());
        let mut orders = Vec::new();
        for seed in [1, 2, 1] {
            wake();
            let mut drawn = drain(&ready, Some(&mut Stream::new(seed, "schedule", 0)));
            orders.push(drawn.clone());
            drawn.sort_unstable();
            assert_eq!(drawn, (0..20).collect::<Vec<_>>());
        }
        // The third finds the queue as the first did, but for the order of the slots within it.
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders[0], orders[2]);
    }

    #[test]
    fn wakers_work_from_other_threads() {
        let ready = Arc::new(Ready::default());
        ready.at_event(5);
        let waker = ready.waker(ready.open());
        std::thread::spawn(move || waker.wake()).join().unwrap();
        assert_eq!(ready.next(None).map(|woken| woken.cause), Some(5));
    }
}
