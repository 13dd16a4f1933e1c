//! Statements that a connection keeps.

use std::collections::HashMap;
use std::fmt;

use tokio_postgres::{Client, Statement};

use crate::tx::{self, Value};

/// How many statements a connection keeps; more than a store has.
const PREPARED_MAX: usize = 256;

/// The statements of this crate that a connection of yours keeps prepared: one beside each connection.
///
/// Without it the server plans each append, accept and send anew; with it only the first of each connection. Behind a pooler
/// that changes connections between transactions nothing can be kept: do without.
///
/// # Examples
/// ```no_run
/// # #[cfg(all(feature = "outbox", feature = "tokio-postgres"))]
/// # async fn example(
/// #     client: &mut dpat_postgres::tokio_postgres::Client,
/// #     outbox: &dpat_postgres::Outbox,
/// #     event: &dpat_postgres::dpat_outbox::Event,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use dpat_core::{Clock, SystemClock};
/// use dpat_postgres::{Prepared, commit};
///
/// let mut prepared = Prepared::new(); // as long as `client`
/// for _ in 0..2 {
///     let mut tx = client.transaction().await?;
///     let now = SystemClock.wall();
///     outbox.append(&mut prepared.on(&mut tx), event, now).await?;
///     commit(tx).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Prepared {
    by_text: HashMap<Box<str>, Statement>,
}

impl Prepared {
    /// Keeps nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a statement; prepares it if it is not yet.
    pub(crate) async fn statement(
        &mut self,
        on: &Client,
        text: &str,
        params: &[Value<'_>],
    ) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.by_text.get(text) {
            return Ok(statement.clone());
        }
        let statement = tx::prepare(on, text, params).await?;
        if self.by_text.len() < PREPARED_MAX {
            self.by_text.insert(text.into(), statement.clone());
        }
        Ok(statement)
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("statements", &self.by_text.len())
            .finish()
    }
}

#[cfg(feature = "tokio-postgres")]
pub use on_tx::PreparedTransaction;

#[cfg(feature = "tokio-postgres")]
mod on_tx {
    use std::fmt;

    use async_trait::async_trait;
    use tokio_postgres::error::SqlState;

    use super::Prepared;
    use crate::error::EngineError;
    use crate::tx::{self, Row, Run, Transaction, Value};

    /// A transaction with the statements that its connection keeps, by [`Prepared::on`].
    pub struct PreparedTransaction<'p, 't> {
        prepared: &'p mut Prepared,
        tx: &'p mut tokio_postgres::Transaction<'t>,
    }

    impl Prepared {
        /// Returns a transaction of the connection that these statements belong to, for one call or several.
        ///
        /// With statements of another connection the call is refused (26000), its transaction can only be rolled back, and what was
        /// kept is forgotten.
        #[must_use]
        pub fn on<'p, 't>(
            &'p mut self,
            tx: &'p mut tokio_postgres::Transaction<'t>,
        ) -> PreparedTransaction<'p, 't> {
            PreparedTransaction { prepared: self, tx }
        }
    }

    #[async_trait]
    impl Run for PreparedTransaction<'_, '_> {
        fn keeps(&self) -> bool {
            true
        }

        async fn rows(
            &mut self,
            text: &str,
            params: &[Value<'_>],
        ) -> Result<Vec<Row>, EngineError> {
            let client = self.tx.client();
            let statement = self.prepared.statement(client, text, params).await;
            let statement = statement.map_err(EngineError::of)?;
            let done = tx::on_client(client, &statement, params).await;
            done.map_err(|error| {
                if error.code() == Some(&SqlState::INVALID_SQL_STATEMENT_NAME) {
                    self.prepared.by_text.clear();
                }
                EngineError::of(error)
            })
        }
    }

    impl Transaction for PreparedTransaction<'_, '_> {}

    impl fmt::Debug for PreparedTransaction<'_, '_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("PreparedTransaction")
                .field("prepared", &self.prepared)
                .finish_non_exhaustive()
        }
    }
}
