//! The refusal list: every known trick, each a row.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::error::TokenError;
use super::keys::{JwtAlgorithm, KeySet, VerifyKey};
use super::ring::KeyRing;
use super::verify::{IssuerConfig, IssuerError, Verifier};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const RSA_PRIVATE: &[u8] = include_bytes!("../../tests/keys/rsa.private.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/keys/rsa.public.pem");
const EC_PRIVATE: &[u8] = include_bytes!("../../tests/keys/ec.private.pem");
const EC_PUBLIC: &[u8] = include_bytes!("../../tests/keys/ec.public.pem");
const ED_PRIVATE: &[u8] = include_bytes!("../../tests/keys/ed.private.pem");
const ED_PUBLIC: &[u8] = include_bytes!("../../tests/keys/ed.public.pem");

fn issuer(name: &str, algorithms: &[&str], keys: Vec<VerifyKey>) -> IssuerConfig {
    IssuerConfig {
        issuer: name.into(),
        audiences: vec!["mcp-edge".into()],
        algorithms: algorithms.iter().map(|a| a.parse().unwrap()).collect(),
        keys: KeyRing::fixed(KeySet::new(keys)),
    }
}

fn verifier() -> Verifier {
    let secret = VerifyKey::secret(Some("k"), &SecretString::from(SECRET)).unwrap();
    let pem = |kid, pem| VerifyKey::pem(Some(kid), pem).unwrap();
    Verifier::new(vec![
        issuer("own", &["HS256"], vec![secret]),
        issuer(
            "idp",
            &["RS256", "PS256", "ES256", "EdDSA"],
            vec![pem("rsa", RSA_PUBLIC), pem("ec", EC_PUBLIC), pem("ed", ED_PUBLIC)],
        ),
    ])
    .unwrap()
}

fn b64(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn signed_text(header: &str, claims: &str, key: &EncodingKey, alg: Algorithm) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, alg).unwrap();
    format!("{message}.{signature}")
}

fn hs(header: &str, claims: &str) -> String {
    signed_text(
        header,
        claims,
        &EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::HS256,
    )
}

fn claims() -> Value {
    json!({"iss": "own", "aud": "mcp-edge", "sub": "c", "iat": NOW, "exp": NOW + 600})
}

fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    claims.to_string()
}

fn without(name: &str) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims.to_string()
}

fn verdict(token: &str) -> Option<TokenError> {
    verifier().verify_now(token, NOW).err()
}

const GOOD: &str = r#"{"alg":"HS256","kid":"k"}"#;

#[test]
fn a_good_token_of_each_algorithm_is_taken() {
    assert_eq!(verdict(&hs(GOOD, &claims().to_string())), None);
    let idp = with("iss", "idp".into());
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE).unwrap();
    let ec = EncodingKey::from_ec_pem(EC_PRIVATE).unwrap();
    let ed = EncodingKey::from_ed_pem(ED_PRIVATE).unwrap();
    for (kid, name, key, alg) in [
        ("rsa", "RS256", &rsa, Algorithm::RS256),
        ("rsa", "PS256", &rsa, Algorithm::PS256),
        ("ec", "ES256", &ec, Algorithm::ES256),
        ("ed", "EdDSA", &ed, Algorithm::EdDSA),
    ] {
        let header = json!({"alg": name, "kid": kid, "typ": "at+jwt"}).to_string();
        assert_eq!(verdict(&signed_text(&header, &idp, key, alg)), None, "{name}");
        let other_kid = json!({"alg": name, "kid": "x"}).to_string();
        assert_eq!(
            verdict(&signed_text(&other_kid, &idp, key, alg)),
            Some(TokenError::UnknownKey)
        );
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        let public = EncodingKey::from_secret(RSA_PUBLIC);
        let confused = signed_text(&header, &idp, &public, Algorithm::HS256);
        assert_eq!(
            verdict(&confused),
            Some(TokenError::Algorithm),
            "HS256 with a public key as secret"
        );
    }
    // Not in the issuer's list, although the key could verify it.
    let header = r#"{"alg":"RS512","kid":"rsa"}"#;
    assert_eq!(
        verdict(&signed_text(header, &idp, &rsa, Algorithm::RS512)),
        Some(TokenError::Algorithm)
    );
    // An algorithm of another key of the issuer.
    let header = r#"{"alg":"ES256","kid":"rsa"}"#;
    assert_eq!(
        verdict(&signed_text(header, &idp, &ec, Algorithm::ES256)),
        Some(TokenError::UnknownKey)
    );
}

