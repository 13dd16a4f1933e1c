//! The version of the tables, and numbers that belong to all of their rows.

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::error::{EngineError, OpenError, commit};

/// The newest form of the tables that this version writes and reads.
const SCHEMA: u64 = 1;
const SCHEMA_KEY: &str = "schema";

pub(crate) type Meta<'t> = Table<'t, &'static str, u64>;

pub(crate) fn definition(name: &str) -> TableDefinition<'_, &'static str, u64> {
    TableDefinition::new(name)
}

/// Checks the version that the table `meta` states; makes the tables by `create` if there is none.
pub(crate) fn open(
    database: &Database,
    meta: &str,
    create: impl FnOnce(&WriteTransaction) -> Result<(), EngineError>,
) -> Result<(), OpenError> {
    if stated(database, meta)?.is_some_and(|found| check(meta, found).is_ok()) {
        return Ok(());
    }
    let tx = database.begin_write().map_err(EngineError::of)?;
    {
        let mut table = tx.open_table(definition(meta)).map_err(EngineError::of)?;
        match get(&table, SCHEMA_KEY)? {
            Some(found) => return check(meta, found),
            None => put(&mut table, SCHEMA_KEY, SCHEMA)?,
        }
    }
    create(&tx)?;
    Ok(commit(tx)?)
}

fn stated(database: &Database, meta: &str) -> Result<Option<u64>, EngineError> {
    let tx = database.begin_read().map_err(EngineError::of)?;
    match tx.open_table(definition(meta)) {
        Ok(table) => get(&table, SCHEMA_KEY),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(EngineError::of(error)),
    }
}

fn check(table: &str, found: u64) -> Result<(), OpenError> {
    match found <= SCHEMA {
        true => Ok(()),
        false => Err(OpenError::NewerSchema {
            table: table.to_owned(),
            found,
            supported: SCHEMA,
        }),
    }
}

pub(crate) fn get(
    meta: &impl ReadableTable<&'static str, u64>,
    key: &str,
) -> Result<Option<u64>, EngineError> {
    let value = meta.get(key).map_err(EngineError::of)?;
    Ok(value.map(|value| value.value()))
}

pub(crate) fn put(meta: &mut Meta<'_>, key: &str, value: u64) -> Result<(), EngineError> {
    meta.insert(key, value).map_err(EngineError::of)?;
    Ok(())
}
