//! A configuration that can't work: exit status 2, and one message that names the file, the key and the remedy.

use std::fs;

use tokio::time::timeout;
use tower_bearer::testing::{Api, AuthorizationServer};

use crate::support::{ConfigFile, LIMIT, Proxy, config, refused, refused_with, upstream};

const SOURCE: &str = "[source]\ntype = 'client_credentials'\ntoken_url = 'https://login.example/token'\nclient_id = 'orders'\n";

/// What stands in the file, which key is named, and a word of the remedy.
async fn refuses(text: &str, key: &str, remedy: &str) {
    let message = refused(text).await;
    assert!(message.starts_with(&format!("{key}: ")), "{key}: {message}");
    assert!(message.contains(remedy), "{remedy}: {message}");
}

#[tokio::test]
async fn each_fault_of_the_source_is_told_by_its_key() {
    for (text, key, remedy) in [
        ("", "source", "missing"),
        ("source = 'hunter2'", "source", "table"),
        ("[source]\nclient_id = 'x'", "source.type", "missing"),
        (
            "[source]\ntype = 'hunter2'",
            "source.type",
            "client_credentials",
        ),
        (SOURCE, "source.client_secret", "client_auth"),
    ] {
        refuses(text, key, remedy).await;
    }
    for (line, key, remedy) in [
        (
            "client_secret = 12345",
            "source.client_secret",
            "{ env = \"NAME\" }",
        ),
        (
            "client_secret = ['hunter2']",
            "source.client_secret",
            "{ file = \"path\" }",
        ),
        ("client_secret = ''", "source.client_secret", "empty"),
        (
            "client_secret = { evn = 'hunter2' }",
            "source.client_secret",
            "env",
        ),
        (
            "client_secret = { env = 'NO_SUCH_VARIABLE' }",
            "source.client_secret",
            "NO_SUCH_VARIABLE",
        ),
        (
            "client_secret = { file = '/no/such/file' }",
            "source.client_secret",
            "/no/such/file",
        ),
        (
            "client_secret = { env = 'A', file = 'b' }",
            "source.client_secret",
            "one of these",
        ),
        ("secret = 'hunter2'", "source", "client_secret"),
        (
            "client_secret = 'hunter2'\nclient_auth = 'hunter2'",
            "source.client_auth",
            "`basic`",
        ),
        (
            "client_auth = 'private_key_jwt'",
            "source.private_key",
            "missing",
        ),
        (
            "client_secret = 'hunter2'\nfetch_timeout = 10",
            "source.fetch_timeout",
            "10s",
        ),
        (
            "client_secret = 'hunter2'\nfetch_timeout = 'hunter2'",
            "source.fetch_timeout",
            "10s",
        ),
        (
            "client_secret = 'hunter2'\nfetch_timeout = '0s'",
            "source.fetch_timeout",
            "longer",
        ),
        (
            "client_secret = 'hunter2'\nextra = { scope = 'hunter2' }",
            "source.extra.scope",
            "set by the token request",
        ),
        (
            "client_secret = 'hunter2'\nca = 'hunter2'",
            "source.ca",
            "PEM",
        ),
    ] {
        refuses(&format!("{SOURCE}{line}\n"), key, remedy).await;
    }
    for (url, remedy) in [
        ("http://login.example/token", "https"),
        ("https://user:hunter2@login.example/token", "by themselves"),
        ("hunter2", "https://"),
    ] {
        let text =
            SOURCE.replace("https://login.example/token", url) + "client_secret = 'hunter2'\n";
        refuses(&text, "source.token_url", remedy).await;
    }
}

#[tokio::test]
async fn a_token_url_together_with_an_issuer_is_an_error() {
    let text = format!("{SOURCE}client_secret = 'hunter2'\nissuer = 'https://login.example'\n");
    refuses(&text, "source.issuer", "leave one of them out").await;
    let text =
        "[source]\ntype = 'client_credentials'\nclient_id = 'orders'\nclient_secret = 'hunter2'\n";
    refuses(text, "source.token_url", "issuer").await;
}

