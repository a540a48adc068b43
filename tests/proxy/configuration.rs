//! Tests that an invalid configuration ends the proxy with status 2 and one message with file, key and remedy.

use std::fs;

use tokio::time::timeout;
use tower_bearer::testing::{Api, AuthorizationServer};

use crate::support::{
    Fixture, LIMIT, Proxy, config, login_with_secret, refused, refused_file, routed, upstream,
};
use crate::temp_folder::TempFolder;

const SOURCE: &str = "[source]\ntype = 'client_credentials'\ntoken_url = 'https://login.example/token'\nclient_id = 'orders'\n";

/// Checks each row: the key that the message names, a word of the remedy, and the text that follows `prefix` in the
/// file, in which ` ; ` ends a line.
async fn refuses(prefix: &str, rows: &str) {
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let mut parts = row.splitn(3, " | ").map(str::trim);
        let mut part = || parts.next().unwrap();
        let (key, remedy, text) = (part(), part(), part().replace(" ; ", "\n"));
        let message = refused(&format!("{prefix}{text}\n")).await;
        assert!(message.starts_with(&format!("{key}: ")), "{row}: {message}");
        assert!(message.contains(remedy), "{row}: {message}");
    }
}

fn with_secret() -> String {
    format!("{SOURCE}client_secret = 'hunter2'\n")
}

#[tokio::test]
async fn source_errors_name_the_key() {
    let rows = "
        source                | missing | # an empty file
        source                | table   | source = 'hunter2'
        source.type           | missing | [source] ; client_id = 'x'
        source.type           | client_credentials | [source] ; type = 'hunter2'
        source.token_url      | issuer  | [source] ; type = 'client_credentials' ; client_id = 'orders' ; client_secret = 'hunter2'";
    refuses("", rows).await;
    let rows = r#"
        source.client_secret  | { env = "NAME" } | client_secret = 12345
        source.client_secret  | { file = "path" } | client_secret = ['hunter2']
        source.client_secret  | empty | client_secret = ''
        source.client_secret  | env | client_secret = { evn = 'hunter2' }
        source.client_secret  | NO_SUCH_VARIABLE | client_secret = { env = 'NO_SUCH_VARIABLE' }
        source.client_secret  | /no/such/file | client_secret = { file = '/no/such/file' }
        source.client_secret  | one of these | client_secret = { env = 'A', file = 'b' }
        source                | client_secret | secret = 'hunter2'
        source.client_secret  | client_auth | # without a secret
        source.private_key    | missing | client_auth = 'private_key_jwt'"#;
    refuses(SOURCE, rows).await;
    let rows = "
        source.client_auth    | `basic` | client_auth = 'hunter2'
        source.fetch_timeout  | 10s     | fetch_timeout = 10
        source.fetch_timeout  | 10s     | fetch_timeout = 'hunter2'
        source.fetch_timeout  | longer  | fetch_timeout = '0s'
        source.extra.scope    | the token request sets it | extra = { scope = 'hunter2' }
        source.ca             | PEM     | ca = 'hunter2'
        source.issuer         | leave one of them out | issuer = 'https://login.example'";
    refuses(&with_secret(), rows).await;
    let rows = "
        source.token_url      | https   | http://login.example/token
        source.token_url      | user name or password | https://user:hunter2@login.example/token
        source.token_url      | https:// | hunter2";
    let source =
        "[source] ; type = 'client_credentials' ; client_id = 'orders' ; client_secret = 'hunter2'";
    let rows = rows.lines().map(|row| match row.rsplit_once("| ") {
        Some((checks, url)) => format!("{checks}| {source} ; token_url = '{url}'\n"),
        None => String::new(),
    });
    refuses("", &rows.collect::<String>()).await;
}

