//! The sessions of this member: which token each stands for, in memory alone. Pure but for the lock.
//!
//! A session is known by the SHA-256 of what its cookie says. It is nothing by itself: with each request the token behind it
//! is checked as if it had been sent, so a session ends with its token.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_common::access::hash_token;
use holdfast_common::clock::{self, Instant};
use parking_lot::Mutex;

/// How long a session lasts.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// Most sessions; one more takes the place of the one that would end first.
const MAX_SESSIONS: usize = 1_000;

/// Random bytes of what a cookie says.
const ID_BYTES: usize = 32;

/// A session, as requests carry it along.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::admin) struct Held([u8; 32]);

struct Session {
    token: String,
    ends: Instant,
}

/// See the module.
#[derive(Default)]
pub(in crate::admin) struct Register(Mutex<HashMap<Held, Session>>);

impl Register {
    /// Begins a session for a token; returns what its cookie says.
    pub(super) fn open(&self, token: &str, now: Instant) -> String {
        let id = URL_SAFE_NO_PAD.encode(clock::random_secret::<ID_BYTES>());
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= MAX_SESSIONS {
            let first = sessions.iter().min_by_key(|(_, session)| session.ends);
            if let Some(first) = first.map(|(held, _)| *held) {
                sessions.remove(&first);
            }
        }
        let session = Session {
            token: token.to_owned(),
            ends: now + LIFE,
        };
        sessions.insert(Held(hash_token(&id)), session);
        id
    }

    /// The session of a cookie, and its token.
    pub(super) fn find(&self, id: &str, now: Instant) -> Option<(Held, String)> {
        let held = Held(hash_token(id));
        let sessions = self.0.lock();
        let session = sessions.get(&held).filter(|session| session.ends > now)?;
        Some((held, session.token.clone()))
    }

    /// Whether it has not ended.
    pub(in crate::admin) fn is_open(&self, held: Held, now: Instant) -> bool {
        let sessions = self.0.lock();
        sessions.get(&held).is_some_and(|session| session.ends > now)
    }

    /// Ends it.
    pub(super) fn close(&self, held: Held) {
        self.0.lock().remove(&held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_by_time_and_by_word() {
        let register = Register::default();
        let start = clock::now();
        let (first, second) = (register.open("hf_a", start), register.open("hf_b", start));
        assert_ne!(first, second);
        let (held, token) = register.find(&first, start).expect("a session");
        assert_eq!(token, "hf_a");
        assert!(register.find("made up", start).is_none());
        let end = start + LIFE;
        assert!(register.is_open(held, end - Duration::from_secs(1)));
        assert!(!register.is_open(held, end) && register.find(&first, end).is_none());
        register.close(held);
        assert!(register.find(&first, start).is_none());
        assert!(register.find(&second, start).is_some(), "another's");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_than_may_be() {
        let register = Register::default();
        let start = clock::now();
        let first = register.open("hf_first", start);
        let later = start + Duration::from_secs(1);
        for _ in 0..MAX_SESSIONS {
            register.open("hf_more", later);
        }
        assert_eq!(register.0.lock().len(), MAX_SESSIONS);
        assert!(
            register.find(&first, later).is_none(),
            "it would have ended first"
        );
        register.open("hf_last", later + LIFE);
        assert_eq!(register.0.lock().len(), 1, "those that have ended are forgotten");
    }
}
