//! Small random histories, about half of them linearizable.

use dpat_check::{History, Model, Value};
use dpat_core::{Entropy, SplitMix64};
use dpat_model::{Event, Kind};

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) model: Model,
    /// Each value is written at most once.
    pub(crate) unique: bool,
    pub(crate) operations: u64,
}

pub(crate) fn history(shape: Shape, seed: u64) -> History {
    let random = SplitMix64::new(seed);
    let mut open: Vec<Option<(&'static str, Value, Value)>> = vec![None; 3];
    let mut process_of = [0, 1, 2_u64];
    let mut truth = Truth::default();
    let mut events = Vec::new();
    let mut invoked = 0;
    let wrong = random.below(2) == 0;
    loop {
        let lane = usize::try_from(random.below(3)).unwrap();
        let process = process_of[lane];
        let mut push = |kind, f: &'static str, value: Value| {
            let time_ns = events.len() as u64;
            let f = f.into();
            events.push(Event {
                time_ns,
                process,
                kind,
                f,
                value,
            });
        };
        match open[lane].take() {
            None if invoked == shape.operations => {
                if open.iter().all(Option::is_none) || random.below(8) == 0 {
                    break;
                }
            }
            None => {
                invoked += 1;
                let value = if shape.unique {
                    invoked
                } else {
                    random.below(3)
                };
                let value = i64::try_from(value).unwrap();
                let (f, argument) = match shape.model {
                    Model::Lock => (truth.wants(process), Value::Nil),
                    model => call(model, value, &random),
                };
                push(Kind::Invoke, f, argument.clone());
                let result = truth.apply(shape.model, f, &argument, process);
                open[lane] = Some((f, argument, result));
            }
            Some((f, argument, result)) => match random.below(10) {
                0 => {
                    push(Kind::Info, f, Value::Nil);
                    process_of[lane] += 3;
                }
                _ if result == Value::from(false) => push(Kind::Fail, f, Value::Nil),
                1 if shape.model == Model::CasRegister => push(Kind::Fail, f, argument),
                1 => push(Kind::Fail, f, Value::Nil),
                _ => {
                    let result = match random.below(4) {
                        0 if wrong => distort(result, &random),
                        _ => result,
                    };
                    push(Kind::Ok, f, result);
                }
            },
        }
    }
    History::from_events(events).unwrap()
}

fn call(model: Model, value: i64, random: &SplitMix64) -> (&'static str, Value) {
    let reads = random.below(2) == 0;
    let int = Value::Int(value);
    match model {
        Model::Register if reads => ("read", Value::Nil),
        Model::Register => ("write", int),
        Model::CasRegister => match random.below(3) {
            0 => ("read", Value::Nil),
            1 => ("write", int),
            _ => {
                let new = i64::try_from(random.below(3)).unwrap();
                ("cas", Value::from(vec![value, new]))
            }
        },
        Model::Kv => {
            let key = Value::from(["a", "b"][usize::try_from(random.below(2)).unwrap()]);
            let text = Value::from(&*format!("{value}"));
            match random.below(4) {
                0 => ("put", Value::List(vec![key, text])),
                1 => ("append", Value::List(vec![key, text])),
                _ => ("get", Value::List(vec![key, Value::Nil])),
            }
        }
        Model::Queue if reads => ("dequeue", Value::Nil),
        Model::Queue => ("enqueue", int),
        Model::Stack if reads => ("pop", Value::Nil),
        Model::Stack => ("push", int),
        Model::Set => match random.below(5) {
            0 => ("read", Value::Nil),
            1 => ("remove", int),
            2 => ("contains", int),
            _ => ("add", int),
        },
        Model::Counter if reads => ("read", Value::Nil),
        _ => ("add", Value::Int(value - 1)),
    }
}

/// The object itself, with calls that take effect when they are invoked.
#[derive(Default)]
struct Truth {
    elements: Vec<Value>,
    number: i64,
}

