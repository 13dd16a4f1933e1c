//! The bytes of a segment, without any input or output.
//!
//! ```text
//! segment header, 64 bytes      frame, 32 bytes + payload, padded with zeros to a multiple of 8
//!  0  magic "dpat-wal"           0  CRC of bytes 4..32, seeded with the segment's salt
//!  8  version                    4  CRC of the payload
//! 12  CRC of all other bytes     8  bytes of payload
//! 16  salt                      12  records; 0 is a mark
//! 24  position of the first     16  position of the first record
//! 32  first of the one before   24  offset below which the segment was durable when this frame was written
//! 40  zeros
//! ```
//!
//! Numbers are little-endian. The payload of a frame of one record is the record; of more, their lengths (four bytes
//! each) and then their bytes. A frame is valid or not as a whole, which makes a batch all or nothing. A mark has no payload: it
//! says that everything before it is durable, and by its field at 4 whether another segment follows.
//!
//! Whether an invalid frame is a torn write or a rotten disk cannot be seen from the frame. The last field of the frames
//! *behind* it tells: if any of them was written when the invalid one was durable already, nothing tore it. The salt
//! keeps a frame that is stored as somebody's payload from being taken for one of the log's own.

use crate::error::{Corruption, CorruptionKind};
use crate::position::Position;

const SEGMENT_MAGIC: [u8; 8] = *b"dpat-wal";
const SNAPSHOT_MAGIC: [u8; 8] = *b"dpat-snp";
const VERSION: u32 = 0;
pub(crate) const HEAD_BYTES: usize = 64;
pub(crate) const SEGMENT_HEADER_BYTES: u64 = HEAD_BYTES as u64;
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
pub(crate) const ALIGN: usize = 8;
/// The bytes that a batch spends on each of its records.
pub(crate) const LENGTH_BYTES: usize = 4;

/// What stands at the beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) salt: u64,
    pub(crate) first: u64,
    /// The first position of the segment before; of the first segment, its own.
    pub(crate) previous: u64,
}

/// Why a header was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    Version(u32),
}

impl BadHeader {
    pub(crate) const fn kind(self) -> CorruptionKind {
        match self {
            Self::Damaged => CorruptionKind::Head,
            Self::Version(version) => CorruptionKind::Version(version),
        }
    }
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        self.encode_as(SEGMENT_MAGIC)
    }

    pub(crate) fn encode_snapshot(&self) -> [u8; HEAD_BYTES] {
        self.encode_as(SNAPSHOT_MAGIC)
    }

    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, BadHeader> {
        Self::decode_as(SEGMENT_MAGIC, bytes)
    }

    pub(crate) fn decode_snapshot(bytes: &[u8; HEAD_BYTES]) -> Result<Self, BadHeader> {
        Self::decode_as(SNAPSHOT_MAGIC, bytes)
    }

    fn encode_as(&self, magic: [u8; 8]) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&magic);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode_as(magic: [u8; 8], bytes: &[u8; HEAD_BYTES]) -> Result<Self, BadHeader> {
        if bytes[..8] != magic || u32_at(bytes, 12) != header_crc(bytes) {
            return Err(BadHeader::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => Ok(Self {
                salt: u64_at(bytes, 16),
                first: u64_at(bytes, 24),
                previous: u64_at(bytes, 32),
            }),
            version => Err(BadHeader::Version(version)),
        }
    }
}

fn header_crc(bytes: &[u8; HEAD_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

/// The CRC that the headers of a segment's frames begin from.
pub(crate) fn seed_of(salt: u64) -> u32 {
    crc32c::crc32c(&salt.to_le_bytes())
}

/// What a mark has instead of the checksum of a payload.
const PLAIN: u32 = 0;
const FOLLOWED: u32 = 1;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) body_crc: u32,
    pub(crate) len: u32,
    pub(crate) count: u32,
    pub(crate) position: u64,
    pub(crate) synced: u64,
}

