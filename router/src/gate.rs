//! Who may do what, at this router: the placement driver's rules, and the decision for each request.
//!
//! Until the driver has told the rules nothing is let in; afterwards the last ones count while it is silent, for a bounded
//! time where credentials are demanded. So data goes on being served while every placement member is down, and a router
//! that was cut off does not go by old rules for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use holdfast_common::access::{Denied, Principal, Table};
use holdfast_common::clock::{self, Instant};
use holdfast_common::limits::DEFAULT_DEADLINE;
use holdfast_common::proto::access::Told;
use holdfast_common::tls::Identity;
use metrics::gauge;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::metrics::ACCESS_VERSION;
use crate::quota::{Exceeded, Quotas, Spending};

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Closed {
    /// By the rules.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The rules are not known.
    #[error("the placement driver has not told this router yet who may do what")]
    Unknown,
    /// They are too old.
    #[error("the placement driver has not told this router for too long who may do what")]
    Stale,
    /// The principal has used up what it may use.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
}

/// Decides who is let in.
pub(crate) struct Gate {
    /// A request without a credential is let in: all that most requests of an open cluster look at.
    open: AtomicBool,
    table: RwLock<Option<Arc<Table>>>,
    /// Whether the rules are known, for those who wait for them.
    known: watch::Sender<bool>,
    quotas: Quotas,
    /// When the driver was last heard, milliseconds after `began`.
    heard_ms: AtomicU64,
    began: Instant,
    /// How long it may be silent; none for ever.
    patience: Option<Duration>,
    /// Credentials are asked for whatever the rules say.
    demanded: bool,
}

impl Gate {
    /// A gate that has heard nothing.
    pub(crate) fn new(demanded: bool, patience: Option<Duration>) -> Self {
        Self {
            open: AtomicBool::new(false),
            table: RwLock::default(),
            known: watch::Sender::new(false),
            quotas: Quotas::default(),
            heard_ms: AtomicU64::new(0),
            began: clock::now(),
            patience,
            demanded,
        }
    }

    /// Takes in what the driver tells until the stream ends.
    pub(crate) async fn follow(self: Arc<Self>, mut told: BoxStream<'static, Told>) {
        while let Some(told) = told.next().await {
            self.learn(told);
        }
    }

    /// Takes in what the driver tells.
    pub(crate) fn learn(&self, told: Told) {
        let now = clock::now() - self.began;
        self.heard_ms.store(
            u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        if let Told::Rules(rules) = told {
            let (version, credentials) = (rules.version, rules.credentials.len());
            let table = Arc::new(Table::new(&rules, self.demanded));
            tracing::info!(
                version,
                credentials,
                required = table.is_required(),
                "who may do what has changed"
            );
            gauge!(ACCESS_VERSION).set(version as f64);
            self.quotas.keep(&rules);
            let open = !table.is_required();
            *self.table.write() = Some(table);
            self.open.store(open, Ordering::Release);
            self.known.send_replace(true);
        }
    }

    /// Whether the rules are known.
    pub(crate) fn is_ready(&self) -> bool {
        self.open.load(Ordering::Acquire) || self.table.read().is_some()
    }

    /// Returns once the rules are known, or when that takes longer than a request may.
    pub(crate) async fn known(&self) {
        let mut known = self.known.subscribe();
        // Those who go on without are told that the rules are not known.
        let _ = clock::timeout(DEFAULT_DEADLINE, known.wait_for(|known| *known)).await;
    }

    /// Who makes a request, and what it takes of what its maker may use.
    ///
    /// # Errors
    /// Why it is not let in.
    pub(crate) fn admit(
        &self,
        authorization: Option<&str>,
        identity: Option<&Identity>,
    ) -> Result<(Principal, Option<Spending>), Closed> {
        if authorization.is_none() && identity.is_none() && self.open.load(Ordering::Acquire) {
            return Ok((Principal::Anyone, None));
        }
        let table = self.table()?;
        let principal = table.admit(authorization, identity, clock::wall_ms())?;
        let spending = match principal.credential() {
            Some(credential) => self.quotas.begin(credential, clock::now())?,
            None => None,
        };
        Ok((principal, spending))
    }

    /// Whether a principal that was let in before would be now: asked by requests that take long.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn reconsider(&self, principal: &Principal) -> Result<(), Closed> {
        if matches!(principal, Principal::Anyone) && self.open.load(Ordering::Acquire) {
            return Ok(());
        }
        Ok(self.table()?.reconsider(principal, clock::wall_ms())?)
    }

    fn table(&self) -> Result<Arc<Table>, Closed> {
        let table = self.table.read().clone().ok_or(Closed::Unknown)?;
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        let silence = (clock::now() - self.began).saturating_sub(heard);
        if table.is_required() && self.patience.is_some_and(|patience| silence > patience) {
            return Err(Closed::Stale);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::access::hash_token;
    use holdfast_common::proto::access::{Credential, Limits, Proof, Right, Rules};

    use super::*;

    fn rules(required: bool) -> Told {
        let admin = Credential {
            id: 1,
            name: "admin".into(),
            proof: Proof::Token(hash_token("t")),
            right: Right::Admin,
            prefixes: Vec::new(),
            expires_ms: None,
            created_ms: 0,
            limits: Limits::default(),
        };
        Told::Rules(Rules {
            version: 1,
            required,
            credentials: if required { vec![admin] } else { Vec::new() },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_let_in_before_the_rules_are_known_or_once_they_are_too_old() {
        let gate = Gate::new(false, Some(Duration::from_secs(60)));
        let verdict = |header| gate.admit(header, None).map(|_| ());
        assert_eq!(verdict(None), Err(Closed::Unknown));
        gate.learn(rules(false));
        assert_eq!(verdict(None), Ok(()));
        gate.learn(rules(true));
        assert_eq!(verdict(None), Err(Denied::Missing.into()));
        assert_eq!(verdict(Some("Bearer t")), Ok(()));
        clock::sleep(Duration::from_secs(59)).await;
        gate.learn(Told::Same);
        clock::sleep(Duration::from_secs(59)).await;
        assert_eq!(verdict(Some("Bearer t")), Ok(()));
        clock::sleep(Duration::from_secs(2)).await;
        assert_eq!(verdict(Some("Bearer t")), Err(Closed::Stale));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_cluster_stays_open_while_the_driver_is_away() {
        let gate = Gate::new(false, Some(Duration::from_secs(1)));
        gate.learn(rules(false));
        clock::sleep(Duration::from_secs(3600)).await;
        assert!(gate.admit(None, None).is_ok());
        let closed = Gate::new(true, None);
        closed.learn(rules(false));
        assert!(closed.admit(None, None).is_err(), "it was told to ask");
    }
}
