//! What has to hold at the end of every play, one file an invariant: see ARCHITECTURE.md for their letters. (P, that nothing
//! panics or ends by itself, is watched all along by the play itself.)

pub(crate) mod contents;
pub(crate) mod healed;
pub(crate) mod tiling;
pub(crate) mod told;