impl FrameHeader {
    /// The header of a mark: everything below `synced`, where it stands, is durable.
    pub(crate) fn mark(position: u64, synced: u64) -> Self {
        Self {
            body_crc: PLAIN,
            len: 0,
            count: 0,
            position,
            synced,
        }
    }

    /// The header of a mark behind which another segment follows.
    pub(crate) fn seal(position: u64, synced: u64) -> Self {
        Self {
            body_crc: FOLLOWED,
            ..Self::mark(position, synced)
        }
    }

    pub(crate) const fn is_seal(&self) -> bool {
        self.count == 0 && self.body_crc == FOLLOWED
    }

    pub(crate) fn encode(&self, seed: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.to_le_bytes());
        bytes[24..].copy_from_slice(&self.synced.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header whose own checksum holds and whose fields can be.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES], seed: u32) -> Option<Self> {
        let header = Self {
            body_crc: u32_at(bytes, 4),
            len: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            position: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
        };
        // Before the checksum: a search looks at many places, and this refuses nearly all of them.
        let can_be = header.synced >= SEGMENT_HEADER_BYTES
            && header.synced % ALIGN as u64 == 0
            && (header.count > 0 || header.len == 0);
        let sound = can_be && u32_at(bytes, 0) == crc32c::crc32c_append(seed, &bytes[4..]);
        sound.then_some(header)
    }

    /// The bytes of the whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.len as usize)
    }
}

/// The bytes of a frame with so many bytes of payload.
pub(crate) const fn frame_bytes(payload: usize) -> u64 {
    (FRAME_HEADER_BYTES + payload.next_multiple_of(ALIGN)) as u64
}

/// A payload in two parts, with its checksum: what can be made of a record before its position is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    parts: [&'a [u8]; 2],
    len: u32,
    count: u32,
    crc: u32,
}

impl<'a> Frame<'a> {
    /// None above the four bytes that the length has in the header.
    pub(crate) fn new(parts: [&'a [u8]; 2], count: u32) -> Option<Self> {
        let len = u32::try_from(parts[0].len() + parts[1].len()).ok()?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(parts[0]), parts[1]);
        Some(Self {
            parts,
            len,
            count,
            crc,
        })
    }

    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) const fn bytes(&self) -> u64 {
        frame_bytes(self.len as usize)
    }

    /// Appends each record as a frame of its own, and returns how many they are: what a batch must not be.
    pub(crate) fn push_split(&self, buffer: &mut Vec<u8>, position: u64) -> u64 {
        let payload = self.parts.concat();
        let mut frames = 0;
        if let Some(mut records) = Records::of(&payload, self.count) {
            while let Some(range) = records.next(&payload) {
                if let Some(frame) = Frame::new([&[], &payload[range]], 1) {
                    frame.push_to(buffer, position + frames);
                    frames += 1;
                }
            }
        }
        frames
    }

    /// Appends the frame. [`complete`] completes its header.
    pub(crate) fn push_to(&self, buffer: &mut Vec<u8>, position: u64) {
        buffer.reserve(FRAME_HEADER_BYTES + self.len as usize + ALIGN);
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&self.crc.to_le_bytes());
        buffer.extend_from_slice(&self.len.to_le_bytes());
        buffer.extend_from_slice(&self.count.to_le_bytes());
        buffer.extend_from_slice(&position.to_le_bytes());
        buffer.extend_from_slice(&[0; 8]);
        for part in self.parts {
            buffer.extend_from_slice(part);
        }
        buffer.resize(buffer.len().next_multiple_of(ALIGN), 0);
    }
}

