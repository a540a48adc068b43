//! Signs JWTs outside the library, as a platform does.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{rand::SystemRandom, rsa::KeyPair, signature::RSA_PKCS1_SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

/// Returns the claims of a JWT that `name` issues about itself, valid for a minute and for one use.
pub(crate) fn about_itself(name: &str, audience: &str) -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let id = format!("{}-{}", now.as_nanos(), COUNT.fetch_add(1, Relaxed));
    json!({ "iss": name, "sub": name, "aud": audience, "exp": now.as_secs() + 60, "jti": id })
}

/// Signs claims with RS256 and a private key (PKCS#8 in PEM).
pub(crate) fn rs256(key: &str, claims: &Value) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({ "alg": "RS256", "typ": "JWT" }).to_string();
    let text = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = KeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    let random = SystemRandom::new();
    key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
        .unwrap();
    format!("{text}.{}", encode(&signature))
}
