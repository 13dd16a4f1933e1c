use std::time::Duration;

use dpat_core::{Class, Classify, Deadline, Effect, Instant};
use dpat_model::{Breach, Input, Limits, Lsn, NodeIx, Peer, Refusal, ReqId, Token};

use crate::puppet::{Do, Puppet, Stage, puppet};
use Do::*;

const PEER: Peer = Peer {
    node: NodeIx(1),
    incarnation: 3,
};

fn limits(change: impl FnOnce(&mut Limits)) -> Stage<Puppet> {
    let mut limits = Limits::default();
    change(&mut limits);
    Stage::with(&(), limits)
}

#[test]
fn a_request_is_answered_exactly_once() {
    let mut stage = puppet();
    let asked = stage.ask(vec![Reply(1), Reply(2)]);
    assert_eq!(asked, Err(Breach::NoSuchRequest(ReqId(0))));
    assert_eq!(stage.left(), ["reply 0=1"]);
    let asked = stage.ask(vec![ReplyTo(ReqId(0), 9), Reply(3)]);
    assert_eq!(asked, Err(Breach::NoSuchRequest(ReqId(0))));
    assert_eq!(stage.left(), ["reply 1=3"], "the rest of the step counts");
    assert_eq!(stage.node.open_requests(), 0);
}

#[test]
fn an_answer_that_waits_for_the_log_counts_as_given() {
    let mut stage = puppet();
    assert_eq!(stage.ask(vec![Log(5), Reply(1)]), Ok(true));
    let asked = stage.ask(vec![ReplyTo(ReqId(0), 9)]);
    assert_eq!(asked, Err(Breach::AnsweredTwice(ReqId(0))));
    assert_eq!(stage.sync(1), Ok(true));
    assert_eq!(stage.left(), ["reply 0=1"]);
}

#[test]
fn a_crash_makes_open_and_held_answers_unknown() {
    let mut stage = puppet();
    stage.ask(vec![]).unwrap();
    stage.ask(vec![Log(5), Reply(1)]).unwrap();
    stage.ask(vec![]).unwrap();
    let mut out = Vec::new();
    stage.node.halt(&mut out);
    stage.out = out;
    assert_eq!(stage.left(), ["unknown 0", "unknown 1", "unknown 2"]);
    assert!(stage.node.is_halted());
    assert_eq!(stage.step(Input::PeerUp(PEER)), Err(Breach::Halted));
    assert_eq!(stage.node.next_timer(), None);
}

#[test]
fn requests_are_refused_before_they_become_steps() {
    let mut stage = limits(|limits| limits.requests_max = 1);
    assert_eq!(stage.ask(vec![Reply(404)]), Ok(false));
    assert_eq!(stage.left(), ["refused 0: busy, retry after 7s"]);
    stage.ask(vec![]).unwrap();
    assert_eq!(stage.ask(vec![Reply(1)]), Ok(false));
    assert_eq!(stage.left(), ["refused 2: busy, retry after 10ms"]);

    let (id, req) = (ReqId(50), vec![Reply(1)]);
    let deadline = Deadline::at(stage.now);
    assert_eq!(stage.step(Input::Req { id, deadline, req }), Ok(false));
    assert_eq!(stage.left(), ["refused 50: the deadline had passed"]);

    let deadline = Deadline::NEVER;
    stage.step(Input::Drain { deadline }).unwrap();
    assert_eq!(stage.ask(vec![Reply(1)]), Ok(false));
    assert_eq!(stage.left(), ["refused 3: the node shuts down"]);
}

#[test]
fn refusals_say_how_to_react() {
    let retry_after = Duration::from_millis(3);
    let busy = Refusal::Busy { retry_after };
    assert_eq!(busy.class(), Class::Overloaded);
    assert_eq!(busy.retry_after(), Some(retry_after));
    assert_eq!(Refusal::Draining.class(), Class::Unavailable);
    assert_eq!(Refusal::Down.class(), Class::Unavailable);
    assert_eq!(Refusal::Expired.class(), Class::Timeout);
    for refusal in [busy, Refusal::Draining, Refusal::Down, Refusal::Expired] {
        assert_eq!(refusal.effect(), Effect::NotDone);
    }
}

#[test]
fn an_open_id_cannot_be_used_again() {
    let mut stage = puppet();
    let input = |req| Input::Req {
        id: ReqId(9),
        deadline: Deadline::NEVER,
        req,
    };
    assert_eq!(stage.step(input(vec![])), Ok(true));
    let again = stage.step(input(vec![]));
    assert_eq!(again, Err(Breach::DuplicateRequest(ReqId(9))));
}

#[test]
fn a_cancel_is_passed_on_until_the_answer_is_given() {
    let mut stage = puppet();
    stage.ask(vec![]).unwrap();
    assert_eq!(stage.step(Input::Cancel(ReqId(0))), Ok(true));
    assert_eq!(stage.node.open_requests(), 1, "one answer is still owed");
    stage.ask(vec![ReplyTo(ReqId(0), 1), Reply(2)]).unwrap();
    assert_eq!(stage.step(Input::Cancel(ReqId(0))), Ok(false));
    assert_eq!(stage.node.process().seen, ["Start", "Cancel(ReqId(0))"]);
}

