//! Writes the initial corpus of each target: the cases of `tests/vectors/`, in the format that the target reads.

use std::{error::Error, fs, path::Path};

use serde_json::Value;

type SeedResult = Result<(), Box<dyn Error>>;

fn main() -> SeedResult {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors = here.join("../tests/vectors");
    let read = |name: &str| -> Result<Value, Box<dyn Error>> {
        Ok(serde_json::from_slice(&fs::read(vectors.join(name))?)?)
    };
    let corpus = here.join("corpus");

    let mut responses = Vec::new();
    for case in cases(&read("token_response.json")?) {
        let status = case["status"].as_u64().unwrap_or(200) as u16;
        let form = case["content_type"]
            .as_str()
            .is_some_and(|media_type| media_type.contains("form"));
        let mut seed = status.saturating_sub(100).to_be_bytes().to_vec();
        seed.push(u8::from(form));
        seed.extend(case["body"].as_str().unwrap_or_default().bytes());
        responses.push(seed);
    }
    write(&corpus.join("token_response"), &responses)?;

    let (mut challenges, mut claims) = (Vec::new(), Vec::new());
    for case in cases(&read("www_authenticate.json")?) {
        let lines = case["www_authenticate"].as_array().into_iter().flatten();
        let lines: Vec<_> = lines.filter_map(Value::as_str).collect();
        challenges.push(lines.join("\n").into_bytes());
        let (_, encoded) = lines.join("").split_once("claims=").map_or_else(
            || (String::new(), String::new()),
            |(before, after)| (before.to_owned(), after.to_owned()),
        );
        let encoded = encoded.trim_start_matches('"');
        if let Some(encoded) = encoded
            .split(['"', ','])
            .next()
            .filter(|text| !text.is_empty())
        {
            claims.push(encoded.as_bytes().to_vec());
        }
    }
    write(&corpus.join("challenge"), &challenges)?;
    write(&corpus.join("claims"), &claims)?;

    let document = serde_json::json!({
        "issuer": "https://login.example/acme",
        "token_endpoint": "https://login.example/acme/token",
        "mtls_endpoint_aliases": { "token_endpoint": "https://mtls.login.example/token" },
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
    });
    let documents = [
        document.to_string().into_bytes(),
        br#"{"issuer":"https://login.example/acme","token_endpoint":"http://127.0.0.1/"}"#.to_vec(),
        br#"{"issuer":"https://evil.example"}"#.to_vec(),
        b"https://login.example/{tenant}/v2.0".to_vec(),
    ];
    write(&corpus.join("metadata"), &documents)
}

fn cases(vectors: &Value) -> impl Iterator<Item = &Value> {
    vectors["cases"].as_array().into_iter().flatten()
}

fn write(folder: &Path, seeds: &[Vec<u8>]) -> SeedResult {
    fs::create_dir_all(folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:03}")), seed)?;
    }
    println!("{}: {} seeds", folder.display(), seeds.len());
    Ok(())
}
