//! The shipped schema and the parser agree.

use dpat_model::{Fault, Script};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(Script::SCHEMA).unwrap()
}

/// Validates by the part of JSON Schema that the shipped schema uses, and panics on any other.
fn valid(root: &Value, schema: &Value, value: &Value) -> bool {
    schema
        .as_object()
        .unwrap()
        .iter()
        .all(|(key, rule)| match key.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            "$ref" => valid(root, follow(root, rule), value),
            "const" => rule == value,
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("type {other}"),
            },
            "minimum" => number(value).is_none_or(|n| n >= number(rule).unwrap()),
            "maximum" => number(value).is_none_or(|n| n <= number(rule).unwrap()),
            "minLength" => value
                .as_str()
                .is_none_or(|s| s.chars().count() as u64 >= rule.as_u64().unwrap()),
            "maxLength" => value
                .as_str()
                .is_none_or(|s| s.chars().count() as u64 <= rule.as_u64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|a| a.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_none_or(|a| a.len() as u64 <= rule.as_u64().unwrap()),
            "uniqueItems" => value
                .as_array()
                .is_none_or(|a| (1..a.len()).all(|i| !a[..i].contains(&a[i]))),
            "items" => value
                .as_array()
                .is_none_or(|a| a.iter().all(|v| valid(root, rule, v))),
            "required" => value
                .as_object()
                .is_none_or(|o| strings(rule).all(|name| o.contains_key(name))),
            "properties" => value.as_object().is_none_or(|o| {
                let present = rule
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter_map(|(k, r)| Some((r, o.get(k)?)));
                present
                    .into_iter()
                    .all(|(rule, value)| valid(root, rule, value))
            }),
            "additionalProperties" => value.as_object().is_none_or(|o| {
                assert_eq!(*rule, json!(false));
                o.keys()
                    .all(|name| schema["properties"].get(name).is_some())
            }),
            "oneOf" => count(root, rule, value) == 1,
            "allOf" => count(root, rule, value) == rule.as_array().unwrap().len(),
            other => panic!("keyword {other}"),
        })
}

fn count(root: &Value, rules: &Value, value: &Value) -> usize {
    let rules = rules.as_array().unwrap().iter();
    rules.filter(|rule| valid(root, rule, value)).count()
}

fn follow<'a>(root: &'a Value, reference: &Value) -> &'a Value {
    let path = reference.as_str().unwrap().strip_prefix('#').unwrap();
    root.pointer(path).unwrap()
}

fn number(value: &Value) -> Option<i128> {
    value
        .as_i64()
        .map(i128::from)
        .or(value.as_u64().map(i128::from))
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap())
}

/// The branches of the schema, one for each fault.
fn branches(schema: &Value) -> &Vec<Value> {
    schema
        .pointer("/$defs/op/allOf/1/oneOf")
        .unwrap()
        .as_array()
        .unwrap()
}

#[test]
fn the_schema_has_every_fault() {
    let schema = schema();
    let names = branches(&schema)
        .iter()
        .map(|branch| branch["properties"]["do"]["const"].as_str());
    assert_eq!(names.collect::<Option<Vec<_>>>().unwrap(), Fault::NAMES);
}

/// Draws operations by the schema, with the rules on top that it cannot say.
struct Generator(TestRng);

impl Generator {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    fn value(&mut self, kind: &str, named: bool) -> Value {
        match kind {
            "time" => json!(self.below(9)),
            "positive" => json!(1 + self.below(u64::MAX)),
            "index" => json!(self.below(9)),
            "calls" => {
                let first = self.below(9);
                (first..first + self.below(4)).collect()
            }
            "signed" => json!(self.0.next_u64() as i64),
            "per_million" => json!(self.below(1_000_001)),
            "name" => json!(format!("order.é\"{}", self.below(9))),
            "event" if self.below(2) == 0 => json!(self.below(9)),
            "event" => self.value("name", named),
            "node" => {
                let node = self.below(5);
                self.node(node, named)
            }
            "group" => {
                let first = self.below(5);
                let more = self.below(3);
                (first..=first + more)
                    .map(|node| self.node(node % 5, named))
                    .collect()
            }
            "link" => {
                let from = self.below(5);
                let to = (from + 1 + self.below(4)) % 5;
                let mut end = |node| match self.below(4) {
                    0 => json!("*"),
                    _ => self.node(node, named),
                };
                json!([end(from), end(to)])
            }
            "delay" => match self.below(4) {
                0 => json!({ "constant_us": self.below(9) }),
                1 => json!({ "uniform_us": [self.below(9), 9 + self.below(9)] }),
                2 => json!({ "exponential_us": self.below(9) }),
                _ => {
                    json!({ "bimodal_us": [self.below(9), self.below(99), self.below(1_000_001)] })
                }
            },
            other => panic!("{other}"),
        }
    }

