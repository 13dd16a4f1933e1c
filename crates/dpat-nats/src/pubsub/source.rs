//! What reads for one subscriber: the subscriber itself while it asks for messages, and a task while it does not.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use dpat_pubsub::{Closed, Delivery, Draft, Message, Source, SourceBuffer, Stats, Subject};
use futures_util::Stream as _;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::error::{Access, EngineError};
use crate::headers;
use crate::pubsub::failed;
use crate::signals::{Refusal, refused};
use crate::sync::Mutex;

/// How many messages are taken before anything else is looked at.
const AT_ONCE: usize = 64;

/// How many messages the subscriber takes from the client in one go.
const RUN_MAX: u32 = 1 << 10;

/// How often it is looked whether messages wait that the subscriber does not ask for.
const TICK: Duration = Duration::from_millis(5);

/// With less room at the client than this, the task reads always: what comes between two looks might not fit.
const ROOM_MIN: usize = 1 << 13;

/// Takes messages from the client, so that what is lost is lost in a buffer that counts.
pub(crate) struct Reader {
    pub(crate) buffer: Arc<SourceBuffer>,
    /// It is where the answer to one request comes.
    pub(crate) is_inbox: bool,
    pub(crate) subscriber: Subscriber,
    /// The subject of the last message, which is that of the next one more often than not.
    pub(crate) last: Option<Subject>,
}

/// What tells of a subscription beside its messages.
pub(crate) struct Told {
    pub(crate) filter: String,
    pub(crate) refusals: broadcast::Receiver<Refusal>,
    pub(crate) slow: broadcast::Receiver<u64>,
    pub(crate) closed: watch::Receiver<bool>,
}

/// A subscription. Dropping it ends it at the server, too.
pub(crate) struct Subscribed {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    buffer: Arc<SourceBuffer>,
    /// Held while reading, so that messages come into the buffer in their order.
    desk: Mutex<Desk>,
    bell: Arc<Bell>,
    /// [`Bell`] for the client.
    waker: Waker,
}

/// Who reads.
struct Desk {
    /// None: it has ended.
    reader: Option<Reader>,
    /// The subscriber reads, and not the task.
    by_subscriber: bool,
    /// There is room at the client for what comes between two looks.
    has_room: bool,
    /// How often the subscriber has taken all that was there.
    runs: u64,
}

/// Rung by the client when a message comes while the subscriber reads.
struct Bell {
    buffer: Arc<SourceBuffer>,
    /// Since the last run of the subscriber.
    has_rung: AtomicBool,
    /// The task does not look by itself.
    is_idle: AtomicBool,
    /// Wakes the task.
    look: Notify,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::SeqCst);
        if let Some(waker) = self.buffer.take_waker() {
            waker.wake();
        }
        if self.is_idle.swap(false, Ordering::SeqCst) {
            self.look.notify_one();
        }
    }
}

impl Subscribed {
    /// `room` is that of the client, in messages.
    pub(crate) fn reading(reader: Reader, told: Told, room: usize) -> Self {
        let buffer = Arc::clone(&reader.buffer);
        let bell = Arc::new(Bell {
            buffer: Arc::clone(&buffer),
            has_rung: AtomicBool::new(false),
            is_idle: AtomicBool::new(false),
            look: Notify::new(),
        });
        let number = number(&reader.subscriber);
        let shared = Arc::new(Shared {
            buffer,
            desk: Mutex::new(Desk {
                reader: Some(reader),
                by_subscriber: false,
                has_room: room >= ROOM_MIN,
                runs: 0,
            }),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        });
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            told,
            number,
        };
        Self {
            shared,
            task: tokio::spawn(keeper.keep()).abort_handle(),
        }
    }

    /// Takes what is next of what was read: all of it came before what is at the client.
    fn waiting(&self) -> Result<Option<Delivery>, Closed> {
        self.shared.buffer.try_next()
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.task.abort();
        drop(self.shared.desk.with(|desk| desk.reader.take()));
    }
}

