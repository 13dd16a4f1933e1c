use dpat_core::{Clock, Deadline, Instant, Sleep, TokioTime};
use dpat_testkit::{assert_send_static, drop_at_every_await};
use std::time::Duration;

fn at(nanos: u64) -> Deadline {
    Deadline::at(Instant::from_nanos(nanos))
}

#[tokio::test]
async fn nested_scopes_only_tighten() {
    assert!(Deadline::current().is_never());
    let (inner, after) = at(100)
        .scope(async {
            let wider = at(200).scope(async { Deadline::current() }).await;
            let tighter = at(50).scope(async { Deadline::current() }).await;
            ((wider, tighter), Deadline::current())
        })
        .await;
    assert_eq!(inner, (at(100), at(50)));
    assert_eq!(after, at(100), "the inner scope has ended");
    assert!(Deadline::current().is_never());
}

#[tokio::test]
async fn tasks_have_their_own() {
    let scoped = at(100).scope(async {
        let spawned = tokio::spawn(async { Deadline::current() });
        let carried = tokio::spawn(Deadline::current().scope(async { Deadline::current() }));
        (spawned.await.unwrap(), carried.await.unwrap())
    });
    let (spawned, carried) = assert_send_static(scoped).await;
    assert!(spawned.is_never(), "not inherited");
    assert_eq!(carried, at(100), "handed over");
}

#[tokio::test]
async fn interleaved_scopes_do_not_mix() {
    let watch = |own| {
        own_scope(own, async move {
            for _ in 0..3 {
                assert_eq!(Deadline::current(), own);
                tokio::task::yield_now().await;
            }
        })
    };
    tokio::join!(watch(at(1)), watch(at(2)), watch(at(3)));
}

async fn own_scope(deadline: Deadline, future: impl Future<Output = ()>) {
    deadline.scope(future).await;
}

#[test]
fn a_scope_dropped_at_any_await_leaves_nothing_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let awaits = drop_at_every_await(
        || {
            let future = at(100).scope(async {
                yield_once().await;
                at(50).scope(yield_once()).await;
            });
            (future, ())
        },
        |()| (),
        |(), _| assert!(Deadline::current().is_never()),
    );
    assert_eq!(awaits, 2);
}

async fn yield_once() {
    let mut first = true;
    std::future::poll_fn(|_| {
        if std::mem::take(&mut first) {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn remaining_shrinks_as_time_passes() {
    let deadline = Deadline::after(TokioTime.now(), Duration::from_secs(3));
    TokioTime.sleep(Duration::from_secs(1)).await;
    assert_eq!(deadline.remaining(TokioTime.now()), Duration::from_secs(2));
    TokioTime.sleep_until(deadline.instant()).await;
    assert!(deadline.is_past(TokioTime.now()));
}
