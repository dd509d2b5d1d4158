//! The refusal list: every token here is good but for the one thing its row names.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::*;
use crate::ids::{RequestId, ServiceName};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PREVIOUS: &str = "fedcba9876543210fedcba9876543210";

struct Config;

impl Tiers for Config {
    fn of(&self, issuer: &str, id: &str) -> Option<TierName> {
        (issuer == "mcp-edge" && id == "vip").then(|| "enterprise".into())
    }
    fn default_tier(&self) -> TierName {
        "free".into()
    }
}

fn verifier() -> Verifier {
    let key = |id: Option<&str>, secret: &str| Key {
        id: id.map(str::to_owned),
        secret: secret.to_owned().into(),
    };
    let issuer = |name: &str, keys, tiers: &[&str]| IssuerConfig {
        issuer: name.into(),
        audience: "mcp-edge".into(),
        keys,
        tiers: tiers.iter().map(|tier| (*tier).into()).collect(),
    };
    let own = issuer(
        "mcp-edge",
        vec![key(Some("now"), SECRET), key(Some("before"), PREVIOUS)],
        &["pro"],
    );
    let other = issuer(
        "other",
        vec![key(None, "another secret of thirty-two bytes.")],
        &[],
    );
    Verifier::new(vec![own, other], Arc::new(Config)).unwrap()
}

