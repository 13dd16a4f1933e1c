use dpat_core::{Clock, SystemClock, Wall};

#[test]
fn the_system_clock_goes_forward_and_knows_the_year() {
    let (first, second) = (SystemClock.now(), SystemClock.now());
    assert!(first <= second);
    let year_2020 = Wall::from_nanos(1_577_836_800_000_000_000);
    assert!(SystemClock.wall() > year_2020);
}

#[cfg(feature = "test-util")]
mod manual {
    use dpat_core::{AnyTime, Clock, Instant, ManualTime, Sleep, Wall};
    use dpat_testkit::{End, Task, drop_at_every_await, run_with};
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_stands_still_until_advanced() {
        let time = ManualTime::new();
        let (now, wall) = (time.now(), time.wall());
        assert_eq!((time.now(), time.wall()), (now, wall));
        time.clone().advance(SECOND);
        assert_eq!(time.now().since(now), SECOND);
        assert_eq!(time.wall().since(wall), SECOND);
        time.advance_to(now);
        assert_eq!(time.now().since(now), SECOND, "never back");
        time.set_wall(Wall::MIN);
        assert_eq!((time.now().since(now), time.wall()), (SECOND, Wall::MIN));
    }

    #[test]
    fn a_sleep_that_is_due_completes_at_once() {
        let time = ManualTime::new();
        Task::new(time.sleep_until(time.now())).assert_ready();
        Task::new(time.sleep_until(Instant::MIN)).assert_ready();
        assert_eq!(time.sleepers(), 0);
    }