/// Completes the header at `at`, and returns it.
pub(crate) fn complete(buffer: &mut [u8], at: usize, seed: u32, synced: u64) -> FrameHeader {
    let bytes = &mut buffer[at..at + FRAME_HEADER_BYTES];
    bytes[24..].copy_from_slice(&synced.to_le_bytes());
    let crc = crc32c::crc32c_append(seed, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    raw_header(bytes)
}

/// Reads a header of a frame that is still in memory.
pub(crate) fn raw_header(bytes: &[u8]) -> FrameHeader {
    FrameHeader {
        body_crc: u32_at(bytes, 4),
        len: u32_at(bytes, 8),
        count: u32_at(bytes, 12),
        position: u64_at(bytes, 16),
        synced: u64_at(bytes, 24),
    }
}

/// The byte ranges of the records of a payload whose checksum holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Records {
    count: u32,
    next: u32,
    /// Where the bytes of the next record begin.
    at: usize,
}

impl Records {
    /// None if the lengths do not add up: a payload that no version of this crate wrote.
    pub(crate) fn of(payload: &[u8], count: u32) -> Option<Self> {
        let mut at = 0;
        if count > 1 {
            at = (count as usize).checked_mul(LENGTH_BYTES)?;
            let lengths = payload.get(..at)?;
            let sum: u64 = lengths
                .chunks_exact(LENGTH_BYTES)
                .map(|length| u64::from(u32_at(length, 0)))
                .sum();
            if at as u64 + sum != payload.len() as u64 {
                return None;
            }
        }
        Some(Self { count, next: 0, at })
    }

    pub(crate) const fn left(&self) -> u32 {
        self.count - self.next
    }

    /// Takes the next record's place in the payload.
    pub(crate) fn next(&mut self, payload: &[u8]) -> Option<std::ops::Range<usize>> {
        if self.left() == 0 {
            return None;
        }
        let len = if self.count == 1 {
            payload.len()
        } else {
            u32_at(payload, self.next as usize * LENGTH_BYTES) as usize
        };
        self.next += 1;
        let range = self.at..self.at + len;
        self.at = range.end;
        Some(range)
    }
}

/// The CRC of a payload.
pub(crate) fn body_crc(payload: &[u8]) -> u32 {
    crc32c::crc32c(payload)
}

/// The name of the segment whose first record is at `first`. Sorted by name, segments are sorted by position.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:020}.wal")
}

/// Reads a name that [`segment_name`] has made.
pub(crate) fn segment_first(name: &str) -> Option<u64> {
    digits(name.strip_suffix(".wal")?, 20)
}

/// A fact that a file's name tells by being there: a snapshot of the state before a position, or the low-water mark.
///
/// The generation is raised whenever a log is opened, so that the name is a new one, which a new sync of the directory
/// covers: of a name that is merely found, nobody knows whether the sync that was to cover it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedPosition {
    pub(crate) position: u64,
    pub(crate) generation: u32,
}

/// The file that holds a snapshot.
pub(crate) const SNAPSHOT: &str = ".snap";
/// The empty file whose name is the low-water mark.
pub(crate) const LOW: &str = ".low";

impl NamedPosition {
    pub(crate) fn new(position: Position) -> Self {
        Self {
            position: position.0,
            generation: 0,
        }
    }

    pub(crate) fn name(self, extension: &str) -> String {
        format!("{:020}-{:010}{extension}", self.position, self.generation)
    }

    pub(crate) fn of(name: &str, extension: &str) -> Option<Self> {
        let (position, generation) = name.strip_suffix(extension)?.split_once('-')?;
        Some(Self {
            position: digits(position, 20)?,
            generation: u32::try_from(digits(generation, 10)?).ok()?,
        })
    }

    /// The same fact under the next name.
    pub(crate) fn renewed(self) -> Self {
        Self {
            generation: self.generation.wrapping_add(1),
            ..self
        }
    }
}