#[test]
fn rearming_replaces_and_equal_times_keep_their_order() {
    let mut stage = puppet();
    stage
        .ask(vec![
            Arm(1, 50),
            Arm(2, 20),
            Arm(3, 20),
            Arm(1, 10),
            Arm(2, 20),
            Disarm(4),
        ])
        .unwrap();
    let at = Instant::from_nanos;
    let mut fired = Vec::new();
    while let Some((due, key)) = stage.node.next_timer() {
        stage.now = due;
        assert_eq!(stage.step(Input::Timer(key)), Ok(true));
        fired.push((due, key));
    }
    // key 2 was armed again, after key 3
    assert_eq!(fired, [(at(1010), 1), (at(1020), 3), (at(1020), 2)]);
    assert_eq!(stage.step(Input::Timer(1)), Ok(false), "no longer armed");
    let left = stage.left();
    assert!(!left.iter().any(|output| output == "disarm 4"), "{left:?}");
}

#[test]
fn a_replaced_arming_is_known_by_its_number() {
    let mut stage = puppet();
    stage.ask(vec![Arm(1, 50), Arm(1, 50)]).unwrap();
    assert!(!stage.node.is_armed(1, 1));
    assert!(stage.node.is_armed(1, 2));
    stage.ask(vec![Disarm(1)]).unwrap();
    assert!(!stage.node.is_armed(1, 2));
    assert_eq!(stage.node.timers().count(), 0);
}

#[test]
fn timers_and_work_are_bounded() {
    let mut stage = limits(|limits| (limits.timers_max, limits.works_max) = (1, 1));
    let asked = stage.ask(vec![Arm(1, 1), Arm(2, 1), Arm(1, 5)]);
    assert_eq!(asked, Err(Breach::TooManyTimers(1)));
    assert_eq!(stage.left(), ["arm 1@1001", "arm 1@1005"]);
    let asked = stage.ask(vec![Work(1), Work(2)]);
    assert_eq!(asked, Err(Breach::TooMuchWork(1)));
    assert_eq!(stage.left(), ["work 1"]);
}

#[test]
fn a_full_hold_refuses_requests() {
    let mut stage = limits(|limits| limits.held_max = 2);
    stage.ask(vec![Log(1), Send(1), Reply(1)]).unwrap();
    assert!(stage.node.is_backlogged());
    assert_eq!(stage.ask(vec![Reply(1)]), Ok(false));
    stage.sync(1).unwrap();
    assert!(!stage.node.is_backlogged());
    assert_eq!(stage.ask(vec![Reply(1)]), Ok(true));
}

#[test]
fn results_reach_only_the_life_that_asked_and_only_once() {
    let mut stage = puppet();
    stage.ask(vec![Work(7), Reply(0)]).unwrap();
    let token = Token {
        incarnation: 0,
        number: 1,
    };
    let done = |token| Input::Done {
        token,
        result: vec![7],
    };
    let mut next = Stage::<Puppet>::recover(stage.log.clone(), 1, &(), Limits::default());
    assert_eq!(next.step(done(token)), Ok(false));
    assert_eq!(stage.step(done(token)), Ok(true));
    assert_eq!(stage.step(done(token)), Err(Breach::NoSuchWork(token)));
}

#[test]
fn start_comes_first_and_once() {
    let mut stage = puppet();
    assert_eq!(stage.step(Input::Start), Err(Breach::Start));
    let mut node = stage.log.boot(PEER, &(), Limits::default());
    let input = Input::PeerUp(PEER);
    let mut choose = dpat_model::Branch::default();
    let stepped = node.step(Default::default(), input, &mut choose, &mut Vec::new());
    assert_eq!(stepped, Err(Breach::Start));
}

#[test]
fn a_drained_node_has_nothing_left_to_do() {
    let mut stage = puppet();
    stage.ask(vec![Log(1), Work(1)]).unwrap();
    assert!(!stage.node.is_drained());
    let deadline = Deadline::NEVER;
    stage.step(Input::Drain { deadline }).unwrap();
    stage.sync(1).unwrap();
    let (token, result) = (
        Token {
            incarnation: 0,
            number: 1,
        },
        vec![],
    );
    stage.step(Input::Done { token, result }).unwrap();
    assert!(!stage.node.is_drained(), "the request is open");
    let mut again = puppet();
    again.ask(vec![Log(1), Reply(1)]).unwrap();
    again.step(Input::Drain { deadline }).unwrap();
    assert!(!again.node.is_drained(), "the answer is held");
    again.sync(1).unwrap();
    assert!(again.node.is_drained());
}

#[test]
fn only_logged_positions_become_durable() {
    let mut stage = puppet();
    assert_eq!(stage.sync(1), Err(Breach::NotLogged(Lsn(1))));
    stage.ask(vec![Log(1), Log(2), Reply(0)]).unwrap();
    assert_eq!(stage.sync(2), Ok(true));
    assert_eq!(stage.sync(1), Ok(false), "an older position says nothing");
    assert_eq!(stage.node.durable(), Lsn(2));
}