    /// Notes its name when woken.
    struct Named(&'static str, Arc<std::sync::mpsc::Sender<&'static str>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.send(self.0).unwrap();
        }
    }

    #[test]
    fn wakes_in_order_of_time_then_of_first_poll() {
        let time = ManualTime::new();
        let (sender, woken) = std::sync::mpsc::channel();
        let sender = Arc::new(sender);
        let mut sleeps = Vec::new();
        for (name, seconds) in [("c", 3), ("a1", 1), ("b", 2), ("a2", 1), ("later", 9)] {
            let mut sleep = Box::pin(time.sleep(SECOND * seconds));
            let waker = Waker::from(Arc::new(Named(name, Arc::clone(&sender))));
            assert!(
                sleep
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            // A second poll keeps the place in line.
            if name == "a1" {
                assert!(
                    sleep
                        .as_mut()
                        .poll(&mut Context::from_waker(&waker))
                        .is_pending()
                );
            }
            sleeps.push(sleep);
        }
        assert_eq!(time.sleepers(), 5);
        time.advance(SECOND * 3);
        assert_eq!(woken.try_iter().collect::<Vec<_>>(), ["a1", "a2", "b", "c"]);
        assert_eq!(time.next_wake(), Some(time.now() + SECOND * 6));
        drop(sleeps);
        assert_eq!(time.sleepers(), 0);
    }

    #[test]
    fn a_dropped_sleep_frees_its_place() {
        let time = ManualTime::new();
        let awaits = drop_at_every_await(
            || {
                let own = time.clone();
                let future = async move {
                    own.sleep(SECOND).await;
                    own.sleep(SECOND).await;
                };
                (future, ())
            },
            |()| {
                time.advance_to_next_wake();
            },
            |(), end| {
                assert!(end.is_dropped() || end == End::Completed(()));
                assert_eq!(time.sleepers(), 0);
            },
        );
        assert_eq!(awaits, 2);
    }

    #[test]
    fn advance_to_next_wake_stops_at_each_sleeper() {
        let time = ManualTime::new();
        let start = time.now();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let future = async {
            for seconds in [2, 1, 3] {
                time.sleep(SECOND * seconds).await;
                seen.borrow_mut().push(time.now().since(start).as_secs());
            }
        };
        run_with(|| time.advance_to_next_wake(), future);
        assert_eq!(*seen.borrow(), [2, 3, 6]);
        assert!(!time.advance_to_next_wake());
    }

    #[test]
    fn a_waker_may_drop_other_sleeps() {
        /// Owns a sleep, as the waker of an executor's task does.
        struct Owner {
            _sleep: dpat_core::ManualSleep,
        }
        impl Wake for Owner {
            fn wake(self: Arc<Self>) {}
        }
        let time = ManualTime::new();
        let inner = {
            let mut inner = Box::pin(time.sleep(SECOND * 5));
            let polled = inner.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            *std::pin::Pin::into_inner(inner)
        };
        let waker = Waker::from(Arc::new(Owner { _sleep: inner }));
        let mut outer = Box::pin(time.sleep(SECOND));
        assert!(
            outer
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(waker);
        assert_eq!(time.sleepers(), 2);
        // The last reference to the waker goes, and the inner sleep with it.
        drop(outer);
        assert_eq!(time.sleepers(), 0);
    }

    #[test]
    fn any_time_is_the_time_it_holds() {
        let manual = ManualTime::new();
        let time = AnyTime::new(manual.clone());
        let mut sleep = Task::new(time.clone().sleep(SECOND));
        sleep.assert_pending();
        manual.advance(SECOND);
        assert!(sleep.is_woken());
        sleep.assert_ready();
        assert_eq!((time.now(), time.wall()), (manual.now(), manual.wall()));
    }
}

#[cfg(feature = "tokio")]
mod tokio_time {
    use dpat_core::{AnyTime, Clock, Instant, Sleep, SystemClock, TokioTime};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn follows_the_paused_clock() {
        let start = TokioTime.now();
        tokio::time::advance(SECOND).await;
        assert_eq!(TokioTime.now().since(start), SECOND);
        // Nothing else to do: the runtime advances to the sleeper.
        TokioTime.sleep_until(start + SECOND * 3600).await;
        assert_eq!(TokioTime.now().since(start), SECOND * 3600);
        AnyTime::new(TokioTime).sleep(SECOND).await;
        assert_eq!(TokioTime.now().since(start), SECOND * 3601);
    }

    #[tokio::test(start_paused = true)]
    async fn past_and_far_instants_do_not_panic() {
        let start = TokioTime.now();
        TokioTime.sleep_until(Instant::MIN).await;
        TokioTime.sleep_until(start).await;
        assert_eq!(TokioTime.now(), start);
        for far in [Instant::MAX, start + SECOND * 40 * 365 * 86_400] {
            let sleep = TokioTime.sleep_until(far);
            let timeout = tokio::time::timeout(SECOND, sleep).await;
            assert!(timeout.is_err(), "not early");
        }
        let forever = TokioTime.sleep(Duration::MAX);
        assert!(tokio::time::timeout(SECOND, forever).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_never_ends_early() {
        let start = TokioTime.now();
        let at = start + Duration::from_nanos(1_500_001);
        TokioTime.sleep_until(at).await;
        assert!(TokioTime.now() >= at);
        assert!(TokioTime.now() <= at + Duration::from_millis(1));
    }

    #[tokio::test]
    async fn shares_the_origin_of_the_system_clock() {
        let (before, between, after) = (SystemClock.now(), TokioTime.now(), SystemClock.now());
        assert!(before <= between && between <= after);
        assert!(TokioTime.wall() >= SystemClock.wall() - SECOND * 60);
    }
}

#[cfg(feature = "coarse")]
mod coarse {
    use dpat_core::{Clock, CoarseClock, SystemClock, Wall};

    #[test]
    fn it_goes_forward_and_is_never_ahead_of_the_system_clock() {
        let mut last = CoarseClock.now();
        for _ in 0..10_000 {
            let coarse = CoarseClock.now();
            assert!(last <= coarse && coarse <= SystemClock.now());
            last = coarse;
        }
        assert!(!CoarseClock::resolution().is_zero());
    }

    #[test]
    fn it_comes_to_what_the_system_clock_said() {
        let before = SystemClock.now();
        while CoarseClock.now() < before {
            std::thread::yield_now();
        }
    }

    #[test]
    fn its_wall_clock_is_the_exact_one() {
        let (before, wall) = (SystemClock.wall(), CoarseClock.wall());
        assert!(wall > Wall::MIN && wall.since(before) < std::time::Duration::from_secs(3600));
    }

    #[cfg(feature = "tokio")]
    #[tokio::test]
    async fn a_sleep_ends_when_the_coarse_clock_has_come_there() {
        use dpat_core::{CoarseTime, Instant, Sleep};

        CoarseTime.sleep_until(Instant::MIN).await;
        let at = CoarseTime.now() + std::time::Duration::from_millis(20);
        CoarseTime.sleep_until(at).await;
        assert!(CoarseTime.now() >= at);
    }
}