#[tokio::test]
async fn each_fault_of_cache_routes_and_upstreams_is_told_by_its_key() {
    for (text, key, remedy) in [
        ("[cache]\nmax_bytes = 'much'", "cache.max_bytes", "64MiB"),
        ("[cache]\nmax_entries = -1", "cache.max_entries", "write"),
        (
            "[cache]\nassumed_lifetime = '0s'",
            "cache.assumed_lifetime",
            "longer",
        ),
        (
            "[cache]\nstore = { type = 'hunter2' }",
            "cache.store.type",
            "redis",
        ),
        ("[[route]]\nscopes = ['a']", "route[0].url", "missing"),
        (
            "[[route]]\nurl = 'https://a.example'\n[[route]]\nurl = 'nothing'",
            "route[1].url",
            "https://",
        ),
        (
            "[[route]]\nurl = 'http://a.example'",
            "route[0].url",
            "allow_http = true",
        ),
        (
            "[[route]]\nurl = 'https://u:hunter2@a.example'",
            "route[0].url",
            "@",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\n[[route]]\nurl = 'https://A.example:443'",
            "route[1].url",
            "twice",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\nscopes = ['a b']",
            "route[0].scopes",
            "by itself",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\nscopes = 'a'",
            "route[0].scopes",
            "sequence",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\nresource = ['urn:a', 'b']",
            "route[0].resource",
            "absolute",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\ntenant = '../x'",
            "route[0].tenant",
            "letters",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\nallow_scopes = ['a\"']",
            "route[0].allow_scopes",
            "RFC 6749",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\nallow_resources = ['x']",
            "route[0].allow_resources",
            "absolute",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\nallow_http = 'yes'",
            "route[0].allow_http",
            "boolean",
        ),
        (
            "[[route]]\nurl = 'https://a.example'\nhunter = '2'",
            "route[0]",
            "`hunter`",
        ),
        (
            "[proxy]\nlisten = '0.0.0.0:8080'",
            "proxy.listen",
            "allow_remote = true",
        ),
        (
            "[proxy]\nlisten = '[::]:8080'",
            "proxy.listen",
            "allow_remote = true",
        ),
        ("[proxy]\nlisten = '8080'", "proxy.listen", "127.0.0.1:8080"),
        ("[proxy]\ngrace = 30", "proxy.grace", "10s"),
        (
            "[proxy]\nreplay_limit = 'much'",
            "proxy.replay_limit",
            "64KiB",
        ),
        ("[proxy]\nport = 1", "proxy", "`listen`"),
        (
            "[[proxy.upstream]]\nprefix = '/a'",
            "proxy.upstream[0].url",
            "missing",
        ),
        (
            "[[proxy.upstream]]\nprefix = 'a'\nurl = 'https://a.example'",
            "proxy.upstream[0].prefix",
            "slash",
        ),
        (
            "[[proxy.upstream]]\nprefix = '/-/x'\nurl = 'https://a.example'",
            "proxy.upstream[0].prefix",
            "own",
        ),
        (
            "[[proxy.upstream]]\nprefix = '/a/../b'\nurl = 'https://a.example'",
            "proxy.upstream[0].prefix",
            "dot segments",
        ),
        (
            "[[proxy.upstream]]\nprefix = '/a'\nurl = 'ftp://a.example'",
            "proxy.upstream[0].url",
            "https",
        ),
        (
            "[[proxy.upstream]]\nprefix = '/a'\nurl = 'https://u:hunter2@a.example'",
            "proxy.upstream[0].url",
            "@",
        ),
        (
            "[[proxy.upstream]]\nprefix = '/a'\nurl = 'https://a.example?hunter2'",
            "proxy.upstream[0].url",
            "query",
        ),
    ] {
        let text = format!("{SOURCE}client_secret = 'hunter2'\n{text}\n");
        refuses(&text, key, remedy).await;
    }
    let twice = upstream("/a", "https://a.example") + &upstream("/a/", "https://b.example");
    let text = format!("{SOURCE}client_secret = 'hunter2'\n{twice}");
    refuses(&text, "proxy.upstream[1].prefix", "leave one of them out").await;
}

#[tokio::test]
async fn a_key_that_nobody_knows_is_an_error() {
    let message = refused(&format!("{SOURCE}client_secret = 'hunter2'\n[caches]\n")).await;
    assert!(message.contains("`caches`"), "{message}");
    assert!(
        message.contains("`source`, `cache`, `route` or `proxy`"),
        "{message}"
    );
}

