//! An admitted member: what its RPC service, its admin API and its duties share.

use std::sync::Arc;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::{ClusterId, MemberId};
use holdfast_common::net::Client;
use holdfast_common::proto::placement::Error;
use parking_lot::RwLock;

use crate::group::Group;
use crate::lead::Lead;
use crate::view::{Millis, View};

/// An admitted member.
pub struct Member {
    /// Its number.
    pub number: MemberId,
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The group of all members.
    pub group: Group,
    /// For calling stores.
    pub client: Client,
    began: Instant,
    lead: RwLock<Option<Arc<Lead>>>,
}

impl Member {
    /// A member that does not lead yet.
    pub fn new(number: MemberId, name: String, cluster: ClusterId, group: Group, client: Client) -> Self {
        Self {
            number,
            name,
            cluster,
            group,
            client,
            began: clock::now(),
            lead: RwLock::default(),
        }
    }

    /// The monotonic clock by which this member judges silence and delays.
    pub fn now(&self) -> Millis {
        u64::try_from(clock::now().duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// What this member has as the leading one.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when it does not lead.
    pub fn lead(&self) -> Result<Arc<Lead>, Error> {
        match &*self.lead.read() {
            Some(lead) => Ok(lead.clone()),
            None => Err(self.not_leader()),
        }
    }

    /// A member that was elected and has not taken over yet can't name itself: whoever asked would ask it again at once.
    fn not_leader(&self) -> Error {
        match self.group.leader() {
            Some(leader) if leader == self.number => {
                Error::Unavailable("the leading member is taking over".to_owned())
            }
            _ => self.group.not_leader(),
        }
    }

    /// Begins to lead, or ceases to.
    pub fn set_lead(&self, lead: Option<Arc<Lead>>) {
        let before = std::mem::replace(&mut *self.lead.write(), lead);
        if let Some(before) = before {
            before.end();
        }
    }

    /// Looks at everything as it is now. Entries wait to be applied meanwhile: be brief.
    pub fn look<T>(&self, lead: &Lead, look: impl FnOnce(&View<'_>) -> T) -> T {
        let state = self.group.shared().state();
        let reports = lead.reports();
        look(&View::new(&state, &reports, self.now(), lead.since))
    }
}
