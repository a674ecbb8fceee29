//! Identities. Each is minted once by the placement driver and never reused, so that a message or a directory that
//! outlived its owner can always be told from the present one. Zero is never minted: it stands for "not known yet".

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The value that no process is ever given.
            pub const NONE: Self = Self(0);

            /// Whether this is a minted id.
            pub fn is_some(self) -> bool {
                self.0 != 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// A cluster. Random, minted by the placement member that is told to bootstrap, carried by every message and every
    /// data directory.
    ClusterId
);
id!(
    /// A store process and its data directory. A wiped directory comes back under a new id.
    StoreId
);
id!(
    /// A range: one contiguous part of the key space and the Raft group that replicates it.
    RangeId
);
id!(
    /// One replica of one range on one store, for one stay there: a replica that leaves and returns is another replica.
    /// This is openraft's node id.
    ReplicaId
);
id!(
    /// A member of the placement driver.
    MemberId
);
id!(
    /// A planned change to a range.
    OperatorId
);
id!(
    /// One run of a client of the stores (a router process), random. With a sequence number it names a write.
    SessionId
);