fn claims() -> Value {
    json!({"iss": "mcp-edge", "aud": "mcp-edge", "client_id": "codex", "iat": NOW - 10, "exp": NOW + 600})
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

fn sign_text(header: &str, claims: &str, secret: &str) -> String {
    let signed = format!("{}.{}", B64.encode(header), B64.encode(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn sign(claims: &Value) -> String {
    sign_text(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string(), SECRET)
}

fn refused(token: &str) -> String {
    verifier().verify(token, NOW).expect_err(token).to_string()
}

#[test]
fn a_good_token_names_its_client_tier_and_scopes() {
    let token = sign(&with(|c| {
        c["tier"] = "pro".into();
        c["scope"] = "a b".into();
        c["aud"] = json!(["x", "mcp-edge"]);
    }));
    let identity = verifier().verify(&token, NOW).unwrap();
    assert_eq!(
        (identity.principal.as_str(), identity.tier.as_str()),
        ("mcp-edge/codex", "pro")
    );
    assert_eq!(
        identity.scopes.iter().map(|s| &**s).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let sub = sign(&with(|c| {
        c["client_id"] = Value::Null;
        c["sub"] = "me".into();
    }));
    let identity = verifier().verify(&sub, NOW).unwrap();
    assert_eq!((&*identity.id, identity.tier.as_str()), ("me", "free"));
}

#[test]
fn the_configurations_word_on_a_client_beats_its_token() {
    let token = sign(&with(|c| {
        c["client_id"] = "vip".into();
        c["tier"] = "pro".into();
    }));
    assert_eq!(
        verifier().verify(&token, NOW).unwrap().tier.as_str(),
        "enterprise"
    );
}

#[test]
fn the_previous_secret_still_opens_and_a_wrong_kid_does_not() {
    let header = |kid: &str| json!({"alg": "HS256", "kid": kid}).to_string();
    let good = sign_text(&header("before"), &claims().to_string(), PREVIOUS);
    assert!(verifier().verify(&good, NOW).is_ok());
    let crossed = sign_text(&header("now"), &claims().to_string(), PREVIOUS);
    assert!(refused(&crossed).contains("signature"));
    for kid in ["../../etc/passwd", "' OR 1=1 --", &"k".repeat(5000)] {
        assert!(
            refused(&sign_text(&header(kid), &claims().to_string(), SECRET)).contains("kid"),
            "{kid}"
        );
    }
}

#[test]
fn algorithms_are_not_the_tokens_choice() {
    for alg in ["none", "None", "nOnE", "HS384", "RS256", "ES256", ""] {
        let header = json!({"alg": alg}).to_string();
        assert!(
            refused(&sign_text(&header, &claims().to_string(), SECRET)).contains("alg"),
            "{alg}"
        );
        let unsigned = format!("{}.{}.", B64.encode(&header), B64.encode(claims().to_string()));
        assert!(refused(&unsigned).contains("alg"), "{alg}");
    }
}

#[test]
fn keys_in_the_header_are_refused() {
    for member in ["jku", "x5u", "jwk", "x5c", "crit"] {
        let header = json!({"alg": "HS256", member: "https://evil.example/key"}).to_string();
        assert!(
            refused(&sign_text(&header, &claims().to_string(), SECRET)).contains(member),
            "{member}"
        );
    }
    let header = json!({"alg": "HS256", "typ": "dpop+jwt"}).to_string();
    assert!(refused(&sign_text(&header, &claims().to_string(), SECRET)).contains("typ"));
}

#[test]
fn times_are_whole_numbers_within_their_bounds() {
    for claim in ["exp", "nbf", "iat"] {
        for odd in [
            "\"1900000000\"",
            "1900000000.5",
            "1e400",
            "-1",
            "[1900000000]",
            "{}",
            "true",
        ] {
            let text = with(|c| c[claim] = "@".into()).to_string().replace("\"@\"", odd);
            let token = sign_text(r#"{"alg":"HS256"}"#, &text, SECRET);
            assert!(verifier().verify(&token, NOW).is_err(), "{claim}: {odd}");
        }
    }
    let at = |claim: &str, time: u64| sign(&with(|c| c[claim] = time.into()));
    assert!(verifier().verify(&at("exp", NOW - LEEWAY), NOW).is_ok());
    assert!(refused(&at("exp", NOW - LEEWAY - 1)).contains("expired"));
    assert!(verifier().verify(&at("nbf", NOW + LEEWAY), NOW).is_ok());
    assert!(refused(&at("nbf", NOW + LEEWAY + 1)).contains("nbf"));
    assert!(refused(&at("iat", NOW + LEEWAY + 1)).contains("future"));
    assert!(refused(&at("exp", NOW + MAX_LIFE + 1)).contains("24 h"));
}

#[test]
fn each_needed_claim_is_missed_by_name() {
    for claim in ["iss", "aud", "exp"] {
        let token = sign(&with(|c| drop(c.as_object_mut().unwrap().remove(claim))));
        assert_eq!(refused(&token), format!("the claim `{claim}` is missing"));
    }
    let nobody = sign(&with(|c| drop(c.as_object_mut().unwrap().remove("client_id"))));
    assert!(refused(&nobody).contains("client_id"));
}

#[test]
fn wrong_claims_are_refused() {
    assert!(refused(&sign(&with(|c| c["iss"] = "evil".into()))).contains("issuer"));
    assert!(refused(&sign(&with(|c| c["aud"] = "else".into()))).contains("aud"));
    assert!(refused(&sign(&with(|c| c["tier"] = "enterprise".into()))).contains("tier"));
    // A good token of one issuer is nothing at another.
    assert!(refused(&sign(&with(|c| c["iss"] = "other".into()))).contains("signature"));
}

#[test]
fn duplicate_claims_are_refused() {
    for twice in [r#""exp":1"#, r#""client_id":"root""#, r#""zzz":1,"zzz":2"#] {
        let text = claims().to_string().replacen('{', &format!("{{{twice},"), 1);
        let error = refused(&sign_text(r#"{"alg":"HS256"}"#, &text, SECRET));
        assert!(error.contains("twice"), "{twice}: {error}");
    }
    let header = refused(&sign_text(
        r#"{"alg":"none","alg":"HS256"}"#,
        &claims().to_string(),
        SECRET,
    ));
    assert!(header.contains("twice"), "{header}");
}

#[test]
fn only_strict_base64url_is_a_token() {
    let good = sign(&claims());
    assert!(verifier().verify(&good, NOW).is_ok());
    for bad in [
        format!("{good}="),
        format!("{good}."),
        good.replace('.', " ."),
        format!("x{good}"),
        String::new(),
        "a.b".into(),
        good.replacen('.', "..", 1),
    ] {
        assert!(verifier().verify(&bad, NOW).is_err(), "{bad}");
    }
    let (rest, _) = good.rsplit_once('.').unwrap();
    assert!(refused(&format!("{rest}.{}", B64.encode([0_u8; 32]))).contains("signature"));
    assert!(refused(&"a".repeat(9000)).contains("8 KiB"));
}

#[test]
fn weak_and_doubled_issuers_do_not_start() {
    let issuer = |secret: &str| IssuerConfig {
        issuer: "i".into(),
        audience: "a".into(),
        keys: vec![Key {
            id: None,
            secret: secret.to_owned().into(),
        }],
        tiers: Vec::new(),
    };
    let make = |issuers| Verifier::new(issuers, Arc::new(Config)).map(drop);
    assert!(matches!(
        make(vec![issuer("short")]),
        Err(IssuerError::ShortSecret(_))
    ));
    assert!(matches!(
        make(vec![issuer(SECRET), issuer(SECRET)]),
        Err(IssuerError::Twice(_))
    ));
    assert!(matches!(
        make(vec![IssuerConfig {
            keys: Vec::new(),
            ..issuer(SECRET)
        }]),
        Err(IssuerError::NoKey(_))
    ));
}

fn request(authorization: &[&str], loopback: bool) -> Request {
    let mut req = Request::new(RequestId::new("r"), Method::POST, "/mcp/x", ServiceName::new("x"));
    req.authorization = authorization.iter().map(|text| text.parse().unwrap()).collect();
    req.listener_loopback = loopback;
    req
}

async fn reason(filter: &JwtAuth, mut req: Request) -> Option<Reason> {
    match filter.on_request(&mut req).await {
        Verdict::Continue => None,
        Verdict::Reply(reply) => Some(reply.reason),
    }
}

#[tokio::test]
async fn the_filter_says_which_refusal_it_is() {
    let filter = JwtAuth::new(verifier(), None, WallClock::from_fn(|| NOW));
    let good = format!("bearer {}", sign(&claims()));
    let expired = format!("Bearer {}", sign(&with(|c| c["exp"] = (NOW - 100).into())));
    let cases: [(&[&str], Option<Reason>); 6] = [
        (&[], Some(Reason::TokenMissing)),
        (&[&good], None),
        (&[&expired], Some(Reason::TokenExpired)),
        (&["Basic eDp5"], Some(Reason::TokenInvalid)),
        (&["Bearer"], Some(Reason::TokenInvalid)),
        (&[&good, &good], Some(Reason::BadRequest)),
    ];
    for (headers, wanted) in cases {
        assert_eq!(
            reason(&filter, request(headers, true)).await,
            wanted,
            "{headers:?}"
        );
    }
}

#[tokio::test]
async fn anonymous_clients_come_in_on_loopback_only() {
    let filter = JwtAuth::new(verifier(), Some("free".into()), WallClock::from_fn(|| NOW));
    assert_eq!(reason(&filter, request(&[], true)).await, None);
    assert_eq!(
        reason(&filter, request(&[], false)).await,
        Some(Reason::TokenMissing)
    );
    // Who shows a token is held to it.
    assert_eq!(
        reason(&filter, request(&["Bearer x.y.z"], true)).await,
        Some(Reason::TokenInvalid)
    );
}

#[tokio::test]
async fn a_remembered_token_is_forgotten_when_it_expires() {
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = now.clone();
    let filter = JwtAuth::new(
        verifier(),
        None,
        WallClock::from_fn(move || clock.load(Ordering::Relaxed)),
    );
    let short = format!("Bearer {}", sign(&with(|c| c["exp"] = (NOW + 5).into())));
    assert_eq!(reason(&filter, request(&[&short], false)).await, None);
    now.store(NOW + 5 + LEEWAY, Ordering::Relaxed);
    assert_eq!(
        reason(&filter, request(&[&short], false)).await,
        None,
        "within the leeway"
    );
    now.store(NOW + 6 + LEEWAY, Ordering::Relaxed);
    assert_eq!(
        reason(&filter, request(&[&short], false)).await,
        Some(Reason::TokenExpired)
    );
}
