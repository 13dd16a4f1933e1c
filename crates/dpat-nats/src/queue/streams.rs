//! The streams and the consumer of a queue: made where they are missing, compared where they are there.

use futures_util::StreamExt as _;

use crate::error::EngineError;
use crate::jetstream::{ConsumerConfig, JetStream, StreamConfig, StreamInfo, nanos, same};
use crate::open::{Make, base, compare, count, stream};
use crate::queue::settings::QueueSettings;
use crate::room::{self, Room};

/// The durable consumer that all receivers share.
pub(crate) const CONSUMER: &str = "workers";

/// What a stream of this crate says of itself, with the number of its layout behind.
const QUEUE: &str = "dpat queue, layout ";
const LETTERS: &str = "dpat dead letters, layout ";

/// The most messages that one opening looks at to remove them.
const SWEEP_MAX: u64 = 10_000;

/// How many of them at once.
const AT_ONCE: usize = 64;

/// The room in both streams.
pub(crate) struct Rooms {
    pub(crate) ready: Room,
    pub(crate) letters: Room,
}

/// What an opening has found.
pub(crate) struct Opened {
    pub(crate) rooms: Rooms,
    /// The last message that was there.
    pub(crate) last_seq: u64,
}

/// Makes or checks everything.
pub(crate) async fn open(js: &JetStream, settings: &QueueSettings) -> Result<Opened, EngineError> {
    let connection = js.connection().connects();
    let queue = made(js, ready(settings), QUEUE, settings).await?;
    let dead = made(js, letters(settings), LETTERS, settings).await?;
    let rooms = Rooms {
        ready: Room::of(&queue, settings.bytes_max, connection),
        letters: Room::of(&dead, settings.dead_bytes_max, connection),
    };
    let info = match js.consumer(&settings.name, CONSUMER).await {
        Err(EngineError::NoConsumer { .. }) if settings.make == Make::Create => {
            js.create_consumer(&settings.name, &consumer(settings))
                .await?
        }
        found => found?,
    };
    let (found, wanted) = (&info.config, &consumer(settings));
    let what = format!("consumer `{CONSUMER}` of stream `{}`", settings.name);
    same(&what, "ack_policy", &found.ack_policy, &wanted.ack_policy)?;
    same(
        &what,
        "ack_wait, ns (visibility)",
        &found.ack_wait,
        &wanted.ack_wait,
    )?;
    same(
        &what,
        "max_ack_pending (out_max)",
        &found.max_ack_pending,
        &wanted.max_ack_pending,
    )?;
    same(
        &what,
        "max_waiting (waiters_max)",
        &found.max_waiting,
        &wanted.max_waiting,
    )?;
    if settings.make == Make::Create {
        sweep(js, &settings.name, info.ack_floor.stream_seq).await?;
    }
    let last_seq = queue.state.last_seq;
    Ok(Opened { rooms, last_seq })
}

async fn made(
    js: &JetStream,
    config: StreamConfig,
    kind: &str,
    settings: &QueueSettings,
) -> Result<StreamInfo, EngineError> {
    let config = room::limited(js, config);
    let info = stream(js, &config, kind, settings.make).await?;
    compare(&info.config, &config)?;
    Ok(info)
}

/// Removes what is settled up to here and stored all the same: a server of 2.9 that is killed forgets removals.
///
/// One by one: a purge makes such a server forget what is out as well.
async fn sweep(js: &JetStream, stream: &str, settled: u64) -> Result<bool, EngineError> {
    let first = js.stream(stream).await?.state.first_seq;
    let last = settled.min(first.saturating_add(SWEEP_MAX - 1));
    let is_needed = first.max(1) <= last;
    let removed = (first.max(1)..=last).map(|seq| js.remove(stream, seq));
    let mut removed = futures_util::stream::iter(removed).buffer_unordered(AT_ONCE);
    while let Some(removed) = removed.next().await {
        removed?;
    }
    Ok(is_needed)
}

/// Removes what a server that was killed has forgotten to remove; whether there was such.
pub(crate) async fn sweep_settled(
    js: &JetStream,
    settings: &QueueSettings,
) -> Result<bool, EngineError> {
    if settings.make != Make::Create {
        return Ok(false);
    }
    let info = js.consumer(&settings.name, CONSUMER).await?;
    sweep(js, &settings.name, info.ack_floor.stream_seq).await
}

fn ready(settings: &QueueSettings) -> StreamConfig {
    StreamConfig {
        subjects: vec![settings.ready_subject()],
        retention: "workqueue".to_owned(),
        max_msgs: count(settings.messages_max),
        max_bytes: count(settings.bytes_max),
        num_replicas: settings.replicas,
        duplicate_window: nanos(settings.dedup_window),
        ..base(settings.name.clone(), QUEUE)
    }
}

fn letters(settings: &QueueSettings) -> StreamConfig {
    StreamConfig {
        subjects: vec![format!("{}*", settings.dead_prefix())],
        retention: "limits".to_owned(),
        max_msgs: count(settings.dead_max),
        max_bytes: count(settings.dead_bytes_max),
        num_replicas: settings.replicas,
        // Not used; servers have a default of two minutes.
        duplicate_window: 120_000_000_000,
        ..base(settings.dead_name(), LETTERS)
    }
}

fn consumer(settings: &QueueSettings) -> ConsumerConfig {
    ConsumerConfig {
        durable_name: CONSUMER.to_owned(),
        deliver_policy: "all".to_owned(),
        ack_policy: "explicit".to_owned(),
        replay_policy: "instant".to_owned(),
        ack_wait: nanos(settings.visibility),
        max_deliver: -1,
        max_ack_pending: count(settings.out_max),
        max_waiting: count(settings.waiters_max),
        ..ConsumerConfig::default()
    }
}