impl Truth {
    /// What a process that uses the lock as it should does next.
    fn wants(&self, process: u64) -> &'static str {
        let me = Value::Int(i64::try_from(process).unwrap());
        match self.elements.first() == Some(&me) {
            true => "release",
            false => "acquire",
        }
    }

    fn apply(&mut self, model: Model, f: &str, argument: &Value, process: u64) -> Value {
        let held = self.elements.first().cloned().unwrap_or_default();
        let found = self.elements.iter().position(|element| element == argument);
        match (model, f) {
            (Model::Register | Model::CasRegister, "read") => held,
            (Model::Register | Model::CasRegister, "write") => {
                self.elements = vec![argument.clone()];
                argument.clone()
            }
            (Model::CasRegister, _) => {
                if argument.list().unwrap()[0] == held {
                    self.elements = vec![argument.list().unwrap()[1].clone()];
                }
                argument.clone()
            }
            (Model::Kv, f) => {
                let [key, value] = argument.list().unwrap() else {
                    unreachable!()
                };
                let of = |element: &Value| element.list().unwrap()[0] == *key;
                let found = self.elements.iter().position(of);
                let before = found.map_or(Value::Nil, |at| {
                    self.elements.remove(at).list().unwrap()[1].clone()
                });
                let after = match f {
                    "get" => before.clone(),
                    "put" => value.clone(),
                    _ => {
                        let text = before.text().unwrap_or("");
                        Value::from(&*format!("{text}{}", value.text().unwrap()))
                    }
                };
                self.elements.push(Value::List(vec![key.clone(), after]));
                match f {
                    "get" => Value::List(vec![key.clone(), before]),
                    _ => argument.clone(),
                }
            }
            (_, "enqueue" | "push") => {
                self.elements.push(argument.clone());
                argument.clone()
            }
            (_, "dequeue") if self.elements.is_empty() => Value::Nil,
            (_, "dequeue") => self.elements.remove(0),
            (_, "pop") => self.elements.pop().unwrap_or_default(),
            (Model::Set, "read") => Value::List(self.elements.clone()),
            (Model::Set, f) => {
                match (f, found) {
                    ("add", None) => self.elements.push(argument.clone()),
                    ("remove", Some(at)) => drop(self.elements.remove(at)),
                    _ => {}
                }
                if f == "add" && self.elements.len() % 2 == 0 {
                    return argument.clone(); // an addition that does not say whether it was new
                }
                let answer = (f == "add") != found.is_some();
                Value::List(vec![argument.clone(), Value::Bool(answer)])
            }
            (Model::Counter, "read") => Value::Int(self.number),
            (Model::Counter, _) => {
                self.number += argument.int().unwrap();
                match self.number % 2 {
                    0 => argument.clone(),
                    _ => Value::List(vec![argument.clone(), Value::Int(self.number)]),
                }
            }
            (_, "acquire") if held.is_nil() => {
                self.number += 1;
                self.elements = vec![Value::Int(i64::try_from(process).unwrap())];
                Value::Int(self.number)
            }
            (_, "acquire") => Value::from(false),
            _ => {
                self.elements.clear();
                Value::Nil
            }
        }
    }
}

/// A result that may be wrong, of the same form.
fn distort(result: Value, random: &SplitMix64) -> Value {
    let small = i64::try_from(random.below(4)).unwrap();
    match result {
        Value::Nil | Value::Int(_) if small == 0 => Value::Nil,
        Value::Nil | Value::Int(_) => Value::Int(small),
        Value::Bool(truth) => Value::Bool(!truth),
        Value::Str(_) => Value::from(&*format!("{small}")),
        Value::List(mut elements) => {
            if let Some(last) = elements.pop() {
                if elements.len() == 1 {
                    elements.push(match last {
                        Value::Nil => Value::from("1"),
                        other => distort(other, random),
                    });
                }
            }
            Value::List(elements)
        }
        other => other,
    }
}
