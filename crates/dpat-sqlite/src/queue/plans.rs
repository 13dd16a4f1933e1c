//! How SQLite finds the rows: by indexes.

use dpat_core::ManualTime;
use dpat_queue::Message;
use rusqlite::{params_from_iter, types::Value};

use super::statements::Statements;
use super::{QueueSettings, QueueStore};
use crate::config::Config;

#[test]
fn every_statement_of_a_queue_searches_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().join("test.db"), "t").unwrap();
    let store = QueueStore::open(&config, QueueSettings::DEFAULT, ManualTime::new()).unwrap();
    let mut connection = config.connect().unwrap();
    let tx = connection.transaction().unwrap();
    for number in 0..1_000 {
        let message = Message::new("").dedup(number.to_string()).key("long");
        store.within(&tx).send(&message).unwrap();
        store.within(&tx).send(&Message::new("")).unwrap();
    }
    store.commit(tx).unwrap();
    for (name, text) in Statements::of(&config).all() {
        let explained = format!("EXPLAIN QUERY PLAN {text}");
        let mut explain = connection.prepare(&explained).unwrap();
        let nothing = vec![Value::Null; explain.parameter_count()];
        let plan: Vec<String> = explain
            .query_map(params_from_iter(nothing), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for step in &plan {
            // An index that holds nothing else may be walked, in its order, for as many rows as are asked for.
            let walked = step.contains("INDEX t_deliveries_");
            let constant = step == "SCAN CONSTANT ROW";
            assert!(
                !step.starts_with("SCAN") || walked || constant,
                "{name}: {plan:?}"
            );
            assert!(!step.contains("TEMP B-TREE"), "{name} sorts: {plan:?}");
        }
        if name == "dead" {
            assert!(plan[0].contains("t_deliveries_dead"), "{plan:?}");
        }
    }
}
