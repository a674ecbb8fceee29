//! Who is at the other end of a connection, and whether to talk to it: pure.
//!
//! Whoever dials sends `Hello`, whoever was dialed answers `Welcome`, both with the body encoded here, or `Error` and
//! closes. The header of either frame carries the sender's cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::ErrorCode;
use crate::ids::ClusterId;

/// Oldest protocol this build speaks.
pub const PROTOCOL_MIN: u16 = 1;

/// Newest protocol this build speaks. Two neighbouring releases share at least one.
pub const PROTOCOL_MAX: u16 = 1;

/// Largest body of a `Hello` or `Welcome`, in bytes: all a stranger may make this process hold.
pub(super) const MAX_HELLO_BYTES: usize = 1024;

/// Longest name of a process, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// What a process does in its cluster. The numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// A member of the placement driver.
    Placement = 1,
    /// A store.
    Store = 2,
    /// A router.
    Router = 3,
    /// A tool of the operator.
    Admin = 4,
}

impl Role {
    fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Placement,
            2 => Self::Store,
            3 => Self::Router,
            4 => Self::Admin,
            _ => return None,
        })
    }
}

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// What it does.
    pub role: Role,
    /// Its id among those of its role; 0 = none, or not known when the connection was made.
    pub node_id: u64,
    /// Its name for people, at most [`MAX_NAME_BYTES`]; longer ones are cut when sent.
    pub name: String,
    /// The protocol of the connection: the newest that both sides speak.
    pub protocol: u16,
    /// Its cluster when the connection was made.
    pub cluster_id: ClusterId,
    /// The other end of the socket; none in a process's description of itself.
    pub addr: Option<SocketAddr>,
}

impl PeerInfo {
    /// How this process introduces itself.
    pub fn new(role: Role, node_id: u64, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            role,
            node_id,
            name,
            protocol: PROTOCOL_MAX,
            cluster_id: ClusterId::NONE,
            addr: None,
        }
    }

    /// The body of this process's `Hello` or `Welcome`.
    pub fn encode(&self) -> Bytes {
        let mut name_len = self.name.len().min(MAX_NAME_BYTES);
        while !self.name.is_char_boundary(name_len) {
            name_len -= 1;
        }
        let name = &self.name[..name_len];
        let mut out = BytesMut::with_capacity(MAX_HELLO_BYTES);
        out.put_u16(PROTOCOL_MIN);
        out.put_u16(PROTOCOL_MAX);
        out.put_u8(self.role as u8);
        out.put_u64(self.node_id);
        out.put_u8(name.len() as u8);
        out.put_slice(name.as_bytes());
        out.freeze()
    }

    /// Reads the body of a `Hello` or `Welcome`. Bytes after the name are left to later versions.
    ///
    /// # Errors
    /// The hello is malformed, or there is no protocol that both sides speak.
    pub fn decode(
        mut body: &[u8],
        cluster_id: ClusterId,
        addr: Option<SocketAddr>,
    ) -> Result<Self, HelloError> {
        let oldest = body.try_get_u16()?;
        let newest = body.try_get_u16()?;
        let protocol = newest.min(PROTOCOL_MAX);
        if protocol < oldest.max(PROTOCOL_MIN) {
            return Err(HelloError::Protocol { oldest, newest });
        }
        let number = body.try_get_u8()?;
        let role = Role::from_wire(number).ok_or(HelloError::Role(number))?;
        let node_id = body.try_get_u64()?;
        let name_len = usize::from(body.try_get_u8()?);
        let name = body.get(..name_len).ok_or(HelloError::Cut)?;
        let name = str::from_utf8(name).map_err(|_| HelloError::Name)?.to_owned();
        Ok(Self {
            role,
            node_id,
            name,
            protocol,
            cluster_id,
            addr,
        })
    }
}

/// Why a hello is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The two sides have no protocol in common.
    #[error("peer speaks protocols {oldest} to {newest}, this build {PROTOCOL_MIN} to {PROTOCOL_MAX}")]
    Protocol {
        /// Oldest protocol of the peer.
        oldest: u16,
        /// Newest protocol of the peer.
        newest: u16,
    },
    /// No role has this number.
    #[error("unknown role {0}")]
    Role(u8),
    /// The name is not UTF-8.
    #[error("the name is not UTF-8")]
    Name,
    /// The body ends too early.
    #[error("the hello is cut short")]
    Cut,
}

