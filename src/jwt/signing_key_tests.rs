//! These tests read keys in each format and verify their signatures.

use std::{collections::HashSet, fs};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{SigningAlgorithm, SigningKey, key_material::KeyMaterial};
use crate::{error::ErrorKind, util::pem};

fn vector(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/keys");
    fs::read_to_string(format!("{folder}/{name}")).unwrap()
}

fn facts() -> Value {
    serde_json::from_str(&vector("facts.json")).unwrap()
}

fn claims() -> Map<String, Value> {
    let Value::Object(claims) = json!({"iss": "orders", "exp": 1_700_000_000}) else {
        unreachable!()
    };
    claims
}

fn verifier(algorithm: SigningAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        SigningAlgorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        SigningAlgorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        SigningAlgorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        SigningAlgorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        SigningAlgorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
        SigningAlgorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
        SigningAlgorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
        SigningAlgorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
        SigningAlgorithm::EdDSA => &ED25519,
    }
}

/// Verifies a signature with the public key that OpenSSL wrote, and returns the header.
fn verified(line: &str, algorithm: SigningAlgorithm, name: &str) -> Value {
    let public = vector(&format!("{name}.public.pem"));
    let public = pem::sections(&public).next().unwrap().der.unwrap();
    let (signed, signature) = line.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = ParsedPublicKey::new(verifier(algorithm), public.as_slice()).unwrap();
    key.verify_sig(signed.as_bytes(), &signature).unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&payload).unwrap(),
        Value::Object(claims())
    );
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

const KEYS: [(&str, SigningAlgorithm, &[&str]); 4] = [
    (
        "rsa",
        SigningAlgorithm::RS256,
        &["rsa.pkcs8.pem", "rsa.pkcs1.pem"],
    ),
    (
        "p256",
        SigningAlgorithm::ES256,
        &["p256.pkcs8.pem", "p256.sec1.pem"],
    ),
    (
        "p384",
        SigningAlgorithm::ES384,
        &["p384.pkcs8.pem", "p384.sec1.pem"],
    ),
    ("ed25519", SigningAlgorithm::EdDSA, &["ed25519.pkcs8.pem"]),
];

#[test]
fn keys_of_every_format_sign_verifiably() {
    for (name, usual, files) in KEYS {
        for file in files {
            let key = SigningKey::from_pem(vector(file)).unwrap();
            let header = verified(&key.sign(&claims()).unwrap(), usual, name);
            assert_eq!(header, json!({"alg": usual.as_str(), "typ": "JWT"}));
        }
        let key = SigningKey::from_jwk(vector(&format!("{name}.jwk.json"))).unwrap();
        // The JWK of the RSA key has its own `alg`.
        let algorithm = match name {
            "rsa" => SigningAlgorithm::PS256,
            _ => usual,
        };
        let header = verified(&key.sign(&claims()).unwrap(), algorithm, name);
        let kid = format!("{name}-1");
        assert_eq!(
            header,
            json!({"alg": algorithm.as_str(), "typ": "JWT", "kid": kid})
        );
    }
}

#[test]
fn rsa_key_supports_six_algorithms() {
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let algorithm = algorithm.parse().unwrap();
        for key in [
            SigningKey::from_pem(vector("rsa.pkcs8.pem")).unwrap(),
            SigningKey::from_jwk(vector("rsa.jwk.json")).unwrap(),
        ] {
            let key = key.with_algorithm(algorithm).with_key_id("mine");
            key.check().unwrap();
            let header = verified(&key.sign(&claims()).unwrap(), algorithm, "rsa");
            assert_eq!(
                (&header["alg"], &header["kid"]),
                (&json!(algorithm.as_str()), &json!("mine"))
            );
        }
    }
}

#[test]
fn deterministic_signatures_match_the_vectors() {
    let facts = facts();
    for (file, algorithm) in [
        ("rsa.pkcs8.pem", SigningAlgorithm::RS256),
        ("rsa.pkcs8.pem", SigningAlgorithm::RS384),
        ("rsa.pkcs1.pem", SigningAlgorithm::RS512),
        ("ed25519.pkcs8.pem", SigningAlgorithm::EdDSA),
    ] {
        let key = SigningKey::from_pem(vector(file)).unwrap();
        let signature = key.material().unwrap().pair.sign(algorithm, b"message");
        let (name, _) = file.split_once('.').unwrap();
        let wanted = &facts[name][algorithm.as_str()];
        assert_eq!(*wanted, URL_SAFE_NO_PAD.encode(signature.unwrap()));
    }
}

