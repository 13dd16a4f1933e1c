//! `dpat sim cap`.

use dpat_cases::protocols::cap::show;
use serde_json::{Value, json};

use crate::output::{result, say};
use crate::refusal::Refusal;
use crate::{OK, VIOLATED};

/// Runs both registers under one partition, and returns the exit code.
pub(crate) fn run(seed: Option<u64>, as_json: bool) -> Result<u8, Refusal> {
    let cap = show(seed.unwrap_or(0))?;
    say(cap.to_string().trim_end());
    if as_json {
        let mut form = json!(cap);
        if let Value::Object(fields) = &mut form {
            fields.insert("protocol".to_owned(), "cap".into());
            fields.insert("holds".to_owned(), cap.holds().into());
        }
        result(&form.to_string());
    }
    Ok(if cap.holds() { OK } else { VIOLATED })
}
