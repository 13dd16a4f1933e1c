//! The version of the tables.

use std::sync::Arc;

use crate::config::{Config, Tables};
use crate::connection::{Pool, Session};
use crate::error::{EngineError, OpenError};
use crate::sql::{self, Part};
use crate::tx::{Run, Value};

/// The oldest server that has what the statements need.
const OLDEST: i64 = 120_000;

/// Makes the tables of a part, or brings them to this version; does nothing if they are at it.
///
/// On a connection of its own, in one transaction under an advisory lock: any number of processes may do it at once.
/// The schema is made if it is not there.
///
/// # Errors
/// [`OpenError`].
///
/// # Cancel safety
/// All of it is done or nothing.
pub async fn migrate(config: &Config, part: Part) -> Result<(), OpenError> {
    config.check()?;
    make(&Pool::new(config), part).await
}

/// As the configuration says: makes the tables, or checks that they are there.
pub(crate) async fn open(pool: &Arc<Pool>, part: Part) -> Result<(), OpenError> {
    let config = &pool.config;
    config.check()?;
    match config.tables {
        Tables::Make => make(pool, part).await,
        Tables::Expect => {
            let mut session = pool.session().await?;
            let found = version(&mut session, config, part).await?;
            session.done();
            match found == part.version() {
                true => Ok(()),
                false => Err(OpenError::Outdated {
                    table: config.table("schema"),
                    part: part.name(),
                    found,
                    expected: part.version(),
                }),
            }
        }
    }
}

async fn make(pool: &Arc<Pool>, part: Part) -> Result<(), OpenError> {
    let config = &pool.config;
    let mut session = pool.session().await?;
    check_server(&mut session, config).await?;
    let found = version(&mut session, config, part).await?;
    if found == part.version() {
        session.done();
        return Ok(());
    }
    session
        .batch("BEGIN ISOLATION LEVEL READ COMMITTED")
        .await?;
    let name = config.table("schema");
    session.rows(sql::LOCK, &[Value::Text(&name)]).await?;
    let schema = [Value::Text(&config.schema)];
    if session.rows(sql::HAS_SCHEMA, &schema).await?.is_empty() {
        session.batch(&config.sql("CREATE SCHEMA {schema}")).await?;
    }
    // Again: another may have been faster.
    let found = version(&mut session, config, part).await?;
    for step in part.steps().iter().filter(|step| step.version > found) {
        session.batch(&config.sql(step.sql)).await?;
    }
    Ok(session.commit().await?)
}

async fn check_server(session: &mut Session, config: &Config) -> Result<(), OpenError> {
    let mut rows = session.rows(sql::SERVER, &[]).await?;
    let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
    let number = row.int(0)?;
    match number >= OLDEST {
        true => Ok(()),
        false => Err(OpenError::OldServer {
            address: config.address(),
            found: row.text(1)?,
        }),
    }
}

/// The version of the tables that are there; 0: none.
async fn version(session: &mut Session, config: &Config, part: Part) -> Result<i64, OpenError> {
    let name = format!("{}_schema", config.prefix);
    let table = [Value::Text(&config.schema), Value::Text(&name)];
    if session.rows(sql::HAS_TABLE, &table).await?.is_empty() {
        return Ok(0);
    }
    let text = config.sql(sql::VERSION);
    let mut rows = session.rows(&text, &[Value::Text(part.name())]).await?;
    let found = match rows.first_mut() {
        None => 0,
        Some(row) => row.int(0)?,
    };
    match found <= part.version() {
        true => Ok(found),
        false => Err(OpenError::NewerSchema {
            table: config.table("schema"),
            part: part.name(),
            found,
            supported: part.version(),
        }),
    }
}