#[test]
fn ed25519_signature_matches_rfc_8037() {
    // RFC 8037, Appendix A.1 and A.4.
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let wanted =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let key = SigningKey::from_jwk(jwk).unwrap().material().unwrap();
    let signature = key.pair.sign(SigningAlgorithm::EdDSA, signed.as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.encode(signature.unwrap()), wanted);
}

#[test]
fn ecdsa_signatures_have_a_fixed_length() {
    // RFC 7515, Appendix A.3.1.
    let jwk = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;
    let key = SigningKey::from_jwk(jwk).unwrap();
    let mut seen = HashSet::new();
    // In DER, one in 128 signatures would be shorter.
    for _ in 0..300 {
        let line = key.sign(&claims()).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(line.rsplit_once('.').unwrap().1);
        assert_eq!(signature.unwrap().len(), 64);
        seen.insert(line.to_string());
    }
    assert_eq!(seen.len(), 300);
}

#[test]
fn error_of_an_unsupported_algorithm_names_the_key_type() {
    for (name, _, files) in KEYS {
        for algorithm in ["RS256", "PS512", "ES256", "ES384", "EdDSA"] {
            let key = SigningKey::from_pem(vector(files[0])).unwrap();
            let key = key.with_algorithm(algorithm.parse().unwrap());
            let fits = match name {
                "rsa" => {
                    algorithm.contains("S2") && !algorithm.starts_with('E') || algorithm == "PS512"
                }
                "p256" => algorithm == "ES256",
                "p384" => algorithm == "ES384",
                _ => algorithm == "EdDSA",
            };
            assert_eq!(key.check().is_ok(), fits, "{name} {algorithm}");
            assert_eq!(key.sign(&claims()).is_ok(), fits, "{name} {algorithm}");
            if !fits {
                let error = key.check().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Configuration);
                let kind = key.material().unwrap().pair.description();
                let text = error.to_string();
                assert!(text.contains(algorithm) && text.contains(kind), "{text}");
            }
        }
    }
}