#[tokio::test]
async fn cache_route_and_upstream_errors_name_the_key() {
    let rows = "
        cache.max_bytes        | 64MiB | [cache] ; max_bytes = 'much'
        cache.max_entries      | write | [cache] ; max_entries = -1
        cache.assumed_lifetime | longer | [cache] ; assumed_lifetime = '0s'
        cache.store.type       | redis | [cache] ; store = { type = 'hunter2' }
        route[0].url           | missing | [[route]] ; scopes = ['a']
        route[1].url           | https:// | [[route]] ; url = 'https://a.example' ; [[route]] ; url = 'nothing'
        route[0].url           | allow_http = true | [[route]] ; url = 'http://a.example'
        route[0].url           | @     | [[route]] ; url = 'https://u:hunter2@a.example'
        route[1].url           | twice | [[route]] ; url = 'https://a.example' ; [[route]] ; url = 'https://A.example:443'
        proxy.listen           | allow_remote = true | [proxy] ; listen = '0.0.0.0:8080'
        proxy.listen           | allow_remote = true | [proxy] ; listen = '[::]:8080'
        proxy.listen           | 127.0.0.1:8080 | [proxy] ; listen = '8080'
        proxy.grace            | 10s   | [proxy] ; grace = 30
        proxy.replay_limit     | 64KiB | [proxy] ; replay_limit = 'much'
        proxy                  | `listen` | [proxy] ; port = 1";
    refuses(&with_secret(), rows).await;
    let rows = r#"
        route[0].scopes          | pass each scope separately | scopes = ['a b']
        route[0].scopes          | sequence | scopes = 'a'
        route[0].resource        | absolute | resource = ['urn:a', 'b']
        route[0].tenant          | letters  | tenant = '../x'
        route[0].allow_scopes    | RFC 6749 | allow_scopes = ['a"']
        route[0].allow_resources | absolute | allow_resources = ['x']
        route[0].allow_http      | boolean  | allow_http = 'yes'
        route[0]                 | `hunter` | hunter = '2'"#;
    let route = with_secret() + "[[route]]\nurl = 'https://a.example'\n";
    refuses(&route, rows).await;
    let rows = "
        proxy.upstream[0].url    | missing | prefix = '/a'
        proxy.upstream[0].prefix | slash   | prefix = 'a' ; url = 'https://a.example'
        proxy.upstream[0].prefix | own     | prefix = '/-/x' ; url = 'https://a.example'
        proxy.upstream[0].prefix | dot segments | prefix = '/a/../b' ; url = 'https://a.example'
        proxy.upstream[0].url    | https   | prefix = '/a' ; url = 'ftp://a.example'
        proxy.upstream[0].url    | @       | prefix = '/a' ; url = 'https://u:hunter2@a.example'
        proxy.upstream[0].url    | query   | prefix = '/a' ; url = 'https://a.example?hunter2'
        proxy.upstream[1].prefix | remove one of them | prefix = '/a' ; url = 'https://a.example' ; [[proxy.upstream]] ; prefix = '/a/' ; url = 'https://b.example'";
    refuses(&(with_secret() + "[[proxy.upstream]]\n"), rows).await;
}

