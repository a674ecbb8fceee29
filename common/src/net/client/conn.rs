//! One connection of a client, from dialing to its end.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dial::{Dialed, dial};
use super::link::{Ending, Link};
use super::pending::{Entry, NewCall, Pending, Waiter};
use super::{Lane, Shared};
use crate::clock::{self, Instant};
use crate::net::conn::Wire;
use crate::net::error::{CloseReason, Error};
use crate::net::frame::{FrameHeader, FrameKind};
use crate::net::hello::PeerInfo;
use crate::net::outbound::PushError;

/// Cancels and credits may exceed the bound on requests by this much before the connection is closed.
const CONTROL_BYTES: usize = 1 << 20;

/// The calling side of one connection.
#[derive(Debug)]
pub(super) struct ClientConn {
    pub(super) wire: Wire,
    addr: Arc<str>,
    lane: Lane,
    pub(super) shared: Arc<Shared>,
    pub(super) table: Mutex<Table>,
    /// Tells the watch over deadlines that its alarm is earlier now.
    alarm_moved: Notify,
}

/// Its calls.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) phase: Phase,
    pub(super) pending: Pending,
    /// Calls made before the connection stands, in order.
    unsent: VecDeque<Unsent>,
    unsent_bytes: usize,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Being dialed. The error is set when that failed.
    Opening { failed: Option<Error> },
    /// Calls can be sent.
    Open { since: Instant, peer: Arc<PeerInfo> },
    /// The peer said goodbye: no further calls, and the end when all are answered.
    Leaving { since: Instant },
    /// Over.
    Ended,
}

#[derive(Debug)]
struct Unsent {
    id: u64,
    method: u16,
    body: Bytes,
}

/// A call was not sent.
#[derive(Debug)]
pub(super) enum Refused {
    /// This connection is at its end; another may take the call.
    Ended(NewCall),
    /// The call fails.
    Failed(Waiter, Error),
}

impl ClientConn {
    pub(super) fn new(addr: Arc<str>, lane: Lane, shared: Arc<Shared>) -> Self {
        let bound = shared.config.max_queued_bytes;
        Self {
            wire: Wire::new(shared.cluster.clone(), bound, bound + CONTROL_BYTES),
            addr,
            lane,
            shared,
            table: Mutex::new(Table {
                phase: Phase::Opening { failed: None },
                pending: Pending::default(),
                unsent: VecDeque::new(),
                unsent_bytes: 0,
            }),
            alarm_moved: Notify::new(),
        }
    }

    /// Sends a call, or keeps it until the connection stands. The lock is held while the frame is appended, so that
    /// ids, calls and frames have one order.
    pub(super) fn submit(&self, call: NewCall) -> Result<u64, Refused> {
        let NewCall {
            method,
            body,
            deadline,
            waiter,
        } = call;
        let (id, alarm_moved) = {
            let mut table = self.table.lock();
            if matches!(table.phase, Phase::Leaving { .. } | Phase::Ended) {
                return Err(Refused::Ended(NewCall {
                    method,
                    body,
                    deadline,
                    waiter,
                }));
            }
            if table.pending.len() >= self.shared.config.max_calls {
                return Err(Refused::Failed(waiter, self.queue_full()));
            }
            let (id, alarm_moved) = table.pending.insert(waiter, deadline);
            if let Err(error) = self.enqueue(&mut table, id, method, body.clone(), deadline)
                && let Some(Entry { waiter, .. }) = table.pending.remove(id)
            {
                return Err(match error {
                    PushError::Full => Refused::Failed(waiter, self.queue_full()),
                    PushError::Closed => Refused::Ended(NewCall {
                        method,
                        body,
                        deadline,
                        waiter,
                    }),
                });
            }
            (id, alarm_moved)
        };
        if alarm_moved {
            self.alarm_moved.notify_one();
        }
        Ok(id)
    }

    /// Cancels a stream.
    pub(super) fn cancel(&self, id: u64) {
        let waiting = self.table.lock().pending.remove(id).is_some();
        // An unsent request goes with its entry.
        if waiting && self.is_open() {
            self.wire.push(FrameKind::Cancel, id, Bytes::new());
        }
        self.leave_when_idle();
    }

    /// Grants a stream `bytes` more.
    pub(super) fn grant(&self, id: u64, bytes: u32) {
        let mut body = BytesMut::with_capacity(4);
        body.put_u32(bytes);
        self.wire.push(FrameKind::Credit, id, body.freeze());
    }

    /// Closes the connection.
    pub(super) fn close(&self, reason: CloseReason) {
        self.wire.outbound.close(reason);
    }

    /// Who is at the other end, while calls can be sent.
    pub(super) fn peer_info(&self) -> Option<Arc<PeerInfo>> {
        match &self.table.lock().phase {
            Phase::Open { peer, .. } => Some(peer.clone()),
            _ => None,
        }
    }

    /// Dials, and carries the connection to its end.
    pub(super) async fn run(self: Arc<Self>, link: Arc<Link>) {
        let end = End { conn: self, link };
        let conn = &end.conn;
        let reason = tokio::select! {
            biased;
            reason = conn.live() => reason,
            () = conn.wire.outbound.closed().cancelled() => CloseReason::Local,
            () = conn.watch_deadlines() => CloseReason::Local,
            () = conn.shared.closed.cancelled() => CloseReason::Local,
        };
        conn.close(reason);
    }

