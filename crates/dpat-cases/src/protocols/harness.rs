//! What the runs of all protocols share.

use dpat_codec::{Codec, Postcard};
use dpat_model::{NodeIx, Process};
use dpat_sim::{Mutant, Setup, Wire};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Returns the rule that a run breaks. Mutants and rules are listed in the same order.
pub(super) fn broken<R: Copy>(setup: &Setup, mutants: &[Mutant], rules: &[R]) -> Option<R> {
    debug_assert_eq!(mutants.len(), rules.len());
    let name = setup.mutant?;
    let at = mutants.iter().position(|mutant| mutant.name == name)?;
    rules.get(at).copied()
}

/// Returns the form in which messages and records pass as bytes.
pub(super) fn postcard<P>() -> Wire<P>
where
    P: Process<Msg: Serialize + DeserializeOwned, Rec: Serialize + DeserializeOwned>,
{
    Wire {
        encode_msg: encode,
        decode_msg: decode,
        encode_rec: encode,
        decode_rec: decode,
    }
}

/// What has no encoding leaves no bytes, and no bytes are no value: the run fails by `codec`.
fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let _ = Postcard::DEFAULT.encode(value, out);
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    Postcard::DEFAULT
        .decode(bytes)
        .map_err(|error| error.to_string())
}

/// Returns the node of a drawn index.
pub(super) fn node(index: u64) -> NodeIx {
    NodeIx(u32::try_from(index).unwrap_or(u32::MAX))
}
