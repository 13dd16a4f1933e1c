//! The stored form of a record, version 0.

use bytes::Bytes;
use dpat_codec::{Codec, DecodeError, Postcard};
use serde::{Deserialize, Serialize};

use crate::config::RESPONSE_BYTES_MAX;
use crate::machine::Record;

/// Room for the largest response and what stands around it.
const CODEC: Postcard = Postcard::with_bytes_max(RESPONSE_BYTES_MAX + 1024);

#[derive(Serialize, Deserialize)]
enum Stored {
    V0(Record),
}

pub(crate) fn encode(record: Record) -> Bytes {
    CODEC
        .to_vec(&Stored::V0(record))
        .expect("a record is flat, and its response within the limit")
        .into()
}

pub(crate) fn decode(row: &[u8]) -> Result<Record, DecodeError> {
    let Stored::V0(record) = CODEC.decode(row)?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use dpat_core::Wall;

    use super::*;
    use crate::Fingerprint;
    use crate::machine::{Claimed, Nonce};

    #[test]
    fn stored_bytes_stay_the_same() {
        let claimed = Claimed {
            fingerprint: Fingerprint::from_bytes([1; 16]),
            nonce: Nonce::from_bytes([2; 16]),
            attempt: 3,
        };
        let at = Wall::from_nanos(300).as_nanos();
        let golden = [
            (
                Record::Claimed { claimed, until: at },
                [&[0, 0][..], &[1; 16], &[2; 16], &[3, 172, 2]].concat(),
            ),
            (
                Record::Doubt { claimed, since: at },
                [&[0, 1][..], &[1; 16], &[2; 16], &[3, 172, 2]].concat(),
            ),
            (
                Record::Done {
                    claimed,
                    until: at,
                    response: Bytes::from_static(b"ok"),
                },
                [&[0, 2][..], &[1; 16], &[2; 16], &[3, 172, 2, 2, b'o', b'k']].concat(),
            ),
        ];
        for (record, bytes) in golden {
            assert_eq!(encode(record.clone()), bytes);
            assert_eq!(decode(&bytes), Ok(record));
            for end in 0..bytes.len() {
                assert!(decode(&bytes[..end]).is_err());
            }
        }
        assert!(decode(&[1, 0]).is_err(), "a later version is no version 0");
    }

    #[test]
    fn the_largest_response_fits() {
        let record = Record::Done {
            claimed: Claimed {
                fingerprint: Fingerprint::NONE,
                nonce: Nonce::from_bytes([0xff; 16]),
                attempt: u32::MAX,
            },
            until: u64::MAX,
            response: Bytes::from(vec![0; RESPONSE_BYTES_MAX]),
        };
        assert_eq!(decode(&encode(record.clone())), Ok(record));
    }
}
