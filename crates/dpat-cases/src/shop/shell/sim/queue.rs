//! The queue of a simulated node, on its disk.

use dpat_queue::Queue;
use dpat_sim::async_node::AsyncNode;

use super::super::queue;
use super::transport::SimTime;
use crate::shop::service::ports::StoreError;

/// Opens the queue of a life of a node. Whoever waits for a record writes it: the disk takes no time.
pub(crate) fn open(node: &AsyncNode, backpressure: bool) -> Result<Queue, StoreError> {
    let time = SimTime::of(node);
    let wal = queue::open_in(node.disk().clone(), backpressure, time)?;
    Ok(wal.queue().clone())
}
