//! Tests configurations in JSON and TOML, and their errors.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tower_bearer::{
    TokenSpec,
    config::{Config, ConfigDuration, ConfigSize},
};

const SECRET: &str = "hunter2-and-more";

/// Reads the document and returns the error.
fn error_of(document: serde_json::Value) -> String {
    let error = serde_json::from_value::<Config>(document).unwrap_err();
    error.to_string()
}

fn document() -> serde_json::Value {
    json!({
        "source": {
            "type": "client_credentials",
            "token_url": "https://login.example/token",
            "client_id": "orders",
            "client_secret": SECRET,
            "extra": { "parameter": SECRET },
            "fetch_timeout": "3s",
        },
        "cache": { "max_entries": 10, "max_bytes": 65536, "assumed_lifetime": null },
        "route": [
            { "url": "https://a.example", "scopes": ["b", "a"], "resource": "urn:one" },
            { "url": "https://b.example/v2", "resource": ["urn:one", "urn:two"], "allow_scopes": ["*"] },
        ],
    })
}

#[test]
fn json_is_read_like_toml() {
    let config: Config = serde_json::from_value(document()).unwrap();
    assert_eq!(config.cache.max_bytes, Some(ConfigSize(65536)));
    assert_eq!(config.cache.assumed_lifetime, None);
    let fetch_timeout = config.source.fetch_timeout;
    assert_eq!(fetch_timeout, Some(ConfigDuration(Duration::from_secs(3))));
    let [first, second] = &*config.routes else {
        panic!("{:?}", config.routes)
    };
    let expected = TokenSpec::scopes(["a", "b"]).with_resource("urn:one");
    assert_eq!(first.spec(), expected);
    assert_eq!(second.spec().iter_resources().count(), 2);
    assert!(second.allows_scope("any") && !first.allows_scope("any"));
    assert!(first.allows_resource("urn:one") && !first.allows_resource("urn:two"));

    let cache = config.cache().unwrap();
    let layer = config.layer(&cache).unwrap();
    let url = "https://b.example/v2/x".parse().unwrap();
    let route = layer.match_route(&url).unwrap().unwrap();
    assert_eq!(route.to_string(), "https://b.example/v2");
}

#[test]
fn debug_shows_no_secret() {
    let config: Config = serde_json::from_value(document()).unwrap();
    let output = format!("{config:?} {config:#?}");
    for part in ["orders", "https://a.example"] {
        assert!(output.contains(part), "{output}");
    }
    assert!(!output.contains("hunter2"), "{output}");
}

#[test]
fn errors_of_any_format_echo_no_value() {
    for (pointer, value) in [
        ("/source/client_secret", json!([SECRET])),
        ("/source/client_secret", json!({ SECRET: SECRET })),
        ("/source/client_secret", json!({ "env": [SECRET] })),
        ("/source/client_auth", json!(SECRET)),
        ("/source/type", json!(SECRET)),
        ("/source/extra", json!(SECRET)),
        ("/source/fetch_timeout", json!(SECRET)),
        ("/cache/max_entries", json!(SECRET)),
        ("/cache", json!([SECRET])),
        ("/route", json!(SECRET)),
        ("/route/0/scopes", json!({ "x": SECRET })),
        ("/route/0", json!(SECRET)),
        ("/source", json!(12345)),
    ] {
        let mut text = document();
        // Only `client_auth` is missing in the document.
        match text.pointer_mut(pointer) {
            Some(target) => *target = value,
            None => text["source"]["client_auth"] = value,
        }
        let toml = toml::from_str::<Config>(&as_toml(&text)).unwrap_err();
        let key = pointer.split('/').nth(1).unwrap();
        for message in [&*error_of(text), toml.message()] {
            for secret in ["hunter2", "12345"] {
                assert!(!message.contains(secret), "{message}");
            }
            assert!(message.starts_with(key), "{pointer}: {message}");
        }
    }
}

/// Writes one line for each top-level key, with inline tables.
fn as_toml(document: &serde_json::Value) -> String {
    use serde_json::Value;

    fn inline(value: &Value) -> String {
        match value {
            Value::Object(table) => {
                let table = table.iter().filter(|(_, value)| !value.is_null());
                let pairs = table.map(|(key, value)| format!("'{key}' = {}", inline(value)));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
            Value::Array(list) => {
                let list: Vec<_> = list.iter().map(inline).collect();
                format!("[{}]", list.join(", "))
            }
            other => other.to_string(),
        }
    }
    let table = document.as_object().unwrap().iter();
    let lines = table.map(|(key, value)| format!("{key} = {}\n", inline(value)));
    lines.collect()
}

#[test]
fn duplicate_key_is_an_error() {
    let text = format!(r#"{{ "source": {{ "client_id": "a", "client_id": "{SECRET}" }} }}"#);
    let error = serde_json::from_str::<Config>(&text).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("client_id: it is given twice"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn custom_sections_have_the_same_errors() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sections {
        worker: Option<Worker>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Worker {
        tasks: Vec<Task>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Task {
        every: ConfigDuration,
    }

    let read = |worker: serde_json::Value| {
        let mut text = document();
        text["worker"] = worker;
        serde_json::from_value::<Config<Sections>>(text).map_err(|error| error.to_string())
    };
    let config = read(json!({ "tasks": [{ "every": "1m" }, { "every": "1h" }] })).unwrap();
    let worker = config.own.worker.unwrap();
    assert_eq!(worker.tasks[1].every.0.as_secs(), 3600);
    let number = json!({ "tasks": [{ "every": "1m" }, { "every": 60 }] });
    let missing = json!({ "tasks": [{}] });
    let unknown = json!({ "task": [] });
    for (section, expected) in [
        (number, "worker.tasks[1].every: it is a number"),
        (missing, "worker.tasks[0].every: it is missing"),
        (unknown, "worker: unknown key `task`, expected `tasks`"),
    ] {
        let error = read(section).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    // A program without custom sections accepts none.
    let mut text = document();
    text["worker"] = json!({});
    let error = error_of(text);
    for key in ["`worker`", "`route`"] {
        assert!(error.contains(key), "{error}");
    }
}
