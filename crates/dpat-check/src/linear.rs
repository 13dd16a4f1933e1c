//! Linearizability of a history, part by part.

use std::collections::HashMap;

use crate::delivery::check_delivery;
use crate::error::BadOperation;
use crate::history::History;
use crate::limits::{Limits, Meter, Stopped};
use crate::model::Model;
use crate::object::{
    Counter, Elements, Entry, Item, Lock, NIL, Queue, Register, Stack, Store, kv, read_all,
    register,
};
use crate::sequential::Sequential;
use crate::txn::{Transactions, check_transactions};
use crate::unique;
use crate::value::Value;
use crate::verdict::{Verdict, Violation};
use crate::wgl::{Call, Search, search};

/// Decides whether a history satisfies a model.
///
/// Objects must be linearizable, as [`check_linearizable`] decides; the other models have rules of their own.
///
/// # Errors
/// [`BadOperation`] if the model does not have an operation of the history.
pub fn check(
    history: &History,
    model: Model,
    limits: &Limits<'_>,
) -> Result<Verdict, BadOperation> {
    match model {
        Model::ListAppend => check_transactions(history, Transactions::ListAppend, limits),
        Model::RwRegister => check_transactions(history, Transactions::RwRegister, limits),
        Model::Delivery => check_delivery(history),
        object => check_linearizable(history, object, limits),
    }
}

/// Decides whether a history is linearizable for one of the objects.
///
/// Histories of several keys or elements are decided one by one, since linearizability is local (Herlihy and Wing
/// 1990, § 3.1). Where each value comes in once, a polynomial test decides; otherwise [`linearize`](crate::linearize)
/// does, within the limits.
///
/// # Examples
/// ```
/// use dpat_check::{Format, Limits, Model, check_linearizable, parse};
///
/// let text = "\
/// {:process 0, :type :invoke, :f :write, :value 1}
/// {:process 0, :type :ok, :f :write, :value 1}
/// {:process 1, :type :invoke, :f :read, :value nil}
/// {:process 1, :type :ok, :f :read, :value nil}
/// ";
/// let history = parse(text.as_bytes(), "stale.edn", Format::Auto)?.history;
/// let verdict = check_linearizable(&history, Model::Register, &Limits::default())?;
/// let violation = verdict.violation().expect("the read is stale");
/// assert_eq!((violation.blocked, &violation.longest_prefix[..]), (1, &[0][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A model that is no object is decided as [`check`] does.
///
/// # Errors
/// [`BadOperation`] if the model does not have an operation of the history.
pub fn check_linearizable(
    history: &History,
    model: Model,
    limits: &Limits<'_>,
) -> Result<Verdict, BadOperation> {
    let meter = limits.meter();
    let whole = |found| verdict(found, None);
    let unbounded = usize::MAX;
    Ok(match model {
        Model::Register | Model::CasRegister => {
            let object = Register {
                cas: model == Model::CasRegister,
            };
            let items = read_all(&object, history)?;
            whole(decide(&object, &items, unique::register, &meter, unbounded))
        }
        Model::Kv => {
            let parts = by(read_all(&Store, history)?, |op| (op.key, op.change));
            let key = |index: usize| {
                let parts = history.operations()[index].value.list();
                parts.and_then(|parts| parts.first()).cloned()
            };
            all(parts, key, &meter, |items, most| {
                let entry = Entry::new(items.iter().map(|item| &item.op));
                decide(&entry, items, unique_entry, &meter, most)
            })
        }
        Model::Set => {
            let items = read_all(&Elements, history)?;
            if items.iter().all(|item| item.op.element().is_some()) {
                let parts = by(items, |op| (op.element().unwrap_or(NIL), op));
                let element = |index: usize| Some(history.operations()[index].value.clone());
                all(parts, element, &meter, |items, most| {
                    decide(&Elements, items, |_| None, &meter, most)
                })
            } else {
                whole(decide(&Elements, &items, unique::set, &meter, unbounded))
            }
        }
        Model::Queue => {
            let items = read_all(&Queue, history)?;
            whole(decide(&Queue, &items, unique::queue, &meter, unbounded))
        }
        Model::Stack => {
            let items = read_all(&Stack, history)?;
            whole(decide(&Stack, &items, unique::stack, &meter, unbounded))
        }
        Model::Counter => {
            let items = read_all(&Counter, history)?;
            whole(decide(&Counter, &items, |_| None, &meter, unbounded))
        }
        Model::Lock => {
            let items = read_all(&Lock, history)?;
            whole(decide(&Lock, &items, |_| None, &meter, unbounded))
        }
        Model::ListAppend | Model::RwRegister | Model::Delivery => check(history, model, limits)?,
    })
}

