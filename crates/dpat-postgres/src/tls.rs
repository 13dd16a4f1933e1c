//! Connections, encrypted or not, behind one type.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls, Socket};

/// The half of a connection that reads and writes; somebody has to poll it.
pub(crate) trait Messages: Send {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>>;
}

impl<S, T> Messages for Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> {
        self.poll_message(cx)
    }
}

pub(crate) type Connected = (Client, Box<dyn Messages>);
type Connecting = Pin<Box<dyn Future<Output = Result<Connected, Error>> + Send>>;
type Connector = dyn Fn(tokio_postgres::Config) -> Connecting + Send + Sync;

/// How connections are made.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: Option<Arc<Connector>>,
}

impl Tls {
    pub(crate) const fn none() -> Self {
        Self { connector: None }
    }

    pub(crate) const fn is_none(&self) -> bool {
        self.connector.is_none()
    }

    pub(crate) fn by<T>(tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let connector = move |config| connect(config, tls.clone());
        Self {
            connector: Some(Arc::new(connector)),
        }
    }

    pub(crate) fn connect(&self, config: tokio_postgres::Config) -> Connecting {
        match &self.connector {
            Some(connector) => connector(config),
            None => connect(config, NoTls),
        }
    }
}

fn connect<T>(config: tokio_postgres::Config, tls: T) -> Connecting
where
    T: MakeTlsConnect<Socket> + Send + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    Box::pin(async move {
        let (client, connection) = config.connect(tls).await?;
        let messages: Box<dyn Messages> = Box::new(connection);
        Ok((client, messages))
    })
}
