//! How a member comes into its cluster: by founding it, by being admitted, or by coming back.
//!
//! **Founding.** A member that is told to bootstrap asks every other member in its list, until each has answered, whether it
//! belongs to a cluster or was told to bootstrap too. One that does is reason to refuse; only when all are empty is a cluster
//! id minted. So as long as one member's directory survives, a second cluster can't be founded in its place. The group
//! begins with the founder as its only voter.
//!
//! **Admission.** Every other member asks to be admitted. The leading member records the number of its data directory in
//! the replicated state before it answers, and only then does the new member take part in the group: first as a learner, then
//! as a voter. A member whose directory was lost comes back with another number and is refused: it has forgotten for whom
//! it voted and what it acknowledged. An operator can remove it, after which it is admitted under a new number, as
//! somebody who never voted.
//!
//! **Coming back.** A member announces itself at every start, so that its addresses are known, and so that one that was
//! removed meanwhile learns of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, MemberId};
use holdfast_common::net::{Client, ClusterIdCell, Lane};
use holdfast_common::placement_client::{self, PlacementClient};
use holdfast_common::proto::placement::{Error as Refusal, Join, Joined, MemberStatus, Probe};
use holdfast_common::proto::{self, method};
use parking_lot::RwLock;

use crate::config::{Config, Peers};
use crate::identity::{self, DataDir, Phase};

/// How long a member is given to say who it is.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two rounds of asking.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// How long the leading member is looked for before that is worth a line in the log.
const JOIN_WITHIN: Duration = Duration::from_secs(5);

/// Why a member can't come into its cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory has a past.
    #[error("--bootstrap refused: {name} belongs to cluster {cluster} already; start it without --bootstrap")]
    Bootstrapped {
        /// This member.
        name: String,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// Another member has a past.
    #[error(
        "--bootstrap refused: member {peer} belongs to cluster {cluster} already, and a second cluster must not be founded beside it; \
         empty the data directory of {name} and start it without --bootstrap to join that cluster"
    )]
    ClusterExists {
        /// This member.
        name: String,
        /// The other.
        peer: String,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// Another member was told to bootstrap, too.
    #[error(
        "--bootstrap refused: member {peer} was told to bootstrap, too; empty one of the two directories and give the flag to one member only"
    )]
    TwoFounders {
        /// The other.
        peer: String,
    },
    /// The member at an address is not the one that is expected there.
    #[error("the member at {address} is called {theirs}, not {expected}: check --members")]
    OtherMember {
        /// Where.
        address: String,
        /// Who is expected.
        expected: String,
        /// Who answers.
        theirs: String,
    },
    /// The cluster does not want this member.
    #[error("{0}")]
    Refused(Refusal),
    /// The members that answer belong to another cluster.
    #[error("{0}; check --members and the data directory")]
    WrongCluster(String),
    /// The leading member says otherwise than the directory.
    #[error("the directory is member {ours:?}'s, the leading member says {theirs:?}")]
    Contradiction {
        /// Cluster and number of the directory.
        ours: (ClusterId, MemberId),
        /// Cluster and number of the answer.
        theirs: (ClusterId, MemberId),
    },
    /// The directory.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// What a member tells whoever asks who it is.
pub type Status = Arc<RwLock<MemberStatus>>;

/// A member on its way in.
pub struct Newcomer<'a> {
    /// Its configuration.
    pub config: &'a Config,
    /// All members.
    pub peers: &'a Peers,
    /// For asking them.
    pub client: &'a Client,
    /// What it answers when it is asked.
    pub status: &'a Status,
    /// Set as soon as the cluster is known.
    pub cluster: &'a ClusterIdCell,
    /// The cluster that this member's certificate names, if it has one: the only one that it founds or belongs to.
    pub certified: Option<ClusterId>,
}