#[test]
fn headers_that_are_refused() {
    let claims = claims().to_string();
    for alg in ["none", "None", "nOnE", "", "HS512", "hs256"] {
        let header = json!({"alg": alg}).to_string();
        assert_eq!(
            verdict(&format!("{}.{}.", b64(&header), b64(&claims))),
            Some(TokenError::Algorithm),
            "{alg}"
        );
        assert_eq!(
            verdict(&hs(&header, &claims)),
            Some(TokenError::Algorithm),
            "{alg}"
        );
    }
    assert_eq!(
        verdict(&hs(r#"{"kid":"k"}"#, &claims)),
        Some(TokenError::Algorithm)
    );
    for kid in ["../../etc/passwd", "' OR 1=1 --", "", "K", &"k".repeat(300)] {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        assert_eq!(
            verdict(&hs(&header, &claims)),
            Some(TokenError::UnknownKey),
            "{kid}"
        );
    }
    assert_eq!(
        verdict(&hs(r#"{"alg":"HS256","kid":["k"]}"#, &claims)),
        Some(TokenError::UnknownKey)
    );
    let huge = json!({"alg": "HS256", "kid": "k".repeat(65536)}).to_string();
    assert_eq!(verdict(&hs(&huge, &claims)), Some(TokenError::TooLong));
    for member in ["jku", "x5u", "jwk", "crit"] {
        let mut header = json!({"alg": "HS256", "kid": "k"});
        header[member] = json!(["exp"]);
        assert_eq!(
            verdict(&hs(&header.to_string(), &claims)),
            Some(TokenError::HeaderMember(member))
        );
    }
    for typ in [json!("JWS"), json!("dpop+jwt"), json!(1), json!("")] {
        let header = json!({"alg": "HS256", "kid": "k", "typ": typ}).to_string();
        assert_eq!(verdict(&hs(&header, &claims)), Some(TokenError::Type));
    }
    let twice = r#"{"alg":"none","alg":"HS256","kid":"k"}"#;
    assert_eq!(
        verdict(&hs(twice, &claims)),
        Some(TokenError::Duplicate("header"))
    );
}

#[test]
fn claims_that_are_refused() {
    let ask = |claims: &str| verdict(&hs(GOOD, claims));
    for name in ["exp", "nbf", "iat"] {
        for bad in [
            json!("1800000600"),
            json!(1.8e9 + 0.5),
            json!(1_800_000_600.0),
            json!(-1),
            json!([NOW]),
            json!(null),
            json!(true),
        ] {
            assert_eq!(
                ask(&with(name, bad.clone())),
                Some(TokenError::Form(name)),
                "{name} {bad}"
            );
        }
        let huge = with(name, json!("#")).replace("\"#\"", "1e400");
        assert_eq!(ask(&huge), Some(TokenError::NotObject("claims")), "{name}");
    }
    for name in ["iss", "aud", "exp"] {
        assert_eq!(ask(&without(name)), Some(TokenError::Missing(name)));
    }
    assert_eq!(
        ask(&without("sub")),
        Some(TokenError::Missing("client_id` or `sub"))
    );
    assert_eq!(ask(&with("iss", "other".into())), Some(TokenError::Issuer));
    assert_eq!(ask(&with("iss", json!(["own"]))), Some(TokenError::Form("iss")));
    assert_eq!(
        ask(&with("iss", "idp".into())),
        Some(TokenError::Algorithm),
        "another issuer's key"
    );
    assert_eq!(ask(&with("aud", "other".into())), Some(TokenError::Audience));
    assert_eq!(ask(&with("aud", json!([]))), Some(TokenError::Audience));
    assert_eq!(ask(&with("aud", json!(["x", "mcp-edge"]))), None);
    assert_eq!(
        ask(&with("aud", json!([1, "mcp-edge"]))),
        Some(TokenError::Form("aud"))
    );
    for bad in [
        json!(""),
        json!(1),
        json!("a\nb"),
        json!("ä"),
        json!("x".repeat(257)),
    ] {
        assert_eq!(
            ask(&with("client_id", bad)),
            Some(TokenError::Form("client_id")),
            "never falls back to sub"
        );
    }
    assert_eq!(ask(&with("scope", json!({}))), Some(TokenError::Form("scope")));
    let twice = claims().to_string().replacen('{', r#"{"sub":"admin","#, 1);
    assert_eq!(ask(&twice), Some(TokenError::Duplicate("claims")));
}

#[test]
fn times_at_their_borders() {
    let ask = |claims: &str| verdict(&hs(GOOD, claims));
    let times = |iat: u64, exp: u64| {
        let mut claims = claims();
        (claims["iat"], claims["exp"]) = (iat.into(), exp.into());
        claims.to_string()
    };
    assert_eq!(ask(&times(NOW - 600, NOW - 30)), None, "within the leeway");
    assert_eq!(ask(&times(NOW - 600, NOW - 31)), Some(TokenError::Expired));
    assert_eq!(ask(&with("nbf", (NOW + 30).into())), None);
    assert_eq!(ask(&with("nbf", (NOW + 31).into())), Some(TokenError::NotYet));
    assert_eq!(ask(&with("iat", (NOW + 31).into())), Some(TokenError::NotYet));
    assert_eq!(ask(&times(NOW, NOW + 86_400)), None);
    assert_eq!(ask(&times(NOW, NOW + 86_401)), Some(TokenError::LivesTooLong));
    assert_eq!(ask(&times(NOW, u64::MAX)), Some(TokenError::LivesTooLong));
    assert_eq!(ask(&without("iat")), None);
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("iat");
    endless["exp"] = (NOW + 86_401).into();
    assert_eq!(ask(&endless.to_string()), Some(TokenError::LivesTooLong));
}

#[test]
fn signatures_that_are_refused() {
    let good = hs(GOOD, &claims().to_string());
    let (message, signature) = good.rsplit_once('.').unwrap();
    assert_eq!(verdict(&format!("{message}.")), Some(TokenError::Signature));
    assert_eq!(
        verdict(&format!("{message}.{}", &signature[..8])),
        Some(TokenError::Signature)
    );
    assert_eq!(
        verdict(&format!("{message}.{signature}=")),
        Some(TokenError::Base64("signature"))
    );
    let standard = STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).unwrap());
    assert_eq!(
        verdict(&format!("{message}.{standard}")),
        Some(TokenError::Base64("signature"))
    );
    let zero = URL_SAFE_NO_PAD.encode([0u8; 64]);
    let header = b64(r#"{"alg":"ES256","kid":"ec"}"#);
    let idp = b64(&with("iss", "idp".into()));
    assert_eq!(
        verdict(&format!("{header}.{idp}.{zero}")),
        Some(TokenError::Signature),
        "CVE-2022-21449"
    );
    let other = b64(&with("sub", "admin".into()));
    assert_eq!(
        verdict(&format!("{}.{other}.{signature}", b64(GOOD))),
        Some(TokenError::Signature)
    );
}

#[test]
fn issuers_that_are_mistakes() {
    let make = |issuers: Vec<IssuerConfig>| Verifier::new(issuers).err();
    let twice = vec![issuer("a", &["HS256"], vec![]), issuer("a", &["HS256"], vec![])];
    assert_eq!(make(twice), Some(IssuerError::Twice("a".into())));
    assert_eq!(
        make(vec![issuer("a", &["HS256", "RS256"], vec![])]),
        Some(IssuerError::Mixed("a".into()))
    );
    assert_eq!(
        make(vec![issuer("a", &[], vec![])]),
        Some(IssuerError::NoAlgorithm("a".into()))
    );
    assert_eq!(
        make(vec![issuer("anonymous", &["HS256"], vec![])]),
        Some(IssuerError::Name)
    );
    let deaf = IssuerConfig {
        audiences: vec![],
        ..issuer("a", &["HS256"], vec![])
    };
    assert_eq!(make(vec![deaf]), Some(IssuerError::NoAudience("a".into())));
    assert_eq!(JwtAlgorithm::HS256.to_string(), "HS256");
}
