//! The version of the tables.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::config::{Config, Tables};
use crate::error::{EngineError, OpenError, commit};
use crate::sql::{self, Part};

/// Makes the tables of a part, or brings them to this version; does nothing if they are at it.
///
/// In a transaction of its own, or in the caller's if one is open on the connection.
///
/// # Errors
/// [`OpenError::NewerSchema`], [`OpenError::Engine`].
///
/// # Examples
/// ```
/// use dpat_sqlite::rusqlite::Connection;
/// use dpat_sqlite::{Config, migrate, sql::Part};
///
/// # let folder = tempfile::tempdir()?;
/// let config = Config::new(folder.path().join("shop.db"), "orders")?;
/// let connection = config.connect()?;
/// for _ in 0..2 {
///     migrate(&connection, &config, Part::Outbox)?; // the second time there is nothing to do
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn migrate(connection: &Connection, config: &Config, part: Part) -> Result<(), OpenError> {
    if version(connection, config, part)? == part.version() {
        return Ok(());
    }
    if !connection.is_autocommit() {
        return apply(connection, config, part);
    }
    let tx = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .map_err(EngineError::of)?;
    apply(&tx, config, part)?;
    Ok(commit(tx)?)
}

/// As the configuration says: makes the tables, or checks that they are there.
pub(crate) fn open(connection: &Connection, config: &Config, part: Part) -> Result<(), OpenError> {
    match config.tables {
        Tables::Make => migrate(connection, config, part),
        Tables::Expect => match version(connection, config, part)? {
            found if found == part.version() => Ok(()),
            found => Err(OpenError::Outdated {
                prefix: config.prefix.clone(),
                part: part.name(),
                found,
                expected: part.version(),
            }),
        },
    }
}

fn apply(connection: &Connection, config: &Config, part: Part) -> Result<(), OpenError> {
    // Again: another may have been faster.
    let found = version(connection, config, part)?;
    for step in part.steps().iter().filter(|step| step.version > found) {
        connection
            .execute_batch(&config.sql(step.sql))
            .map_err(EngineError::of)?;
    }
    Ok(())
}

/// The version of the tables that are there; 0: none.
fn version(connection: &Connection, config: &Config, part: Part) -> Result<i64, OpenError> {
    let table = config.sql("{prefix}_schema");
    let there = connection
        .query_row(sql::HAS_TABLE, [&table], |_| Ok(()))
        .optional()
        .map_err(EngineError::of)?;
    if there.is_none() {
        return Ok(0);
    }
    let found: Option<i64> = connection
        .query_row(&config.sql(sql::VERSION), [part.name()], |row| row.get(0))
        .optional()
        .map_err(EngineError::of)?;
    match found.unwrap_or(0) {
        found if found <= part.version() => Ok(found),
        found => Err(OpenError::NewerSchema {
            table,
            part: part.name(),
            found,
            supported: part.version(),
        }),
    }
}
