//! Dead letters: a stream of their own, in which each has a subject of its own.

use async_nats::HeaderMap;
use bytes::Bytes;
use dpat_core::{Clock as _, SystemClock};
use dpat_queue::{DeadLetter, ManageError, MessageId, Receipt, SendError, SettleError};
use futures_util::StreamExt as _;

use crate::error::EngineError;
use crate::jetstream::{EXPECTED_LAST, WRONG_LAST, Which};
use crate::queue::Inner;
use crate::queue::backend::{failed, is_full};
use crate::queue::wire::{self, Token};
use crate::room;

/// How many letters are read at once.
const AT_ONCE: usize = 16;

impl Inner {
    fn letter_subject(&self, id: MessageId) -> String {
        format!("{}{id}", self.settings.dead_prefix())
    }

    /// First the dead letter is there, then the message is not: whoever dies between the two leaves both, and the next one
    /// that rejects it finds the letter written.
    pub(crate) async fn reject(&self, receipt: Receipt, reason: &str) -> Result<(), SettleError> {
        let backend = |error| SettleError::Backend(failed(error));
        let seq = Which::Seq(Token::of(receipt).stream_seq);
        let stored = self
            .js
            .get(&self.settings.name, seq)
            .await
            .map_err(backend)?;
        let Some(stored) = stored else {
            return Err(SettleError::Stale);
        };
        let mut headers = wire::dead(&stored, receipt, reason, SystemClock.wall());
        headers.insert(EXPECTED_LAST, "0");
        match self.write(receipt.id(), headers, stored.payload).await {
            Ok(()) => {}
            Err(error) => {
                let limits = &self.settings;
                return Err(match is_full(&error) {
                    Some("bytes") => SettleError::DeadLettersFull {
                        field: "dead_bytes_max",
                        limit: limits.dead_bytes_max,
                    },
                    Some(_) => SettleError::DeadLettersFull {
                        field: "dead_max",
                        limit: limits.dead_max,
                    },
                    None => backend(error),
                });
            }
        }
        let ended = self
            .acknowledge(receipt, Bytes::from_static(b"+TERM"))
            .await;
        ended.map_err(backend)?;
        self.out.settled(receipt);
        Ok(())
    }

    async fn write(
        &self,
        id: MessageId,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), EngineError> {
        let (subject, stream) = (self.letter_subject(id), self.settings.dead_name());
        let bytes = room::stored(&subject, &headers, payload.len());
        let under_way = self.rooms.letters.admit_one(&self.js, bytes).await?;
        let published = self.js.publish(&subject, headers, payload, &stream).await;
        under_way.ended(&published);
        match published {
            Ok(_) => Ok(()),
            // It is there already.
            Err(EngineError::Refused { code, .. }) if WRONG_LAST.contains(&code) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the ids of all letters for a page, so that they come in the order of their ids.
    pub(crate) async fn dead_letters(
        &self,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, ManageError> {
        let backend = |error| ManageError::Backend(failed(error));
        let (prefix, stream) = (self.settings.dead_prefix(), self.settings.dead_name());
        let subjects = self
            .js
            .subjects(&stream, &format!("{prefix}*"))
            .await
            .map_err(backend)?;
        let ids = subjects
            .iter()
            .filter_map(|subject| subject.strip_prefix(&prefix)?.parse().ok());
        let mut ids: Vec<MessageId> = ids.map(MessageId::new).collect();
        ids.sort_unstable();
        let wanted = ids.into_iter().filter(|id| Some(*id) > after).take(max);
        let letters =
            futures_util::stream::iter(wanted.map(|id| self.letter(id))).buffered(AT_ONCE);
        let letters: Vec<_> = letters.collect().await;
        // One that went meanwhile is left out.
        let letters = letters.into_iter().filter_map(Result::transpose);
        letters.collect::<Result<_, _>>().map_err(backend)
    }

    async fn letter(&self, id: MessageId) -> Result<Option<DeadLetter>, EngineError> {
        let (subject, stream) = (self.letter_subject(id), self.settings.dead_name());
        let Some(stored) = self.js.get(&stream, Which::LastOf(&subject)).await? else {
            return Ok(None);
        };
        let letter = wire::letter(&stored).ok_or_else(|| EngineError::Malformed {
            what: format!("dead letter {id} of stream `{stream}`"),
        });
        letter.map(Some)
    }

    /// First the message is there, then the letter is not. Within the window of deduplication a second try sends nothing.
    pub(crate) async fn replay(&self, id: MessageId) -> Result<bool, ManageError> {
        let backend = |error| ManageError::Backend(failed(error));
        let Some(letter) = self.letter(id).await.map_err(backend)? else {
            return Ok(false);
        };
        let payload = letter.message.payload().clone();
        let headers = wire::replayed(&letter);
        let sent = async {
            let bytes = room::stored(&self.ready, &headers, payload.len());
            let under_way = self.rooms.ready.admit_one(&self.js, bytes).await?;
            let name = &self.settings.name;
            let sent = self.js.publish(&self.ready, headers, payload, name).await;
            under_way.ended(&sent);
            self.fresh.stored(sent?.seq);
            Ok::<_, EngineError>(())
        };
        if let Err(error) = sent.await {
            return Err(match self.not_sent(error.clone()) {
                SendError::Full { field, limit } => ManageError::Full { field, limit },
                _ => backend(error),
            });
        }
        self.discard(id).await?;
        Ok(true)
    }

    pub(crate) async fn discard(&self, id: MessageId) -> Result<bool, ManageError> {
        let (subject, stream) = (self.letter_subject(id), self.settings.dead_name());
        let purged = self.js.purge(&stream, Some(&subject), None).await;
        let purged = purged.map_err(|error| ManageError::Backend(failed(error)))?;
        Ok(purged > 0)
    }
}