impl From<bytes::TryGetError> for HelloError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Cut
    }
}

/// This process's cluster, shared by its clients and servers: unknown until it is set, then fixed.
#[derive(Clone, Debug, Default)]
pub struct ClusterIdCell(Arc<AtomicU64>);

impl ClusterIdCell {
    /// A cell that holds `id` from the start.
    pub fn known(id: ClusterId) -> Self {
        Self(Arc::new(AtomicU64::new(id.0)))
    }

    /// The cluster, or [`ClusterId::NONE`] while it is not known.
    pub fn get(&self) -> ClusterId {
        ClusterId(self.0.load(Ordering::Acquire))
    }

    /// Makes the cluster known. Setting the same id again changes nothing.
    ///
    /// # Errors
    /// The id that is already there, when it is another: a process never changes its cluster.
    pub fn set(&self, id: ClusterId) -> Result<(), ClusterId> {
        match self
            .0
            .compare_exchange(ClusterId::NONE.0, id.0, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            Err(known) if known == id.0 => Ok(()),
            Err(known) => Err(ClusterId(known)),
        }
    }
}

/// Whether a message from cluster `theirs` may be served by a process of cluster `ours`. Two known clusters must be
/// the same one. While ours is unknown anything goes; whether theirs may be is the server's choice.
///
/// # Errors
/// The code to refuse with.
pub(super) fn admit(ours: ClusterId, theirs: ClusterId, accept_unknown: bool) -> Result<(), ErrorCode> {
    if !theirs.is_some() {
        return if accept_unknown {
            Ok(())
        } else {
            Err(ErrorCode::UnknownCluster)
        };
    }
    if ours.is_some() && ours != theirs {
        Err(ErrorCode::WrongCluster)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: ClusterId = ClusterId(1);
    const B: ClusterId = ClusterId(2);

    proptest! {
        #[test]
        fn a_hello_comes_back(node_id: u64, name in ".{0,60}", trailing: Vec<u8>) {
            let mut sent = PeerInfo::new(Role::Store, node_id, name);
            let mut body = sent.encode().to_vec();
            body.extend(trailing);
            sent.cluster_id = A;
            prop_assert_eq!(PeerInfo::decode(&body, A, None), Ok(sent));
        }

        #[test]
        fn arbitrary_hellos_never_panic(body: Vec<u8>) {
            let _ = PeerInfo::decode(&body, A, None);
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = PeerInfo::new(Role::Router, 1, "é".repeat(200));
        let read = PeerInfo::decode(&long.encode(), A, None).expect("a hello");
        assert_eq!(read.name, "é".repeat(127));
    }

    #[test]
    fn without_a_common_protocol_there_is_no_connection() {
        let mut body = PeerInfo::new(Role::Store, 1, "store-1").encode().to_vec();
        body[..4].copy_from_slice(&[0, 7, 0, 9]);
        assert_eq!(
            PeerInfo::decode(&body, A, None),
            Err(HelloError::Protocol { oldest: 7, newest: 9 })
        );
        body[..4].copy_from_slice(&[0, 1, 0, 9]);
        assert_eq!(
            PeerInfo::decode(&body, A, None).map(|peer| peer.protocol),
            Ok(PROTOCOL_MAX)
        );
    }

    #[test]
    fn clusters_meet_when_none_is_known_to_be_another() {
        assert_eq!(admit(A, A, false), Ok(()));
        assert_eq!(admit(A, B, true), Err(ErrorCode::WrongCluster));
        assert_eq!(admit(ClusterId::NONE, B, false), Ok(()));
        assert_eq!(admit(A, ClusterId::NONE, true), Ok(()));
        assert_eq!(admit(A, ClusterId::NONE, false), Err(ErrorCode::UnknownCluster));
    }

    #[test]
    fn a_cluster_is_set_once() {
        let cell = ClusterIdCell::default();
        assert_eq!(cell.get(), ClusterId::NONE);
        assert_eq!(cell.set(A), Ok(()));
        assert_eq!(cell.set(A), Ok(()));
        assert_eq!(cell.set(B), Err(A));
        assert_eq!(cell.get(), A);
    }
}
