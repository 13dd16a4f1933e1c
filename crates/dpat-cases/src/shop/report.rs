//! Writes the record of a run as JSON.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::record::RunRecord;

/// Writes the record to `path`.
///
/// # Errors
/// Whatever the file system reports.
pub fn write(record: &RunRecord, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer_pretty(&mut file, record)?;
    file.flush()
}