fn digits(text: &str, len: usize) -> Option<u64> {
    let plain = text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

pub(crate) fn corrupt(path: &str, offset: u64, position: u64, kind: CorruptionKind) -> Corruption {
    Corruption {
        path: path.to_owned(),
        offset,
        position: Position(position),
        kind,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_version_0_are_fixed() {
        let header = SegmentHeader {
            salt: 0x0102_0304_0506_0708,
            first: 7,
            previous: 3,
        };
        let bytes = header.encode();
        assert_eq!(&bytes[..12], b"dpat-wal\0\0\0\0");
        assert_eq!(&bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!((bytes[24], bytes[32]), (7, 3));
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        let mut buffer = Vec::new();
        let frame = Frame::new([b"he", b"llo"], 1).unwrap();
        frame.push_to(&mut buffer, 7);
        let frame = complete(&mut buffer, 0, seed_of(header.salt), 64);
        let expected = [
            // CRC of the header, CRC-32C of "hello"
            &u32::from_le_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]).to_le_bytes()[..],
            &0x9A71_BB4C_u32.to_le_bytes(),
            // length, records, position, durable below
            &[
                5, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0,
            ],
            b"hello\0\0\0",
        ]
        .concat();
        assert_eq!(buffer, expected);
        assert_eq!(frame.frame_bytes(), 40);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let header = SegmentHeader {
            salt: 1,
            first: 2,
            previous: 0,
        };
        for bit in 0..40 * 8 {
            let mut bytes = header.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit}");
        }
        let frame = FrameHeader {
            body_crc: 9,
            len: 5,
            count: 1,
            position: 4,
            synced: 128,
        };
        let seed = seed_of(1);
        assert_eq!(FrameHeader::decode(&frame.encode(seed), seed), Some(frame));
        assert_eq!(FrameHeader::decode(&frame.encode(seed), seed_of(2)), None);
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut bytes = frame.encode(seed);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&bytes, seed), None, "bit {bit}");
        }
        assert_eq!(FrameHeader::decode(&[0; FRAME_HEADER_BYTES], seed), None);
    }

    #[test]
    fn another_version_is_told_apart_from_damage() {
        let mut bytes = SegmentHeader {
            salt: 1,
            first: 0,
            previous: 0,
        }
        .encode();
        bytes[8] = 1;
        let crc = header_crc(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Version(1)));
    }

    #[test]
    fn records_of_a_batch_come_out_in_order() {
        let payload = [&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0][..], b"abb"].concat();
        let mut records = Records::of(&payload, 3).unwrap();
        let mut taken = Vec::new();
        while let Some(range) = records.next(&payload) {
            taken.push(&payload[range]);
        }
        assert_eq!(taken, [&b"a"[..], b"", b"bb"]);
        assert!(Records::of(&payload, 4).is_none());
        assert!(Records::of(&payload, u32::MAX).is_none());
        assert!(Records::of(&payload[..14], 3).is_none());
        let mut one = Records::of(b"", 1).unwrap();
        assert_eq!((one.next(b""), one.next(b"")), (Some(0..0), None));
    }

    #[test]
    fn names_are_sorted_as_positions_are() {
        assert_eq!(segment_name(7), "00000000000000000007.wal");
        assert!(segment_name(9) < segment_name(10));
        assert!(segment_name(u64::MAX - 1) < segment_name(u64::MAX));
        for number in [0, 7, u64::MAX] {
            assert_eq!(segment_first(&segment_name(number)), Some(number));
        }
        for other in [
            "1.wal",
            "99999999999999999999.wal",
            "+0000000000000000007.wal",
            ".wal",
        ] {
            assert_eq!(segment_first(other), None, "{other}");
        }
    }

    #[test]
    fn named_positions_are_read_and_renewed() {
        let named = NamedPosition::new(Position(7));
        assert_eq!(named.name(LOW), "00000000000000000007-0000000000.low");
        let renewed = named.renewed();
        let name = renewed.name(SNAPSHOT);
        assert_eq!(name, "00000000000000000007-0000000001.snap");
        assert_eq!(NamedPosition::of(&name, SNAPSHOT), Some(renewed));
        assert_eq!(NamedPosition::of(&name, LOW), None);
        assert_eq!(
            NamedPosition::of("00000000000000000007.snap", SNAPSHOT),
            None
        );
        let last = NamedPosition {
            position: 7,
            generation: u32::MAX,
        };
        assert_eq!(last.renewed(), named);
    }
}
