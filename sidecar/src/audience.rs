//! The sessions that share one process (`isolation: shared`), and who of them watches which resource.
//!
//! Invariant: a resource update reaches exactly the sessions that subscribed to it, and the server keeps
//! a subscription exactly as long as one session has it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::session::Session;

/// Resources watched at most through one process.
const MAX_WATCHED: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Audience {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<u64, Weak<Session>>,
    watchers: HashMap<String, Vec<u64>>,
}

impl Audience {
    pub(crate) fn join(&self, session: &Arc<Session>) {
        self.inner
            .lock()
            .sessions
            .insert(session.number(), Arc::downgrade(session));
    }

    /// Removes a session; the resources that nobody watches any more.
    pub(crate) fn leave(&self, session: u64) -> Vec<String> {
        let mut inner = self.inner.lock();
        inner.sessions.remove(&session);
        let mut freed = Vec::new();
        inner.watchers.retain(|uri, watchers| {
            watchers.retain(|number| *number != session);
            if watchers.is_empty() {
                freed.push(uri.clone());
            }
            !watchers.is_empty()
        });
        freed
    }

    /// Notes a subscription; false if there are too many.
    pub(crate) fn watch(&self, session: u64, uri: &str) -> bool {
        let mut inner = self.inner.lock();
        if inner.watchers.len() >= MAX_WATCHED && !inner.watchers.contains_key(uri) {
            return false;
        }
        let watchers = inner.watchers.entry(uri.to_owned()).or_default();
        if !watchers.contains(&session) {
            watchers.push(session);
        }
        true
    }

    /// True if nobody else watches it, so that the server has to be told.
    pub(crate) fn unwatch(&self, session: u64, uri: &str) -> bool {
        let mut inner = self.inner.lock();
        let Some(watchers) = inner.watchers.get_mut(uri) else {
            return true;
        };
        watchers.retain(|number| *number != session);
        if !watchers.is_empty() {
            return false;
        }
        inner.watchers.remove(uri);
        true
    }

    /// All sessions, or those that watch `uri`.
    pub(crate) fn sessions(&self, uri: Option<&str>) -> Vec<Arc<Session>> {
        let inner = self.inner.lock();
        match uri {
            None => inner.sessions.values().filter_map(Weak::upgrade).collect(),
            Some(uri) => {
                let watchers = inner.watchers.get(uri).into_iter().flatten();
                watchers
                    .filter_map(|number| inner.sessions.get(number)?.upgrade())
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_with_the_last_watcher_only() {
        let audience = Audience::default();
        assert!(audience.watch(1, "a") && audience.watch(2, "a") && audience.watch(1, "b"));
        assert!(!audience.unwatch(1, "a"));
        assert!(audience.unwatch(2, "a"));
        assert!(audience.unwatch(2, "never watched"));
        assert_eq!(audience.leave(1), ["b"]);
        assert!(audience.leave(1).is_empty());
    }
}