#[tokio::test]
async fn a_tenant_in_the_address_wants_one_on_each_route() {
    let text = SOURCE.replace("/token", "/{tenant}/token") + "client_secret = 'hunter2'\n";
    let with = "[[route]]\nurl = 'https://a.example'\ntenant = 'acme'\n";
    let without = "[[route]]\nurl = 'https://b.example'\n";
    refuses(&(text + with + without), "route[1].tenant", "add it").await;
}

#[tokio::test]
async fn what_is_no_toml_is_told_by_its_place_and_not_shown() {
    for (line, place) in [
        ("client_secret = 'hunter2", "line 5, column"),
        ("client_secret = hunter2", "line 5, column"),
        ("client_secret 'hunter2'", "line 5, column"),
        ("client_id = 'hunter2'", "line 5, column"),
    ] {
        let message = refused(&format!("{SOURCE}{line}\n")).await;
        assert!(message.starts_with(place), "{line}: {message}");
        assert!(message.contains("TOML"), "{message}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let folder = ConfigFile::new("");
    let message = refused_with(&folder, &folder.sibling("other.toml")).await;
    assert!(message.contains("can't be read"), "{message}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_by_its_key() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!("{SOURCE}client_secret = 'hunter2'\n[proxy]\nlisten = '{address}'\n");
    refuses(&text, "proxy.listen", "choose another").await;
}

#[tokio::test]
async fn every_place_of_a_secret_works() {
    let login = AuthorizationServer::builder()
        .with_client("client", "s3cret")
        .start()
        .await
        .unwrap();
    let api = Api::start(&login).await.unwrap();
    let secrets = ConfigFile::new("s3cret\n");
    let file = secrets.path();
    for (place, auth) in [
        ("'s3cret'".to_owned(), "basic"),
        ("{ env = 'PROXY_SECRET' }".to_owned(), "post"),
        (format!("{{ file = '{}' }}", file.display()), "basic"),
    ] {
        let rest = format!(
            "client_auth = '{auth}'\n[[route]]\nurl = '{}'\n{}",
            api.url(),
            upstream("/a", &api.url())
        );
        let text = config(&login, &rest).replace("'secret'", &place);
        let proxy = Proxy::start_with(&text, &[("PROXY_SECRET", "s3cret")]).await;
        assert_eq!(proxy.get("/a").await.status, 200, "{place}");
    }
}

#[tokio::test]
async fn a_secret_in_a_file_may_rotate() {
    let login = AuthorizationServer::builder()
        .with_client("client", "first")
        .start()
        .await
        .unwrap();
    let api = Api::start(&login).await.unwrap();
    let secrets = ConfigFile::new("first");
    let rest = format!(
        "[[route]]\nurl = '{}'\n{}",
        api.url(),
        upstream("/a", &api.url())
    );
    let text = config(&login, &rest).replace(
        "'secret'",
        &format!("{{ file = '{}' }}", secrets.path().display()),
    );
    let proxy = Proxy::start(&text).await;
    assert_eq!(proxy.get("/a").await.status, 200);
    login.set_client_secret("client", "second");
    fs::write(secrets.path(), "second").unwrap();
    login.revoke_all();
    assert_eq!(proxy.get("/a").await.status, 200);
}

#[tokio::test]
async fn further_parameters_and_all_of_a_route_reach_the_provider() {
    let login = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&login).await.unwrap();
    let rest = format!(
        "extra = {{ hint = 'x', other = {{ env = 'PROXY_OTHER' }} }}\n[[route]]\nurl = '{}'\nscopes = ['b', 'a']\nresource = 'urn:r'\naudience = 'stock'\n{}",
        api.url(),
        upstream("/a", &api.url())
    );
    let proxy = Proxy::start_with(&config(&login, &rest), &[("PROXY_OTHER", "y")]).await;
    assert_eq!(proxy.get("/a").await.status, 200);
    let call = login.requests().pop().unwrap();
    for (name, value) in [
        ("scope", "a b"),
        ("resource", "urn:r"),
        ("audience", "stock"),
        ("hint", "x"),
        ("other", "y"),
    ] {
        assert_eq!(call.parameter(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn an_audience_for_all_gives_way_to_a_routes_own() {
    let login = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&login).await.unwrap();
    let rest = format!(
        "extra = {{ audience = 'https://stock' }}\n[[route]]\nurl = '{0}/a'\n[[route]]\nurl = '{0}/b'\naudience = 'own'\n{1}",
        api.url(),
        upstream("/", &api.url())
    );
    let proxy = Proxy::start(&config(&login, &rest)).await;
    for (path, audience) in [("/a", "https://stock"), ("/b", "own")] {
        assert_eq!(proxy.get(path).await.status, 200);
        let call = login.requests().pop().unwrap();
        let audiences = call.form.iter().filter(|(name, _)| name == "audience");
        assert_eq!(
            audiences.map(|(_, value)| &**value).collect::<Vec<_>>(),
            [audience]
        );
    }
}

#[tokio::test]
async fn a_key_without_a_use_is_told_in_the_log() {
    let text = format!("{SOURCE}client_secret = 'hunter2'\nclient_auth = 'none'\n");
    let proxy = Proxy::start(&text).await;
    let told = async {
        while !proxy.log().contains("source.client_secret") {
            proxy.get("/-/health").await;
        }
    };
    timeout(LIMIT, told).await.unwrap();
    assert!(!proxy.log().contains("hunter2"));
    // Nor is it read.
    let text = text.replace("'hunter2'", "{ env = 'NO_SUCH_VARIABLE' }");
    let proxy = Proxy::start(&text).await;
    assert_eq!(proxy.get("/-/health").await.status, 200);
}

#[tokio::test]
async fn the_example_of_a_configuration_works() {
    let text = include_str!("../../examples/proxy/config.toml");
    let proxy = Proxy::start_with(text, &[("ORDERS_SECRET", "s3cret")]).await;
    assert_eq!(proxy.get("/-/health").await.status, 200);
    let message = refused(text).await;
    assert!(
        message.contains("source.client_secret: ") && message.contains("ORDERS_SECRET"),
        "{message}"
    );
}

const STORE_KEY: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";

#[tokio::test]
async fn a_store_in_a_file_outlives_the_proxy() {
    let login = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&login).await.unwrap();
    let folder = ConfigFile::new(STORE_KEY);
    let rest = format!(
        "[cache]\nstore = {{ type = 'file', path = '{}', key = {{ file = '{}' }} }}\n[[route]]\nurl = '{}'\n{}",
        folder.sibling("tokens.bin").display(),
        folder.path().display(),
        api.url(),
        upstream("/a", &api.url())
    );
    for from in ["provider", "store"] {
        let mut proxy = Proxy::start(&config(&login, &rest)).await;
        assert_eq!(proxy.get("/a").await.status, 200);
        assert_eq!(proxy.json("/-/tokens").await["tokens"][0]["from"], from);
        proxy.signal("TERM").await;
        assert_eq!(proxy.end().await.code(), Some(0));
    }
    assert_eq!(login.counts().requests, 1);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_in_nobodys_way() {
    let login = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&login).await.unwrap();
    let rest = format!(
        "[cache]\nstore = {{ type = 'redis', url = 'redis://127.0.0.1:1', prefix = 'a:', key = '{STORE_KEY}' }}\n[[route]]\nurl = '{}'\n{}",
        api.url(),
        upstream("/a", &api.url())
    );
    let proxy = Proxy::start(&config(&login, &rest)).await;
    assert_eq!(proxy.get("/a").await.status, 200);
}

#[tokio::test]
async fn each_fault_of_a_store_is_told_by_its_key() {
    for (store, key, remedy) in [
        ("type = 'file', path = 'x'", "cache.store.key", "missing"),
        (
            "type = 'file', path = 'x', key = 'hunter2'",
            "cache.store.key",
            "32",
        ),
        (
            "type = 'file', key = 'hunter2'",
            "cache.store.path",
            "missing",
        ),
        (
            "type = 'redis', key = 'hunter2'",
            "cache.store.url",
            "missing",
        ),
        (
            "type = 'redis', url = 'redis://:hunter2@127.0.0.1:1', path = 'x', key = 'hunter2'",
            "cache.store.path",
            "leave it out",
        ),
        (
            "type = 'redis', url = 'hunter2://:hunter2@127.0.0.1:1', key = 'hunter2'",
            "cache.store.url",
            "redis",
        ),
        (
            "type = 'file', path = 'x', key = 'hunter2', prefix = 'x'",
            "cache.store.prefix",
            "leave it out",
        ),
    ] {
        let text = format!("{SOURCE}client_secret = 'hunter2'\n[cache]\nstore = {{ {store} }}\n");
        refuses(&text, key, remedy).await;
    }
}