    fn node(&mut self, node: u64, named: bool) -> Value {
        if named && self.below(2) == 0 {
            json!(["a", "b", "c", "d", "e"][node as usize])
        } else {
            json!(node)
        }
    }

    fn op(&mut self, branch: &Value, named: bool) -> Value {
        let mut op = serde_json::Map::new();
        for (name, rule) in branch["properties"].as_object().unwrap() {
            if let Some(kind) = rule.get("$ref") {
                let kind = kind
                    .as_str()
                    .unwrap()
                    .strip_prefix("#/$defs/")
                    .unwrap()
                    .to_owned();
                let required = strings(&branch["required"]).any(|required| required == name);
                let trigger = ["at_us", "on_event", "nth"].contains(&name.as_str());
                if required || (!trigger && self.below(2) == 0) {
                    op.insert(name.clone(), self.value(&kind, named));
                }
            } else {
                op.insert(name.clone(), rule["const"].clone());
            }
        }
        if self.below(2) == 0 {
            op.insert("at_us".to_owned(), self.value("time", named));
        } else {
            let event = self.value("event", named);
            if event.is_string() && self.below(2) == 0 {
                op.insert("nth".to_owned(), self.value("positive", named));
            }
            op.insert("on_event".to_owned(), event);
        }
        Value::Object(op)
    }

    fn script(&mut self, schema: &Value) -> Value {
        let named = self.below(2) == 0;
        let nodes = if named {
            json!(["a", "b", "c", "d", "e"])
        } else {
            json!(5)
        };
        let ops: Vec<Value> = branches(schema)
            .iter()
            .map(|branch| self.op(branch, named))
            .collect();
        let seed = self.0.next_u64();
        json!({ "version": 1, "protocol": "p", "nodes": nodes, "seed": seed, "ops": ops })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every script that the schema allows is read; its canonical text is valid, reads back equal, and is a fixed
    /// point.
    #[test]
    fn scripts_round_trip(seed: [u8; 32]) {
        let schema = schema();
        let mut generator = Generator(TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let value = generator.script(&schema);
        prop_assert!(valid(&schema, &schema, &value), "{}", value);
        let script = Script::parse(&value.to_string(), "f").map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(script.ops.len(), Fault::NAMES.len());
        prop_assert_eq!(script.validate(), Ok(()));
        let text = script.to_json();
        let again = Script::parse(&text, "f").map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&again, &script);
        prop_assert_eq!(again.to_json(), &*text);
        prop_assert!(valid(&schema, &schema, &serde_json::from_str(&text).unwrap()));
    }

    /// Whoever drops, renames or retypes a field is refused by both.
    #[test]
    fn damaged_scripts_are_refused_by_both(seed: [u8; 32], damage in 0..4_usize) {
        let schema = schema();
        let mut generator = Generator(TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let mut value = generator.script(&schema);
        let at = generator.below(Fault::NAMES.len() as u64) as usize;
        let op = value["ops"][at].as_object_mut().unwrap();
        match damage {
            0 => drop(op.remove("do")),
            1 => drop(op.insert("unknown".to_owned(), json!(1))),
            2 => drop(op.insert("do".to_owned(), json!("Crash"))),
            _ => {
                op.remove("at_us");
                op.insert("on_event".to_owned(), json!([]));
            }
        }
        prop_assert!(!valid(&schema, &schema, &value));
        let error = Script::parse(&value.to_string(), "f").unwrap_err();
        prop_assert!(error.field.starts_with(&format!("ops[{at}]")), "{}", error);
    }
}