impl Source for Subscribed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Closed>> {
        let shared = &self.shared;
        let next = match self.waiting() {
            Ok(None) => shared.desk.with(|desk| {
                shared.run(desk);
                shared.buffer.poll_next(cx)
            }),
            Ok(Some(delivery)) => return Poll::Ready(Ok(delivery)),
            Err(closed) => return Poll::Ready(Err(closed)),
        };
        // It rang before the buffer knew whom to wake, or the runtime wants others to have their turn.
        if next.is_pending() && shared.bell.has_rung.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        next
    }

    fn try_next(&mut self) -> Result<Option<Delivery>, Closed> {
        let shared = &self.shared;
        match self.waiting() {
            Ok(None) => shared.desk.with(|desk| {
                shared.run(desk);
                shared.buffer.try_next()
            }),
            next => next,
        }
    }

    fn stats(&self) -> Stats {
        self.shared.buffer.stats()
    }
}

/// Whether a subscription goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    On,
    /// It has ended.
    Out,
}

impl Shared {
    /// Takes all that has come, for the subscriber, which reads from now on. What the task has read in between comes first.
    fn run(&self, desk: &mut Desk) {
        if !desk.has_room || desk.reader.is_none() {
            return;
        }
        // It is here.
        drop(self.buffer.take_waker());
        self.bell.has_rung.store(false, Ordering::SeqCst);
        let was = std::mem::replace(&mut desk.by_subscriber, true);
        desk.runs += 1;
        let mut cx = Context::from_waker(&self.waker);
        for taken in 0.. {
            if taken == RUN_MAX {
                // There may be more.
                self.waker.wake_by_ref();
                break;
            }
            let Poll::Ready(message) = desk.poll_message(&mut cx) else {
                break;
            };
            if desk.take(message) == Goes::Out {
                break;
            }
        }
        if !was || desk.reader.is_none() {
            self.bell.look.notify_one();
        }
    }
}

impl Desk {
    /// None: nothing comes any more.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<async_nats::Message>> {
        match &mut self.reader {
            Some(reader) => Pin::new(&mut reader.subscriber).poll_next(cx),
            None => Poll::Ready(None),
        }
    }

    /// Puts into the buffer what has come.
    fn take(&mut self, message: Option<async_nats::Message>) -> Goes {
        let goes_on = self.reader.as_mut().is_some_and(|one| one.take(message));
        match goes_on {
            true => Goes::On,
            false => {
                self.reader = None;
                Goes::Out
            }
        }
    }
}

/// The task: it reads while the subscriber does not, and hears what is told beside the messages.
struct Keeper {
    shared: Arc<Shared>,
    told: Told,
    /// By which the client tells of the subscription.
    number: Option<u64>,
}

/// What a keeper does.
#[derive(Clone, Copy)]
enum Mode {
    Reads,
    /// The subscriber reads, and nothing has come since.
    Waits,
    /// The subscriber reads; it is looked then whether it still does. It had so many runs at the last look.
    Looks(Instant, u64),
}

/// What comes to a keeper.
enum Next {
    /// A message was lost on the way.
    Lost,
    /// Some were read.
    Read(Goes),
    /// It is to look.
    Look,
    /// The account may not subscribe to this.
    Refused,
    /// The hub is closed.
    Closed,
}

impl Keeper {
    async fn keep(mut self) {
        let mut mode = Mode::Reads;
        loop {
            match self.next(mode).await {
                Next::Lost => self.shared.buffer.gap(1),
                Next::Read(Goes::On) => {}
                Next::Read(Goes::Out) => return,
                Next::Look => match self.look(mode) {
                    Some(next) => mode = next,
                    None => return,
                },
                Next::Refused => {
                    let (access, subject) = (Access::Subscribe, self.told.filter);
                    let denied = EngineError::Denied { access, subject };
                    drop(self.shared.desk.with(|desk| desk.reader.take()));
                    let denied = Closed::Backend(failed(denied));
                    return self.shared.buffer.end(denied);
                }
                Next::Closed => return self.rest(),
            }
        }
    }

    async fn next(&mut self, mode: Mode) -> Next {
        let (shared, told) = (&self.shared, &mut self.told);
        let filter = &told.filter;
        let mine = |one: &Refusal| one.access == Access::Subscribe && one.subject == *filter;
        let look_at = match mode {
            Mode::Looks(at, _) => Some(at),
            Mode::Reads | Mode::Waits => None,
        };
        tokio::select! {
            biased;
            () = lost(&mut told.slow, self.number) => Next::Lost,
            () = shared.bell.look.notified() => Next::Look,
            goes = std::future::poll_fn(|cx| shared.read(cx)), if matches!(mode, Mode::Reads) => Next::Read(goes),
            () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => Next::Look,
            _ = refused(&mut told.refusals, mine) => Next::Refused,
            _ = told.closed.wait_for(|closed| *closed) => Next::Closed,
        }
    }

