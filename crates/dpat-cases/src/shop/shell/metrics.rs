//! Counters of this process, for `/metrics`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::shop::service::ports::{Gauges, Peer, Step};

/// Installs the recorder of this process, once, and returns its page.
///
/// Returns nothing if somebody else has installed another one.
pub fn recorder() -> Option<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    RECORDER
        .get_or_init(|| PrometheusBuilder::new().install_recorder().ok())
        .clone()
}

/// Counts a request that was answered.
///
/// Labels: 5 nodes, 7 steps, at most 9 status codes.
pub fn answered(peer: Peer, step: Step, status: u16, took: Duration) {
    let labels = [("node", peer.name()), ("step", step.name())];
    histogram!("dpat_shop_request_seconds", &labels).record(took);
    let status = status.to_string();
    counter!("dpat_shop_requests_total", "node" => peer.name(), "step" => step.name(), "status" => status)
        .increment(1);
}

/// Shows a service's own numbers.
#[allow(clippy::cast_precision_loss)] // counts of orders are far below 2^53
pub fn show(peer: Peer, gauges: &Gauges) {
    if peer != Peer::Order {
        return;
    }
    gauge!("dpat_shop_orders_open").set(gauges.open as f64);
    gauge!("dpat_shop_outbox_events").set(gauges.outbox as f64);
    counter!("dpat_shop_orders_total", "state" => "accepted").absolute(gauges.accepted);
    counter!("dpat_shop_orders_total", "state" => "completed").absolute(gauges.completed);
    counter!("dpat_shop_orders_total", "state" => "compensated").absolute(gauges.compensated);
}
