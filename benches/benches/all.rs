//! The same cases through criterion, for its statistics and its comparison with an earlier run.

#![allow(missing_docs, reason = "criterion's macros make the only public items")]

use criterion::{Criterion, criterion_group, criterion_main};
use dpat_benches::cases;
use dpat_benches::harness::Unit;
use std::time::Duration;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a wall time is positive and below 2^53 ns"
)]
fn all(criterion: &mut Criterion) {
    let cases = cases::PATTERNS
        .iter()
        .flat_map(|pattern| cases::of(pattern));
    for mut case in cases.filter(|case| case.unit == Unit::NsPerOp) {
        let mut name = format!("{}/{}", case.pattern, case.operation);
        for part in [case.params_text(), format!("threads={}", case.threads)] {
            if !part.is_empty() {
                name = format!("{name}/{part}");
            }
        }
        let mut group = criterion.benchmark_group(name);
        for contender in case.contenders() {
            let id = format!("{} {}", contender.name, contender.version);
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iters| Duration::from_nanos(contender.run(iters) as u64));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