#[tokio::test]
async fn unknown_section_is_an_error() {
    let message = refused(&(with_secret() + "[caches]\n")).await;
    for text in ["`caches`", "`source`, `cache`, `route` or `proxy`"] {
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn tenant_in_the_token_url_requires_one_on_each_route() {
    let source = with_secret().replace("/token", "/{tenant}/token");
    let route = "[[route]]\nurl = 'https://a.example'\ntenant = 'acme'\n";
    let row = "route[1].tenant | add it | [[route]] ; url = 'https://b.example'";
    refuses(&(source + route), row).await;
}

#[tokio::test]
async fn syntax_error_names_its_position_without_the_text() {
    for line in [
        "client_secret = 'hunter2",
        "client_secret = hunter2",
        "client_secret 'hunter2'",
        "client_id = 'hunter2'",
    ] {
        let message = refused(&format!("{SOURCE}{line}\n")).await;
        assert!(message.starts_with("line 5, column"), "{line}: {message}");
        assert!(message.contains("TOML"), "{message}");
    }
}

#[tokio::test]
async fn missing_file_is_named() {
    let folder = TempFolder::new("");
    let message = refused_file(&folder.sibling("other.toml")).await;
    assert!(message.contains("can't be read"), "{message}");
}

#[tokio::test]
async fn address_in_use_names_its_key() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let row = format!("proxy.listen | choose another | [proxy] ; listen = '{address}'");
    refuses(&with_secret(), &row).await;
}

#[tokio::test]
async fn secret_is_read_from_each_location() {
    let login = login_with_secret("s3cret").await;
    let api = Api::start(&login).await.unwrap();
    let secrets = TempFolder::new("s3cret\n");
    let file = secrets.path();
    for (place, auth) in [
        ("'s3cret'".to_owned(), "basic"),
        ("{ env = 'PROXY_SECRET' }".to_owned(), "post"),
        (format!("{{ file = '{}' }}", file.display()), "basic"),
    ] {
        let rest = format!("client_auth = '{auth}'\n{}", routed(&api, ""));
        let text = config(&login, &rest).replace("'secret'", &place);
        let proxy = Proxy::start_with(&text, &[("PROXY_SECRET", "s3cret")]).await;
        assert_eq!(proxy.get("/a").await.status, 200, "{place}");
    }
}

#[tokio::test]
async fn secret_in_a_file_rotates() {
    let login = login_with_secret("first").await;
    let api = Api::start(&login).await.unwrap();
    let secrets = TempFolder::new("first");
    let file = format!("{{ file = '{}' }}", secrets.path().display());
    let text = config(&login, &routed(&api, "")).replace("'secret'", &file);
    let proxy = Proxy::start(&text).await;
    assert_eq!(proxy.get("/a").await.status, 200);
    login.set_client_secret("client", "second");
    fs::write(secrets.path(), "second").unwrap();
    login.revoke_all();
    assert_eq!(proxy.get("/a").await.status, 200);
}

#[tokio::test]
async fn extra_parameters_and_route_reach_the_provider() {
    let keys = "scopes = ['b', 'a']\nresource = 'urn:r'\naudience = 'stock'";
    let extra = "extra = { hint = 'x', other = { env = 'PROXY_OTHER' } }\n";
    let rest = |api: &Api| extra.to_owned() + &routed(api, keys);
    let fixture = Fixture::protected(rest, &[("PROXY_OTHER", "y")]).await;
    assert_eq!(fixture.proxy.get("/a").await.status, 200);
    let call = fixture.login.requests().pop().unwrap();
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
async fn route_audience_overrides_the_extra_parameter() {
    let rest = |api: &Api| {
        let (url, upstream) = (api.url(), upstream("/", &api.url()));
        format!(
            "extra = {{ audience = 'https://stock' }}\n[[route]]\nurl = '{url}/a'\n[[route]]\nurl = '{url}/b'\naudience = 'own'\n{upstream}"
        )
    };
    let fixture = Fixture::protected(rest, &[]).await;
    for (path, audience) in [("/a", "https://stock"), ("/b", "own")] {
        assert_eq!(fixture.proxy.get(path).await.status, 200);
        let call = fixture.login.requests().pop().unwrap();
        let audiences = call.form.iter().filter(|(name, _)| name == "audience");
        let audiences: Vec<_> = audiences.map(|(_, value)| value).collect();
        assert_eq!(audiences, [audience]);
    }
}

#[tokio::test]
async fn unused_key_is_logged_and_not_read() {
    let text = with_secret() + "client_auth = 'none'\n";
    let proxy = Proxy::start(&text).await;
    let logged = async {
        while !proxy.log().contains("source.client_secret") {
            proxy.get("/-/health").await;
        }
    };
    timeout(LIMIT, logged).await.unwrap();
    assert!(!proxy.log().contains("hunter2"));
    // The key is not read.
    let text = text.replace("'hunter2'", "{ env = 'NO_SUCH_VARIABLE' }");
    let proxy = Proxy::start(&text).await;
    assert_eq!(proxy.get("/-/health").await.status, 200);
}

#[tokio::test]
async fn example_configuration_is_valid() {
    let text = include_str!("../../examples/proxy/config.toml");
    let proxy = Proxy::start_with(text, &[("ORDERS_SECRET", "s3cret")]).await;
    assert_eq!(proxy.get("/-/health").await.status, 200);
    let message = refused(text).await;
    for text in ["source.client_secret: ", "ORDERS_SECRET"] {
        assert!(message.contains(text), "{message}");
    }
}

const STORE_KEY: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";

#[tokio::test]
async fn file_store_outlives_the_proxy() {
    let login = AuthorizationServer::start().await.unwrap();
    let api = Api::start(&login).await.unwrap();
    let folder = TempFolder::new(STORE_KEY);
    let rest = format!(
        "[cache]\nstore = {{ type = 'file', path = '{}', key = {{ file = '{}' }} }}\n{}",
        folder.sibling("tokens.bin").display(),
        folder.path().display(),
        routed(&api, ""),
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
async fn unreachable_store_does_not_fail_requests() {
    let store = format!(
        "[cache]\nstore = {{ type = 'redis', url = 'redis://127.0.0.1:1', prefix = 'a:', key = '{STORE_KEY}' }}\n"
    );
    let fixture = Fixture::protected(|api| store + &routed(api, ""), &[]).await;
    assert_eq!(fixture.proxy.get("/a").await.status, 200);
}

#[tokio::test]
async fn store_errors_name_the_key() {
    let rows = "
        cache.store.key    | missing | store = { type = 'file', path = 'x' }
        cache.store.key    | 32      | store = { type = 'file', path = 'x', key = 'hunter2' }
        cache.store.path   | missing | store = { type = 'file', key = 'hunter2' }
        cache.store.url    | missing | store = { type = 'redis', key = 'hunter2' }
        cache.store.path   | leave it out | store = { type = 'redis', url = 'redis://:hunter2@127.0.0.1:1', path = 'x', key = 'hunter2' }
        cache.store.url    | redis   | store = { type = 'redis', url = 'hunter2://:hunter2@127.0.0.1:1', key = 'hunter2' }
        cache.store.prefix | leave it out | store = { type = 'file', path = 'x', key = 'hunter2', prefix = 'x' }";
    refuses(&(with_secret() + "[cache]\n"), rows).await;
}
