use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;

use super::*;
use crate::jwt::keys::{JwtAlgorithm, KeySet, SigningKey, VerifyKey};
use crate::jwt::ring::KeyRing;
use crate::token::{MintSpec, mint};

const NOW: u64 = 1_800_000_000;
const CURRENT: &str = "current-current-current-current-";
const PREVIOUS: &str = "previous-previous-previous-previ";

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn token(client: &str, tier: Option<&str>) -> String {
    let spec = MintSpec {
        issuer: "mcp-edge".into(),
        audience: "mcp-edge".into(),
        client_id: client.into(),
        tier: tier.map(Into::into),
        lifetime: Duration::from_secs(3600),
        ..Default::default()
    };
    mint(
        &spec,
        &SigningKey::secret(Some("new"), &secret(CURRENT)).unwrap(),
        NOW,
    )
    .unwrap()
}

fn filter(anonymous: Option<&str>, clock: WallClock) -> JwtAuth {
    let keys = vec![
        VerifyKey::secret(Some("new"), &secret(CURRENT)).unwrap(),
        VerifyKey::secret(Some("old"), &secret(PREVIOUS)).unwrap(),
    ];
    let config = JwtAuthConfig {
        issuers: vec![IssuerConfig {
            issuer: "mcp-edge".into(),
            audiences: vec!["mcp-edge".into()],
            algorithms: vec![JwtAlgorithm::HS256],
            keys: KeyRing::fixed(KeySet::new(keys)),
        }],
        tiers: TierRules {
            clients: HashMap::from([(Principal::of("mcp-edge", "claude-code"), "enterprise".into())]),
            claimable: HashMap::from([("mcp-edge".into(), vec!["pro".into()])]),
            default: "free".into(),
        },
        anonymous: anonymous.map(Into::into),
        resource_metadata: Some("https://x/.well-known/oauth-protected-resource/mcp/{service}".into()),
    };
    JwtAuth::new(config, clock).unwrap()
}

fn at(now: u64) -> WallClock {
    WallClock::from_fn(move || now)
}

async fn ask(filter: &JwtAuth, loopback: bool, headers: &[&str]) -> Result<Arc<Identity>, Reply> {
    let mut req = Request::new("r".into(), http::Method::POST, "/mcp/files", "files".into());
    req.listener_loopback = loopback;
    req.authorization = headers
        .iter()
        .map(|h| HeaderValue::from_bytes(h.as_bytes()).unwrap())
        .collect();
    match filter.on_request(&mut req).await {
        Verdict::Continue => Ok(req.identity.unwrap()),
        Verdict::Reply(reply) => Err(*reply),
    }
}

#[tokio::test]
async fn the_tier_comes_from_the_config_then_from_a_claim_the_issuer_may_make() {
    let filter = filter(None, at(NOW));
    let tier = async |client: &str, claim: Option<&str>| {
        let header = format!("Bearer {}", token(client, claim));
        ask(&filter, false, &[&header]).await.unwrap().tier.to_string()
    };
    assert_eq!(tier("claude-code", Some("pro")).await, "enterprise");
    assert_eq!(tier("codex", Some("pro")).await, "pro");
    assert_eq!(tier("codex", Some("enterprise")).await, "free");
    assert_eq!(tier("codex", None).await, "free");
}

#[tokio::test]
async fn one_header_of_one_scheme() {
    let filter = filter(None, at(NOW));
    let good = token("codex", None);
    for header in [
        format!("Bearer {good}"),
        format!("bearer {good}"),
        format!("BEARER   {good} "),
    ] {
        assert_eq!(
            &*ask(&filter, false, &[&header]).await.unwrap().id,
            "codex",
            "{header}"
        );
    }
    let header = format!("Bearer {good}");
    assert_eq!(
        ask(&filter, false, &[&header, &header]).await.unwrap_err().reason,
        Reason::BadRequest
    );
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "Basic eA==",
        &good,
        &format!("Bearer {good} x"),
        "Bearer ä",
    ] {
        assert_eq!(
            ask(&filter, false, &[bad]).await.unwrap_err().reason,
            Reason::TokenInvalid,
            "{bad}"
        );
    }
    let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
    assert_eq!(
        ask(&filter, false, &[&long]).await.unwrap_err().reason,
        Reason::TokenInvalid
    );
}

#[tokio::test]
async fn without_a_token_only_loopback_and_only_if_allowed() {
    let allowed = filter(Some("free"), at(NOW));
    let identity = ask(&allowed, true, &[]).await.unwrap();
    assert_eq!(
        (identity.principal.as_str(), identity.tier.as_str()),
        ("anonymous/anonymous", "free")
    );
    assert_eq!(
        ask(&allowed, false, &[]).await.unwrap_err().reason,
        Reason::TokenMissing
    );
    assert_eq!(
        ask(&filter(None, at(NOW)), true, &[]).await.unwrap_err().reason,
        Reason::TokenMissing
    );
    assert_eq!(
        ask(&allowed, true, &["Bearer junk"]).await.unwrap_err().reason,
        Reason::TokenInvalid,
        "a bad token does not become anonymous"
    );
}

#[tokio::test]
async fn a_401_names_the_resource_metadata_of_the_service() {
    let reply = ask(&filter(None, at(NOW)), false, &[]).await.unwrap_err();
    let (name, value) = &reply.headers[0];
    assert_eq!(name, WWW_AUTHENTICATE);
    assert_eq!(
        value.to_str().unwrap(),
        "Bearer realm=\"mcp-edge\", resource_metadata=\"https://x/.well-known/oauth-protected-resource/mcp/files\""
    );
}

#[tokio::test]
async fn the_previous_secret_still_verifies_by_kid() {
    let spec = MintSpec {
        issuer: "mcp-edge".into(),
        audience: "mcp-edge".into(),
        client_id: "codex".into(),
        lifetime: Duration::from_secs(60),
        ..Default::default()
    };
    let with = |kid: Option<&str>, text: &str| {
        format!(
            "Bearer {}",
            mint(&spec, &SigningKey::secret(kid, &secret(text)).unwrap(), NOW).unwrap()
        )
    };
    let filter = filter(None, at(NOW));
    for good in [
        with(Some("old"), PREVIOUS),
        with(None, PREVIOUS),
        with(None, CURRENT),
    ] {
        assert!(ask(&filter, false, &[&good]).await.is_ok());
    }
    for bad in [
        with(Some("old"), CURRENT),
        with(Some("gone"), CURRENT),
        with(None, &"z".repeat(32)),
    ] {
        assert_eq!(
            ask(&filter, false, &[&bad]).await.unwrap_err().reason,
            Reason::TokenInvalid
        );
    }
}

#[tokio::test]
async fn a_cached_token_still_expires() {
    let now = Arc::new(AtomicU64::new(NOW + 3590));
    let clock = Arc::clone(&now);
    let filter = filter(None, WallClock::from_fn(move || clock.load(Ordering::SeqCst)));
    let header = format!("Bearer {}", token("codex", None));
    let first = ask(&filter, false, &[&header]).await.unwrap();
    let again = ask(&filter, false, &[&header]).await.unwrap();
    assert!(
        Arc::ptr_eq(&first, &again),
        "the second time comes from the cache"
    );
    now.store(NOW + 3631, Ordering::SeqCst);
    assert_eq!(
        ask(&filter, false, &[&header]).await.unwrap_err().reason,
        Reason::TokenExpired
    );
}

#[test]
fn the_self_test_passes_in_this_build() {
    assert_eq!(self_test(), Ok(()));
}
