//! What a connection of a client does with the frames it receives.

use bytes::Bytes;

use super::conn::{ClientConn, Phase};
use super::pending::{Entry, Waiter};
use crate::net::conn::Endpoint;
use crate::net::error::{CloseReason, Error, ErrorCode};
use crate::net::frame::{Frame, FrameHeader, FrameKind};

impl Endpoint for ClientConn {
    fn frame(&self, frame: Frame) -> Result<(), CloseReason> {
        let Frame { header, body } = &frame;
        let id = header.request_id;
        match header.kind {
            FrameKind::Response => self.answered(id, |waiter| waiter.finish(Ok(frame.body))),
            FrameKind::Error => {
                let error = self.remote_error(header, body);
                self.answered(id, |waiter| waiter.finish(Err(error)));
            }
            FrameKind::StreamStart => self.stream_begins(id),
            FrameKind::StreamItem => self.stream_item(id, frame.body)?,
            FrameKind::StreamEnd => self.answered(id, Waiter::complete),
            FrameKind::Goodbye => self.goodbye(),
            _ => self.wire.common_frame(&frame)?,
        }
        Ok(())
    }
}

impl ClientConn {
    /// The peer answered: a response, an error, or the end of a stream.
    fn answered(&self, id: u64, tell: impl FnOnce(Waiter)) {
        let (entry, leaving) = {
            let mut table = self.table.lock();
            (
                table.pending.remove(id),
                matches!(table.phase, Phase::Leaving { .. }),
            )
        };
        // A call that was given up at its deadline is gone: its answer is late.
        if let Some(entry) = entry {
            tell(entry.waiter);
        }
        if leaving {
            self.leave_when_idle();
        }
    }

    fn stream_begins(&self, id: u64) {
        let inbox = match self.table.lock().pending.get_mut(id) {
            Some(Entry {
                waiter: Waiter::Stream(inbox),
                deadline,
            }) => {
                *deadline = None;
                Some(inbox.clone())
            }
            _ => None,
        };
        match inbox {
            Some(inbox) => inbox.begin(),
            // Given up before it began (a cancel may have come too early to be understood), or a call, which has no
            // use for a stream.
            None => {
                self.wire.push(FrameKind::Cancel, id, Bytes::new());
                self.answered(id, Waiter::complete);
            }
        }
    }

    fn stream_item(&self, id: u64, body: Bytes) -> Result<(), CloseReason> {
        let inbox = match self.table.lock().pending.get_mut(id) {
            Some(Entry {
                waiter: Waiter::Stream(inbox),
                deadline: None,
            }) => inbox.clone(),
            Some(_) => return Err(CloseReason::Unexpected("an item of what is no stream")),
            // Cancelled; the peer will know soon.
            None => return Ok(()),
        };
        inbox
            .item(body)
            .map_err(|_| CloseReason::Unexpected("more of a stream than was granted"))
    }

    fn remote_error(&self, header: &FrameHeader, body: &[u8]) -> Error {
        match ErrorCode::decode(body) {
            (ErrorCode::WrongCluster, _) => Error::WrongCluster {
                ours: self.shared.cluster.get(),
                theirs: header.cluster_id,
            },
            (code, message) => Error::Remote { code, message },
        }
    }

    fn goodbye(&self) {
        {
            let mut table = self.table.lock();
            if let Phase::Open { since, .. } = table.phase {
                table.phase = Phase::Leaving { since };
            }
        }
        self.leave_when_idle();
    }
}