impl Newcomer<'_> {
    /// Takes note of `--bootstrap`. To be called before others can ask who this member is.
    ///
    /// # Errors
    /// The directory belongs to a cluster already, or the disk fails.
    pub fn prepare(&self, dir: &mut DataDir) -> Result<(), Error> {
        if let (Some((known, _)), Some(certified)) = (dir.phase().known(), self.certified)
            && known != certified
        {
            return Err(Error::WrongCluster(format!(
                "the certificate is of cluster {certified}, the directory belongs to cluster {known}"
            )));
        }
        match (dir.phase(), self.config.bootstrap) {
            (Phase::New, true) => dir.enter(Phase::Bootstrapping)?,
            (Phase::Founding { cluster, .. } | Phase::Admitted { cluster, .. }, true) => {
                return Err(Error::Bootstrapped {
                    name: self.config.name.clone(),
                    cluster,
                });
            }
            (_, false) | (Phase::Bootstrapping, true) => {}
        }
        self.tell_status(dir.phase());
        Ok(())
    }

    /// Returns once the member has a cluster and a number, which `dir` remembers. May wait for others for as long as it takes.
    ///
    /// # Errors
    /// It never will.
    pub async fn enter(&self, dir: &mut DataDir) -> Result<(ClusterId, MemberId), Error> {
        let known = match dir.phase() {
            Phase::Founding { cluster, member } | Phase::Admitted { cluster, member } => (cluster, member),
            Phase::Bootstrapping => self.found(dir).await?,
            Phase::New => self.join(dir).await?,
        };
        if let Err(other) = self.cluster.set(known.0) {
            return Err(Error::WrongCluster(format!(
                "this is cluster {other}, the directory belongs to cluster {}",
                known.0
            )));
        }
        self.tell_status(dir.phase());
        // Connections from before name no cluster.
        self.peers
            .others(&self.config.name)
            .iter()
            .for_each(|(_, address)| self.client.forget(address));
        Ok(known)
    }

    fn tell_status(&self, phase: Phase) {
        let cluster = phase.known().map(|(cluster, _)| cluster);
        let bootstrapping = phase == Phase::Bootstrapping;
        *self.status.write() = MemberStatus {
            name: self.config.name.clone(),
            cluster,
            bootstrapping,
        };
    }

    /// Makes sure that there is no cluster, and mints one.
    async fn found(&self, dir: &mut DataDir) -> Result<(ClusterId, MemberId), Error> {
        let mut waiting: BTreeMap<String, String> =
            self.peers.others(&self.config.name).into_iter().collect();
        let mut rounds = 0_u32;
        while !waiting.is_empty() {
            for (name, address) in waiting.clone() {
                if let Some(status) = self.probe(&address).await {
                    self.check_peer(&name, &address, status)?;
                    waiting.remove(&name);
                }
            }
            if !waiting.is_empty() {
                if rounds % 50 == 10 {
                    tracing::info!(members = ?waiting.keys(), "not bootstrapping before these members say that they belong to no cluster");
                }
                rounds = rounds.wrapping_add(1);
                clock::sleep(clock::jittered(ROUND_PAUSE)).await;
            }
        }
        let number = self.peers.first_number(&self.config.name);
        let member = number.ok_or_else(|| {
            Error::Refused(Refusal::Invalid(format!(
                "{} is not in --members",
                self.config.name
            )))
        })?;
        let cluster = self.certified.unwrap_or_else(|| ClusterId(clock::random_id()));
        self.settle(dir, Phase::Founding { cluster, member })?;
        tracing::info!(%cluster, "founding a cluster");
        Ok((cluster, member))
    }

    async fn probe(&self, address: &str) -> Option<MemberStatus> {
        let deadline = clock::now() + PROBE_WITHIN;
        let call = self.client.call(
            address,
            Lane::Fast,
            method::PLACEMENT_PROBE,
            proto::encode(&Probe {}),
            deadline,
        );
        match call.await.map(|body| proto::decode(&body)) {
            Ok(Ok(status)) => Some(status),
            Ok(Err(error)) => {
                tracing::debug!(address, %error, "a member says something else than who it is");
                None
            }
            Err(error) => {
                tracing::debug!(address, %error, "a member does not say who it is");
                None
            }
        }
    }

    fn check_peer(&self, expected: &str, address: &str, status: MemberStatus) -> Result<(), Error> {
        if status.name != expected {
            let (address, expected) = (address.to_owned(), expected.to_owned());
            return Err(Error::OtherMember {
                address,
                expected,
                theirs: status.name,
            });
        }
        if let Some(cluster) = status.cluster {
            return Err(Error::ClusterExists {
                name: self.config.name.clone(),
                peer: status.name,
                cluster,
            });
        }
        if status.bootstrapping {
            return Err(Error::TwoFounders { peer: status.name });
        }
        Ok(())
    }

    /// Asks to be admitted until it is.
    async fn join(&self, dir: &mut DataDir) -> Result<(ClusterId, MemberId), Error> {
        let others = self
            .peers
            .others(&self.config.name)
            .into_iter()
            .map(|(_, address)| address)
            .collect();
        tracing::info!(
            "waiting to be admitted by the leading placement member; a first start needs one member with --bootstrap"
        );
        let joined = announce(self.config, self.peers, self.client, others, dir.nonce(), None).await?;
        self.settle(
            dir,
            Phase::Admitted {
                cluster: joined.cluster,
                member: joined.member,
            },
        )?;
        tracing::info!(cluster = %joined.cluster, member = %joined.member, "admitted");
        Ok((joined.cluster, joined.member))
    }

    /// Makes room for the log, then records what the member is: one that is found without its log has lost it.
    fn settle(&self, dir: &mut DataDir, phase: Phase) -> Result<(), Error> {
        let raft = dir.raft();
        std::fs::create_dir_all(&raft).map_err(|source| identity::Error::Io { path: raft, source })?;
        dir.enter(phase)?;
        Ok(())
    }
}

/// Announces a member until the leading one has taken note.
///
/// # Errors
/// The cluster does not want it.
pub async fn announce(
    config: &Config,
    peers: &Peers,
    client: &Client,
    to: Vec<String>,
    directory: u64,
    known: Option<(ClusterId, MemberId)>,
) -> Result<Joined, Error> {
    let join = Join {
        name: config.name.clone(),
        members: peers.names(),
        known,
        directory,
        rpc_address: config.rpc_address(),
        http_address: config.http_address(),
    };
    let driver = PlacementClient::new(to, client.clone());
    loop {
        match driver
            .call(method::PLACEMENT_JOIN, &join, clock::now() + JOIN_WITHIN)
            .await
        {
            Ok(joined) => return Ok(joined),
            Err(placement_client::Error::Refused(refusal)) => return Err(Error::Refused(refusal)),
            Err(placement_client::Error::WrongCluster(error)) => {
                return Err(Error::WrongCluster(error.to_string()));
            }
            Err(placement_client::Error::GaveUp { last }) => {
                tracing::info!(last, "no leading placement member yet")
            }
        }
    }
}