    /// Looks who is to read. None: it has ended.
    fn look(&self, mode: Mode) -> Option<Mode> {
        let bell = &self.shared.bell;
        self.shared.desk.with(|desk| {
            desk.reader.as_ref()?;
            if !desk.by_subscriber {
                return Some(Mode::Reads);
            }
            let has_rung = || bell.has_rung.load(Ordering::SeqCst);
            let at = match mode {
                Mode::Looks(at, _) if at > Instant::now() => return Some(mode),
                Mode::Looks(_, runs) if runs == desk.runs && has_rung() => {
                    desk.by_subscriber = false;
                    return Some(Mode::Reads);
                }
                Mode::Looks(_, runs) if runs == desk.runs => {
                    bell.is_idle.store(true, Ordering::SeqCst);
                    // Unless it rang in between.
                    if !(has_rung() && bell.is_idle.swap(false, Ordering::SeqCst)) {
                        return Some(Mode::Waits);
                    }
                    Instant::now() + TICK
                }
                _ => Instant::now() + TICK,
            };
            Some(Mode::Looks(at, desk.runs))
        })
    }

    /// Takes what has come already, and ends.
    fn rest(&self) {
        let shared = &self.shared;
        let waker = shared.desk.with(|desk| {
            let waker = shared.buffer.take_waker();
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(message) = desk.poll_message(&mut cx) {
                if desk.take(message) == Goes::Out {
                    break;
                }
            }
            desk.reader = None;
            shared.buffer.end(Closed::Hub);
            waker
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Shared {
    /// Takes what has come, for the task, so that a burst costs one look at everything else.
    fn read(&self, cx: &mut Context<'_>) -> Poll<Goes> {
        let mut waker = None;
        let goes = self.desk.with(|desk| {
            if desk.by_subscriber {
                // The task is told to look.
                return Poll::Pending;
            }
            for taken in 0..AT_ONCE {
                let message = match desk.poll_message(cx) {
                    Poll::Ready(message) => message,
                    Poll::Pending => return Poll::Pending,
                };
                if taken == 0 {
                    // Woken outside the lock: a waker may run anything.
                    waker = self.buffer.take_waker();
                }
                if desk.take(message) == Goes::Out {
                    return Poll::Ready(Goes::Out);
                }
            }
            Poll::Ready(Goes::On)
        });
        if let Some(waker) = waker {
            waker.wake();
        }
        goes
    }
}

impl Reader {
    /// Returns whether there may be more.
    fn take(&mut self, message: Option<async_nats::Message>) -> bool {
        let Some(message) = message else {
            self.buffer
                .end(Closed::Backend(failed(EngineError::Closed)));
            return false;
        };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            if self.is_inbox {
                self.buffer.end(Closed::NoResponders);
            }
            // Elsewhere nobody has asked in a way that could be answered.
            return !self.is_inbox;
        }
        match self.delivered(message) {
            Some(message) => self.buffer.push(message),
            None => {
                self.buffer.gap(1);
                true
            }
        }
    }

    /// None: its subjects are none that this family has. Another program has sent it.
    fn delivered(&mut self, message: async_nats::Message) -> Option<Message> {
        let text = message.subject.as_str();
        let subject = match self.last.take().filter(|last| last.as_str() == text) {
            Some(last) => last,
            None => text.parse().ok()?,
        };
        self.last = Some(subject.clone());
        let mut draft = Draft::new(message.payload);
        if let Some(map) = &message.headers {
            for (name, value) in headers::read(map) {
                draft = draft.header(name, String::from_utf8(value).ok()?);
            }
        }
        if let Some(reply) = &message.reply {
            draft = draft.reply_to(reply.as_str().parse().ok()?);
        }
        Some(Message::new(subject, draft))
    }
}

/// Waits for a message that the client had no room for. It tells of some of them only.
async fn lost(slow: &mut broadcast::Receiver<u64>, number: Option<u64>) {
    loop {
        match slow.recv().await {
            Ok(one) if Some(one) == number => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The number by which the client tells of a subscription. It shows it nowhere else.
fn number(subscriber: &Subscriber) -> Option<u64> {
    let text = format!("{subscriber:?}");
    let digits = text.split_once("sid: ")?.1;
    let end = digits.find(|letter: char| !letter.is_ascii_digit())?;
    digits[..end].parse().ok()
}
