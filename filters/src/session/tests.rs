use super::*;
use crate::testing::identity;
use std::sync::atomic::{AtomicU64, Ordering};

const START: u64 = 1_800_000_000;

struct Setup {
    now: Arc<AtomicU64>,
    store: Arc<MemorySessions>,
    filter: Session,
}

fn setup(max: usize) -> Setup {
    let now = Arc::new(AtomicU64::new(START));
    let clock = Arc::clone(&now);
    let store = MemorySessions::new(IDLE, max);
    let clock = WallClock::from_fn(move || clock.load(Ordering::SeqCst));
    let config = SessionConfig {
        own_issuer: "i".into(),
    };
    let filter = Session::new(config, Arc::clone(&store) as Arc<dyn SessionStore>, clock);
    Setup { now, store, filter }
}

impl Setup {
    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    fn ask(&self, who: &Identity) -> Option<Reason> {
        self.filter.check(who).err().map(|reply| reply.reason)
    }

    fn session(&self, client: &str) -> Identity {
        let who = identity(client, "pro");
        let id = create(self.store.as_ref(), &who, self.now()).unwrap();
        Identity {
            session_id: Some(id),
            ..who
        }
    }
}

fn of(who: &Identity) -> SessionRef {
    SessionRef::Created(who.session_id.clone().unwrap())
}

#[test]
fn a_session_idles_out_and_use_keeps_it() {
    let setup = setup(1000);
    let who = setup.session("a");
    for _ in 0..3 {
        setup.pass(7199);
        assert_eq!(setup.ask(&who), None);
    }
    let seen = &setup.store.list(setup.now())[0];
    assert_eq!(
        (seen.requests, seen.last_activity, seen.created_at),
        (3, setup.now(), START)
    );
    setup.pass(7200);
    assert_eq!(setup.ask(&who), Some(Reason::SessionExpired));
    assert!(setup.store.list(setup.now()).is_empty());
}

#[test]
fn a_revoked_session_ends_with_the_next_request() {
    let setup = setup(1000);
    let (who, other) = (setup.session("a"), setup.session("a"));
    assert_eq!(setup.ask(&who), None);
    assert!(setup.store.revoke(&of(&who), setup.now()));
    assert_eq!(setup.ask(&who), Some(Reason::SessionRevoked));
    assert_eq!(setup.ask(&other), None);
    assert!(
        !setup
            .store
            .revoke(&SessionRef::parse("no-such-session"), setup.now())
    );
}

#[test]
fn another_clients_session_and_an_unknown_one_open_nothing() {
    let setup = setup(1000);
    let who = setup.session("a");
    let thief = Identity {
        session_id: who.session_id.clone(),
        ..identity("b", "pro")
    };
    assert_eq!(setup.ask(&thief), Some(Reason::TokenInvalid));
    let unknown = Identity {
        session_id: Some("x".into()),
        ..identity("a", "pro")
    };
    assert_eq!(setup.ask(&unknown), Some(Reason::SessionExpired));
}

#[test]
fn revoking_a_client_refuses_its_tokens_from_before_for_as_long_as_they_live() {
    let setup = setup(1000);
    let outside = |iat: u64| Identity {
        issuer: "idp".into(),
        principal: Principal::of("idp", "a"),
        session_id: Some("their-own".into()),
        token_iat: Some(iat),
        ..identity("a", "free")
    };
    assert_eq!(
        setup.ask(&outside(START)),
        None,
        "another issuer's session ids mean nothing here"
    );
    let implicit = SessionRef::parse("client:idp/a");
    assert_eq!(implicit.to_string(), "client:idp/a");
    assert!(setup.store.revoke(&implicit, START));
    assert_eq!(setup.ask(&outside(START)), Some(Reason::SessionRevoked));
    assert_eq!(setup.ask(&outside(START + 1)), None);
    assert_eq!(
        setup.ask(&Identity {
            token_iat: None,
            ..outside(0)
        }),
        Some(Reason::SessionRevoked)
    );
    setup.pass(86_400);
    assert_eq!(setup.ask(&outside(START - 1)), Some(Reason::SessionRevoked));
    let never_seen = SessionRef::parse("client:idp/b");
    assert!(setup.store.revoke(&never_seen, setup.now()));
}

#[test]
fn a_full_store_refuses_new_sessions_forgets_no_revocation_and_lets_clients_pass() {
    let setup = setup(64);
    let banned = identity("banned", "free");
    assert!(
        setup
            .store
            .revoke(&SessionRef::Implicit(banned.principal.clone()), START)
    );
    let full = (0..1000).map(|i| create(setup.store.as_ref(), &identity(&i.to_string(), "free"), START));
    assert!(full.into_iter().any(|made| made == Err(SessionError::Full)));
    for i in 0..1000 {
        assert_eq!(setup.ask(&identity(&format!("c{i}"), "free")), None);
    }
    assert!(setup.store.list(START).len() <= 65);
    assert_eq!(setup.ask(&banned), Some(Reason::SessionRevoked));
    setup.pass(7200);
    assert!(create(setup.store.as_ref(), &identity("late", "free"), setup.now()).is_ok());
}