/// What a part is found to be; operations by their place among the invocations.
type Found = Result<Search, Stopped>;

/// Operations by key or element, in the order of their first calls.
type Parts<O> = Vec<Vec<Item<O>>>;

fn by<O, P>(items: Vec<Item<O>>, cut: impl Fn(O) -> (u32, P)) -> Parts<P> {
    let mut parts: Parts<P> = Vec::new();
    let mut place: HashMap<u32, usize> = HashMap::new();
    for item in items {
        let (key, op) = cut(item.op);
        let at = *place.entry(key).or_insert_with(|| {
            parts.push(Vec::new());
            parts.len() - 1
        });
        parts[at].push(Item {
            index: item.index,
            op,
            called: item.called,
            returned: item.returned,
        });
    }
    parts
}

fn verdict(found: Found, key: Option<Value>) -> Verdict {
    match found {
        Err(stopped) => Verdict::Unknown(stopped),
        Ok(Search::Linearizable(_)) => Verdict::Ok,
        Ok(Search::Stuck { prefix, blocked }) => Verdict::violated(Violation {
            key,
            longest_prefix: prefix,
            blocked,
            ..Violation::default()
        }),
    }
}

/// What each part may remember in the first round.
const FIRST_CONFIGURATIONS_MAX: usize = 1 << 12;

/// Joins the verdicts of parts: one violation decides, then one unknown.
///
/// All parts are searched a little, then those that need it more and more, so that a hard part does not hide an easy
/// violation.
fn all<O>(
    mut parts: Parts<O>,
    key: impl Fn(usize) -> Option<Value>,
    meter: &Meter<'_>,
    mut decide: impl FnMut(&[Item<O>], usize) -> Found,
) -> Verdict {
    let mut most = FIRST_CONFIGURATIONS_MAX;
    let mut joined = Verdict::Ok;
    while !parts.is_empty() {
        let mut hard = Vec::new();
        for items in parts {
            match decide(&items, most) {
                Ok(Search::Linearizable(_)) => {}
                Err(Stopped::Configurations) if meter.remembers(most).is_ok() => hard.push(items),
                found @ Ok(Search::Stuck { .. }) => return verdict(found, key(items[0].index)),
                found @ Err(_) => joined = verdict(found, None),
            }
        }
        parts = hard;
        most = most.saturating_mul(8);
    }
    joined
}

/// How much the search for the place of a known violation may remember.
const EXPLAIN_CONFIGURATIONS_MAX: usize = 200_000;

/// Decides one part by the polynomial test where it applies, otherwise by search.
fn decide<S: Sequential>(
    object: &S,
    items: &[Item<S::Op>],
    test: impl Fn(&[Item<S::Op>]) -> Option<bool>,
    meter: &Meter<'_>,
    configurations_max: usize,
) -> Found {
    meter.read()?;
    let calls: Vec<_> = items
        .iter()
        .map(|item| Call {
            op: &item.op,
            called: item.called,
            returned: item.returned,
        })
        .collect();
    let index = |call: usize| items[call].index;
    let found = match test(items) {
        Some(true) => return Ok(Search::Linearizable(Vec::new())),
        Some(false) => {
            let last = (0..items.len()).max_by_key(|call| items[*call].returned);
            let unexplained = Search::Stuck {
                prefix: Vec::new(),
                blocked: last.unwrap_or(0),
            };
            let mut meter = meter.at_most(EXPLAIN_CONFIGURATIONS_MAX);
            search(object, &calls, &mut meter).unwrap_or(unexplained)
        }
        None => search(object, &calls, &mut meter.at_most(configurations_max))?,
    };
    Ok(match found {
        Search::Linearizable(order) => Search::Linearizable(order),
        Search::Stuck { prefix, blocked } => Search::Stuck {
            prefix: prefix.into_iter().map(index).collect(),
            blocked: index(blocked),
        },
    })
}

/// A key that nobody appends to is a register.
fn unique_entry(items: &[Item<kv::Change>]) -> Option<bool> {
    let mut ids = HashMap::from([(&Value::Nil, NIL)]);
    let mut operations = Vec::with_capacity(items.len());
    for item in items {
        let mut id = |value| {
            let next = u32::try_from(ids.len()).expect("a history has fewer than 2^32 events");
            *ids.entry(value).or_insert(next)
        };
        operations.push(Item {
            index: item.index,
            op: match &item.op {
                kv::Change::Get(value) => register::Op::Read(id(value)),
                kv::Change::Put(value) => register::Op::Write(id(value)),
                kv::Change::Append(_) => return None,
            },
            called: item.called,
            returned: item.returned,
        });
    }
    unique::register(&operations)
}
