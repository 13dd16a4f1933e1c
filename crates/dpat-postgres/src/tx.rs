//! What runs statements: transactions of callers, and our own.

use async_trait::async_trait;
use tokio_postgres::types::{ToSql, Type};

use crate::error::EngineError;

/// A transaction of yours, of one of the clients.
///
/// It is implemented for `tokio_postgres::Transaction` (feature `tokio-postgres`), alone or with the statements that its
/// connection keeps ([`Prepared`](crate::Prepared)), for that of sqlx (feature `sqlx`), and for nothing outside this crate.
pub trait Transaction: Run {}

/// Runs a statement.
#[async_trait]
pub trait Run: Send {
    /// Whether the connection keeps the statement prepared, so that planning it costs nothing the next time.
    #[doc(hidden)]
    fn keeps(&self) -> bool;

    /// Runs one, and returns its rows.
    #[doc(hidden)]
    async fn rows(&mut self, text: &str, params: &[Value<'_>]) -> Result<Vec<Row>, EngineError>;
}

/// A parameter.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Value<'v> {
    /// `bigint`.
    Int(i64),
    /// `bigint`, or NULL.
    MaybeInt(Option<i64>),
    /// `boolean`.
    Bool(bool),
    /// `text`.
    Text(&'v str),
    /// `text`, or NULL.
    MaybeText(Option<&'v str>),
    /// `bytea`.
    Bytes(&'v [u8]),
    /// `bytea`, or NULL.
    MaybeBytes(Option<&'v [u8]>),
    /// `bigint[]`.
    Ints(&'v [i64]),
    /// `bigint[]` with NULLs.
    MaybeInts(&'v [Option<i64>]),
    /// `text[]`.
    Texts(&'v [&'v str]),
    /// `text[]` with NULLs.
    MaybeTexts(&'v [Option<&'v str>]),
    /// `bytea[]`.
    BytesList(&'v [&'v [u8]]),
}

impl Value<'_> {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Int(value) => (value, Type::INT8),
            Self::MaybeInt(value) => (value, Type::INT8),
            Self::Bool(value) => (value, Type::BOOL),
            Self::Text(value) => (value, Type::TEXT),
            Self::MaybeText(value) => (value, Type::TEXT),
            Self::Bytes(value) => (value, Type::BYTEA),
            Self::MaybeBytes(value) => (value, Type::BYTEA),
            Self::Ints(value) => (value, Type::INT8_ARRAY),
            Self::MaybeInts(value) => (value, Type::INT8_ARRAY),
            Self::Texts(value) => (value, Type::TEXT_ARRAY),
            Self::MaybeTexts(value) => (value, Type::TEXT_ARRAY),
            Self::BytesList(value) => (value, Type::BYTEA_ARRAY),
        }
    }
}

/// A value of a row.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// NULL.
    Null,
    /// `bigint`.
    Int(i64),
    /// `text`.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
}

/// A row.
#[doc(hidden)]
#[derive(Debug)]
pub struct Row(pub(crate) Vec<Cell>);

impl Row {
    fn take(&mut self, at: usize) -> Cell {
        match self.0.get_mut(at) {
            Some(cell) => std::mem::replace(cell, Cell::Null),
            None => Cell::Null,
        }
    }

    /// Whether a column has nothing.
    #[cfg(feature = "queue")]
    pub(crate) fn is_null(&self, at: usize) -> bool {
        matches!(self.0.get(at), None | Some(Cell::Null))
    }

    pub(crate) fn maybe_int(&mut self, at: usize) -> Result<Option<i64>, EngineError> {
        match self.take(at) {
            Cell::Null => Ok(None),
            Cell::Int(value) => Ok(Some(value)),
            _ => Err(EngineError::column(at)),
        }
    }

    pub(crate) fn int(&mut self, at: usize) -> Result<i64, EngineError> {
        self.maybe_int(at)?.ok_or_else(|| EngineError::column(at))
    }

    pub(crate) fn maybe_text(&mut self, at: usize) -> Result<Option<String>, EngineError> {
        match self.take(at) {
            Cell::Null => Ok(None),
            Cell::Text(value) => Ok(Some(value)),
            _ => Err(EngineError::column(at)),
        }
    }

    pub(crate) fn text(&mut self, at: usize) -> Result<String, EngineError> {
        self.maybe_text(at)?.ok_or_else(|| EngineError::column(at))
    }

    pub(crate) fn maybe_bytes(&mut self, at: usize) -> Result<Option<Vec<u8>>, EngineError> {
        match self.take(at) {
            Cell::Null => Ok(None),
            Cell::Bytes(value) => Ok(Some(value)),
            _ => Err(EngineError::column(at)),
        }
    }

    pub(crate) fn bytes(&mut self, at: usize) -> Result<Vec<u8>, EngineError> {
        self.maybe_bytes(at)?.ok_or_else(|| EngineError::column(at))
    }
}

fn cell(row: &tokio_postgres::Row, at: usize) -> Result<Cell, tokio_postgres::Error> {
    let of = row.columns().get(at).map(|column| column.type_().clone());
    let value = match of {
        Some(Type::INT8) => row.try_get::<_, Option<i64>>(at)?.map(Cell::Int),
        Some(Type::BYTEA) => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Cell::Bytes),
        _ => row.try_get::<_, Option<String>>(at)?.map(Cell::Text),
    };
    Ok(value.unwrap_or(Cell::Null))
}

/// Prepares a statement for parameters of these types.
pub(crate) async fn prepare(
    client: &tokio_postgres::Client,
    text: &str,
    params: &[Value<'_>],
) -> Result<tokio_postgres::Statement, tokio_postgres::Error> {
    let types: Vec<Type> = params.iter().map(|param| param.typed().1).collect();
    client.prepare_typed(text, &types).await
}

/// Runs a statement that is prepared.
pub(crate) async fn on_client(
    client: &tokio_postgres::Client,
    statement: &tokio_postgres::Statement,
    params: &[Value<'_>],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let values: Vec<_> = params.iter().map(|param| param.typed().0).collect();
    let rows = client.query(statement, &values).await?;
    rows.iter().map(read).collect()
}

fn read(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    let cells: Result<_, _> = (0..row.len()).map(|at| cell(row, at)).collect();
    Ok(Row(cells?))
}

#[cfg(feature = "tokio-postgres")]
#[async_trait]
impl Run for tokio_postgres::Transaction<'_> {
    fn keeps(&self) -> bool {
        false
    }

    async fn rows(&mut self, text: &str, params: &[Value<'_>]) -> Result<Vec<Row>, EngineError> {
        let typed: Vec<_> = params.iter().map(Value::typed).collect();
        let rows = self
            .query_typed(text, &typed)
            .await
            .map_err(EngineError::of)?;
        let read: Result<_, _> = rows.iter().map(read).collect();
        read.map_err(EngineError::of)
    }
}

#[cfg(feature = "tokio-postgres")]
impl Transaction for tokio_postgres::Transaction<'_> {}