#[test]
fn header_names_only_the_matching_certificate() {
    let facts = facts();
    for (name, usual, files) in KEYS {
        let certificate = vector(&format!("{name}.certificate.pem"));
        let thumbprint = &facts[name]["x5t#S256"];
        let key = SigningKey::from_pem(vector(files[0])).unwrap();
        let key = key.with_certificate_pem(&certificate).unwrap();
        let header = verified(&key.sign(&claims()).unwrap(), usual, name);
        assert_eq!(header["x5t#S256"], *thumbprint);

        // Key and certificate are in one file, in either order, next to the certificate of another key.
        let other = vector(if name == "rsa" {
            "p256.certificate.pem"
        } else {
            "rsa.certificate.pem"
        });
        let private = vector(files[0]);
        for text in [
            format!("{private}{other}{certificate}"),
            format!("{other}{certificate}{private}"),
        ] {
            let key = SigningKey::from_pem(text).unwrap();
            let header = verified(&key.sign(&claims()).unwrap(), usual, name);
            assert_eq!(header["x5t#S256"], *thumbprint);
        }
        let key = SigningKey::from_pem(vector(files[0])).unwrap();
        let error = key.clone().with_certificate_pem(other).unwrap_err();
        assert!(error.to_string().contains("another key"), "{error}");
        let error = key.with_certificate_pem("junk").unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}

#[test]
fn error_of_an_unusable_key_names_the_remedy() {
    for (file, part) in [
        ("refused.rsa1024.pem", "2048 bits"),
        ("refused.p521.pem", "P-384"),
        ("refused.secp256k1.pem", "P-256"),
        ("refused.encrypted.pem", "openssl pkey"),
        ("refused.sec1-encrypted.pem", "openssl pkey"),
        ("rsa.public.pem", "no private key"),
        ("rsa.certificate.pem", "no private key"),
    ] {
        let error = SigningKey::from_pem(vector(file)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(part), "{file}: {error}");
    }
    for (text, part) in [
        (vector("rsa.public.jwk.json"), "no d"),
        (vector("p256.public.jwk.json"), "no d"),
        (vector("ed25519.public.jwk.json"), "no d"),
        (
            vector("p256.jwk.json").replace("P-256", "P-384"),
            "not a valid key",
        ),
        (
            vector("p256.jwk.json").replace("P-256", "P-521"),
            "unsupported type",
        ),
        (vector("rsa.jwk.json").replace("\"p\"", "\"x\""), "no p"),
        (
            vector("rsa.jwk.json")
                .replace("\"p\"", "\"x\"")
                .replace("\"q\"", "\"p\"")
                .replace("\"x\"", "\"q\""),
            "not a valid key",
        ),
        (
            vector("rsa.jwk.json").replace("PS256", "HS256"),
            "algorithm",
        ),
        (r#"{"keys":[]}"#.into(), "set of JWKs"),
        (r#"{"kty":"oct","k":"hunter2"}"#.into(), "unsupported type"),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"hun!ter2"}"#.into(),
            "base64url",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA","d":"AAAA"}"#.into(),
            "not a valid key",
        ),
        ("hunter2".into(), "neither PEM nor a JWK"),
        ("[]".into(), "neither PEM nor a JWK"),
    ] {
        let error = SigningKey::from_jwk(&text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn unsupported_alg_of_a_jwk_is_reported_on_use() {
    let key = SigningKey::from_jwk(vector("rsa.jwk.json").replace("PS256", "ES256")).unwrap();
    let error = key.check().unwrap_err().to_string();
    assert!(error.contains("ES256") && error.contains("RSA"), "{error}");
    key.with_algorithm(SigningAlgorithm::RS256).check().unwrap();
}

#[test]
fn key_in_a_file_is_read_again_after_a_change() {
    let path = std::env::temp_dir().join(format!("tower-bearer-key-{}", std::process::id()));
    fs::write(&path, vector("p256.sec1.pem")).unwrap();
    let key = SigningKey::from_file(&path).unwrap();
    let first = key.fingerprint().unwrap();
    verified(
        &key.sign(&claims()).unwrap(),
        SigningAlgorithm::ES256,
        "p256",
    );
    assert_eq!(key.fingerprint().unwrap(), first);

    fs::write(&path, vector("rsa.jwk.json")).unwrap();
    assert_ne!(key.fingerprint().unwrap(), first);
    let header = verified(
        &key.sign(&claims()).unwrap(),
        SigningAlgorithm::PS256,
        "rsa",
    );
    assert_eq!(header["kid"], "rsa-1");

    fs::write(&path, "hunter2").unwrap();
    let error = key.sign(&claims()).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        shown.contains("tower-bearer-key") && !shown.contains("hunter2"),
        "{shown}"
    );
    fs::remove_file(&path).unwrap();
    let error = key.check().unwrap_err();
    assert!(error.to_string().contains("can't read"), "{error}");
}

#[test]
fn debug_output_hides_the_key() {
    for (name, _, files) in KEYS {
        let text = vector(files[0]);
        let key = SigningKey::from_pem(&text).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(redacted)", "{name}");
    }
}

/// Returns `true` if the output contains 16 consecutive characters of the secret.
fn leaks_part_of(secret: &str, shown: &str) -> bool {
    let secret = secret.as_bytes();
    secret.windows(16).any(|part| {
        let part = str::from_utf8(part).unwrap_or("\0");
        part.bytes().all(|byte| byte.is_ascii_alphanumeric()) && shown.contains(part)
    })
}

proptest! {
    #[test]
    fn damaged_keys_neither_panic_nor_leak(
        file in prop::sample::select(vec!["rsa.pkcs8.pem", "rsa.pkcs1.pem", "p256.sec1.pem", "p384.pkcs8.pem",
            "ed25519.pkcs8.pem", "rsa.jwk.json", "p384.jwk.json", "ed25519.jwk.json"]),
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<char>(), 0..4),
        cut in any::<bool>(),
    ) {
        let text = vector(file);
        let at = at.index(text.len());
        let with: String = with.into_iter().collect();
        let rest = if cut { "" } else { text.get(at + 1..).unwrap_or_default() };
        let broken = format!("{}{with}{rest}", &text[..at]);
        for outcome in [SigningKey::from_pem(&broken), SigningKey::from_jwk(&broken), KeyMaterial::parse(&broken).map(SigningKey::in_memory)] {
            let shown = match outcome {
                Ok(key) => format!("{key:?} {:?} {:?}", key.check(), key.fingerprint()),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!leaks_part_of(&text, &shown), "{}", shown);
        }
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in any::<String>(), pem in "(-----BEGIN [A-Z ]{0,20}-----)?[A-Za-z0-9+/=\n]{0,80}(-----END [A-Z]{0,9}-----)?") {
        for text in [&text, &pem] {
            let _ = SigningKey::from_pem(text);
            let _ = SigningKey::from_jwk(text);
        }
    }
}