    async fn live(self: &Arc<Self>) -> CloseReason {
        let Dialed {
            mut reader,
            writer,
            peer,
        } = match dial(&self.addr, &self.shared).await {
            Ok(dialed) => dialed,
            Err(error) => {
                tracing::debug!(addr = %self.addr, lane = ?self.lane, %error, "no connection");
                self.table.lock().phase = Phase::Opening { failed: Some(error) };
                return CloseReason::Local;
            }
        };
        tracing::debug!(addr = %self.addr, lane = ?self.lane, role = ?peer.role, name = peer.name, "connected");
        self.open(peer);
        let conn = self.clone();
        tokio::spawn(async move { conn.wire.outbound.write_to(writer).await });
        tokio::select! {
            biased;
            reason = self.wire.read_frames(&mut reader, self.as_ref()) => reason,
            reason = self.wire.keep_alive(self.shared.config.keep_alive) => reason,
        }
    }

    /// The connection stands: sends what was called meanwhile.
    fn open(&self, peer: PeerInfo) {
        let mut table = self.table.lock();
        table.phase = Phase::Open {
            since: clock::now(),
            peer: Arc::new(peer),
        };
        table.unsent_bytes = 0;
        for Unsent { id, method, body } in std::mem::take(&mut table.unsent) {
            // Calls whose deadline passed, and cancelled streams, are no longer pending.
            let Some(Entry {
                deadline: Some(deadline),
                ..
            }) = table.pending.get_mut(id)
            else {
                continue;
            };
            let header = self.request_header(id, method, *deadline);
            // The bound held when the calls came; a connection that is closed already is torn down next.
            let _ = self.wire.outbound.push(&header, body, usize::MAX);
        }
    }

    fn enqueue(
        &self,
        table: &mut Table,
        id: u64,
        method: u16,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(), PushError> {
        let bound = self.shared.config.max_queued_bytes;
        if !matches!(table.phase, Phase::Opening { .. }) {
            return self
                .wire
                .outbound
                .push(&self.request_header(id, method, deadline), body, bound);
        }
        // Calls that are given up stay among the unsent, so their number has a bound of its own.
        if table.unsent_bytes >= bound || table.unsent.len() >= self.shared.config.max_calls {
            return Err(PushError::Full);
        }
        table.unsent_bytes += body.len();
        table.unsent.push_back(Unsent { id, method, body });
        Ok(())
    }

    fn request_header(&self, id: u64, method: u16, deadline: Instant) -> FrameHeader {
        let left = deadline.saturating_duration_since(clock::now()).as_millis();
        // 0 would mean no deadline at all.
        let deadline_ms = u32::try_from(left).unwrap_or(u32::MAX).max(1);
        FrameHeader {
            method,
            deadline_ms,
            ..self.wire.header(FrameKind::Request, id)
        }
    }

    fn is_open(&self) -> bool {
        matches!(
            self.table.lock().phase,
            Phase::Open { .. } | Phase::Leaving { .. }
        )
    }

    fn queue_full(&self) -> Error {
        Error::QueueFull {
            addr: self.addr.clone(),
        }
    }

    /// Fails calls at their deadlines, all by one timer.
    async fn watch_deadlines(&self) {
        loop {
            let alarm = self.table.lock().pending.alarm();
            let moved = self.alarm_moved.notified();
            match alarm {
                None => moved.await,
                Some(alarm) => tokio::select! {
                    () = clock::sleep_until(alarm) => self.expire(clock::now()),
                    () = moved => {}
                },
            }
        }
    }

    fn expire(&self, now: Instant) {
        let (sent, expired) = {
            let mut table = self.table.lock();
            (
                !matches!(table.phase, Phase::Opening { .. }),
                table.pending.expire(now),
            )
        };
        for (id, entry) in expired {
            if sent && matches!(entry.waiter, Waiter::Stream(_)) {
                self.wire.push(FrameKind::Cancel, id, Bytes::new());
            }
            entry.waiter.finish(Err(Error::DeadlineExceeded { sent }));
        }
        self.leave_when_idle();
    }

    /// Closes a connection that the peer said goodbye on when nothing waits for an answer any more.
    pub(super) fn leave_when_idle(&self) {
        let idle = {
            let table = self.table.lock();
            matches!(table.phase, Phase::Leaving { .. }) && table.pending.len() == 0
        };
        if idle {
            self.close(CloseReason::PeerLeft);
        }
    }
}

/// Fails what waits when the connection's task ends, be it because the runtime is torn down.
struct End {
    conn: Arc<ClientConn>,
    link: Arc<Link>,
}

impl Drop for End {
    fn drop(&mut self) {
        let conn = &self.conn;
        conn.close(CloseReason::Local);
        let reason = conn.wire.outbound.close_reason().unwrap_or(CloseReason::Local);
        let (phase, entries) = {
            let mut table = conn.table.lock();
            table.unsent.clear();
            (
                std::mem::replace(&mut table.phase, Phase::Ended),
                table.pending.drain(),
            )
        };
        let not_connected = || self.link.unreachable(&reason.to_string());
        let (opened_at, pending_error, later_error) = match phase {
            Phase::Opening { failed } => {
                let error = failed.unwrap_or_else(not_connected);
                (None, error.clone(), error)
            }
            Phase::Open { since, .. } | Phase::Leaving { since } => {
                if reason.is_violation() {
                    tracing::warn!(addr = %conn.addr, lane = ?conn.lane, %reason, "connection closed");
                } else {
                    tracing::debug!(addr = %conn.addr, lane = ?conn.lane, %reason, "connection closed");
                }
                let lost = Error::Lost {
                    addr: conn.addr.clone(),
                    reason: reason.clone(),
                };
                (Some(since), lost, not_connected())
            }
            Phase::Ended => return,
        };
        // First the link, so that a waiter that calls again at once finds the pause in force.
        self.link.ended(
            conn,
            Ending {
                opened_at,
                error: later_error,
            },
        );
        for entry in entries {
            entry.waiter.finish(Err(pending_error.clone()));
        }
    }
}
