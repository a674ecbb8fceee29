//! The way to one peer: the connection that stands, or when to try for the next.

use std::sync::Arc;

use parking_lot::Mutex;

use super::backoff::Backoff;
use super::conn::{ClientConn, Refused};
use super::pending::NewCall;
use super::{Lane, Shared};
use crate::clock::{self, Instant};
use crate::net::error::{CloseReason, Error};
use crate::net::frame::MAX_BODY_BYTES;
use crate::net::hello::PeerInfo;

/// One address and lane. It outlives its connections, which are made by calls, never in advance.
#[derive(Debug)]
pub(super) struct Link {
    addr: Arc<str>,
    lane: Lane,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<ClientConn>>,
    backoff: Backoff,
    /// Why the last connection failed: the answer to calls during the pause.
    last_error: Option<Error>,
}

/// How a connection came to its end.
#[derive(Debug)]
pub(super) struct Ending {
    /// When the peer had welcomed us, if it had.
    pub(super) opened_at: Option<Instant>,
    /// What to answer during the pause that follows.
    pub(super) error: Error,
}

impl Link {
    pub(super) fn new(addr: Arc<str>, lane: Lane, shared: Arc<Shared>) -> Self {
        Self {
            addr,
            lane,
            shared,
            state: Mutex::default(),
        }
    }

    pub(super) fn addr(&self) -> &Arc<str> {
        &self.addr
    }

    pub(super) fn peer_info(&self) -> Option<Arc<PeerInfo>> {
        self.state.lock().current.as_ref()?.peer_info()
    }

    /// Sends a call, or fails it. Tells the connection and the id that it went by.
    pub(super) fn submit(self: &Arc<Self>, mut call: NewCall) -> Option<(Arc<ClientConn>, u64)> {
        if let Err(error) = check(&call) {
            call.waiter.finish(Err(error));
            return None;
        }
        // A connection may turn out to be at its end, and is then replaced; its successor only if it failed at once.
        for _ in 0..2 {
            let conn = match self.connection() {
                Ok(conn) => conn,
                Err(error) => {
                    call.waiter.finish(Err(error));
                    return None;
                }
            };
            match conn.submit(call) {
                Ok(id) => return Some((conn, id)),
                Err(Refused::Failed(waiter, error)) => {
                    waiter.finish(Err(error));
                    return None;
                }
                Err(Refused::Ended(unsent)) => {
                    self.detach(&conn);
                    call = unsent;
                }
            }
        }
        call.waiter
            .finish(Err(self.unreachable("the connection is closing")));
        None
    }

    /// Closes the connection, if one stands.
    pub(super) fn disconnect(&self) {
        if let Some(conn) = self.state.lock().current.take() {
            conn.close(CloseReason::Local);
        }
    }

    /// A connection has ended.
    pub(super) fn ended(&self, conn: &Arc<ClientConn>, ending: Ending) {
        let config = &self.shared.config;
        let mut state = self.state.lock();
        if !state
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, conn))
        {
            return;
        }
        state.current = None;
        let now = clock::now();
        // One that worked for a while says nothing against dialing again at once.
        if ending
            .opened_at
            .is_some_and(|opened_at| now - opened_at >= config.backoff_max)
        {
            state.backoff.reset();
            return;
        }
        let pause = state.backoff.next_pause(config.backoff_min, config.backoff_max);
        state.backoff.failed(now + clock::jittered(pause));
        state.last_error = Some(ending.error);
    }

    pub(super) fn unreachable(&self, reason: &str) -> Error {
        Error::Unreachable {
            addr: self.addr.clone(),
            reason: reason.into(),
        }
    }

    /// The connection that stands or is being made, else a new one, unless it is too early for that.
    fn connection(self: &Arc<Self>) -> Result<Arc<ClientConn>, Error> {
        let mut state = self.state.lock();
        if let Some(conn) = &state.current {
            return Ok(conn.clone());
        }
        if self.shared.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if !state.backoff.is_over(clock::now()) {
            let last = state.last_error.clone();
            return Err(last.unwrap_or_else(|| self.unreachable("the next attempt is not due")));
        }
        let conn = Arc::new(ClientConn::new(self.addr.clone(), self.lane, self.shared.clone()));
        self.shared.runtime.spawn(conn.clone().run(self.clone()));
        state.current = Some(conn.clone());
        Ok(conn)
    }

    fn detach(&self, conn: &Arc<ClientConn>) {
        let mut state = self.state.lock();
        if state
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, conn))
        {
            state.current = None;
        }
    }
}

fn check(call: &NewCall) -> Result<(), Error> {
    if call.body.len() > MAX_BODY_BYTES {
        return Err(Error::TooLarge { len: call.body.len() });
    }
    if call.deadline <= clock::now() {
        return Err(Error::DeadlineExceeded { sent: false });
    }
    Ok(())
}
