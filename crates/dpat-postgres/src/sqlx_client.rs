//! Transactions of sqlx.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Column as _, Postgres, Row as _, TypeInfo as _};

use crate::error::EngineError;
use crate::tx::{Cell, Row, Run, Transaction, Value};

impl Transaction for sqlx::Transaction<'_, Postgres> {}

#[async_trait]
impl Run for sqlx::Transaction<'_, Postgres> {
    fn keeps(&self) -> bool {
        true
    }

    async fn rows(&mut self, text: &str, params: &[Value<'_>]) -> Result<Vec<Row>, EngineError> {
        // The texts are ours; the names in them were checked.
        let mut query = sqlx::query(AssertSqlSafe(text.to_owned()));
        for param in params {
            query = match *param {
                Value::Int(value) => query.bind(value),
                Value::MaybeInt(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
                Value::Text(value) => query.bind(value.to_owned()),
                Value::MaybeText(value) => query.bind(value.map(str::to_owned)),
                Value::Bytes(value) => query.bind(value.to_vec()),
                Value::MaybeBytes(value) => query.bind(value.map(<[u8]>::to_vec)),
                Value::Ints(value) => query.bind(value.to_vec()),
                Value::MaybeInts(value) => query.bind(value.to_vec()),
                Value::Texts(value) => query.bind(owned(value)),
                Value::MaybeTexts(value) => {
                    let one = |text: &Option<&str>| text.map(str::to_owned);
                    query.bind(value.iter().map(one).collect::<Vec<_>>())
                }
                Value::BytesList(value) => {
                    query.bind(value.iter().map(|one| one.to_vec()).collect::<Vec<_>>())
                }
            };
        }
        let rows = query
            .fetch_all(&mut **self)
            .await
            .map_err(EngineError::of_sqlx)?;
        let read: Result<_, _> = rows.iter().map(read).collect();
        read.map_err(EngineError::of_sqlx)
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn read(row: &PgRow) -> Result<Row, sqlx::Error> {
    let cells: Result<_, _> = (0..row.len()).map(|at| cell(row, at)).collect();
    Ok(Row(cells?))
}

fn cell(row: &PgRow, at: usize) -> Result<Cell, sqlx::Error> {
    let of = row.try_column(at)?.type_info().name().to_owned();
    let value = match of.as_str() {
        "INT8" => row.try_get::<Option<i64>, _>(at)?.map(Cell::Int),
        "BYTEA" => row.try_get::<Option<Vec<u8>>, _>(at)?.map(Cell::Bytes),
        "VOID" => None,
        _ => row.try_get::<Option<String>, _>(at)?.map(Cell::Text),
    };
    Ok(value.unwrap_or(Cell::Null))
}

/// `commit` for a transaction of sqlx.
///
/// The same as [`sqlx::Transaction::commit`] with an error that retry and relay understand.
///
/// # Errors
/// [`EngineError`]. What the server rolls back is not done; after a connection that broke nobody knows: look.
///
/// # Cancel safety
/// Once polled it may be committed.
pub async fn commit_sqlx(tx: sqlx::Transaction<'_, Postgres>) -> Result<(), EngineError> {
    tx.commit().await.map_err(EngineError::committing_sqlx)
}
