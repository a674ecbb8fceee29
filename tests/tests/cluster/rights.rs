//! Every role, every operation, every place of a key, against an oracle, on real processes while ranges split; and what such a
//! cluster's logs must not say.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use holdfast_tests::{Admin, Secured, check_tiling};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use reqwest::{Certificate, Method, Version};
use serde_json::{Value, json};

use crate::PROGRAM;

/// Name, role, prefixes: none of them for all keys.
const HOLDERS: [(&str, &str, &[&str]); 7] = [
    ("admin", "admin", &[]),
    ("writer", "read-write", &[]),
    ("reader", "read-only", &[]),
    ("writer-a", "read-write", &["a/"]),
    ("reader-a", "read-only", &["a/"]),
    ("writer-ab", "read-write", &["a/", "b/"]),
    ("reader-bc", "read-only", &["b/", "c/"]),
];

const PLACES: [&str; 4] = ["a/", "b/", "c/", "d/"];

/// Inside of prefixes, and on their bounds.
const SPLITS: [&str; 9] = ["b/", "a/5", "c/25", "a/", "b/55", "d/7", "c/", "a/50", "a/55"];

/// What every value begins with, so that one is found wherever it should not be.
const CANARY: &str = "canary-of-a-value";

/// What a request does, and to which keys.
#[derive(Clone, Debug)]
enum Does {
    Read(String),
    Write(String),
    ReadSpan(String, String),
    WriteSpan(String, String),
    Administer,
}

/// What a request that is let through does to the keys.
#[derive(Clone, Debug)]
enum Effect {
    Nothing,
    Puts(String, String),
    Removes(String),
    RemovesAll(String, String),
}

#[derive(Clone, Debug)]
struct Request {
    method: Method,
    /// A router's unless it begins with the name of a placement member.
    path: String,
    body: String,
    does: Vec<Does>,
    effect: Effect,
    /// What it answers, if it reads one key: the value or nothing.
    reads: Option<String>,
}

/// One of every operation, on keys under a place. Ends of spans are of the form that includes all keys of the place.
fn operations(place: &str, random: &mut StdRng) -> Vec<Request> {
    let key = format!("{place}{:02}", random.random_range(0..100));
    let value = format!("{CANARY}-{:08x}", random.random::<u32>());
    let (from, to) = (format!("{place}2"), format!("{place}7"));
    let behind = place.replace('/', "0");
    let request = |method, path: String, body: String, does: Vec<Does>| Request {
        method,
        path,
        body,
        does,
        effect: Effect::Nothing,
        reads: None,
    };
    let get = |path: String, does| request(Method::GET, path, String::new(), vec![does]);
    let read = || Does::Read(key.clone());
    let write = || Does::Write(key.clone());
    let span = || Does::ReadSpan(from.clone(), to.clone());
    let whole = || Does::ReadSpan(place.to_owned(), behind.clone());
    let everything = || Does::ReadSpan(String::new(), String::new());
    let puts = || Effect::Puts(key.clone(), value.clone());
    let transaction = json!({
        "if": [{"key": key, "exists": true}],
        "then": [{"put": {"key": key, "value": value}}],
        "else": [{"put": {"key": key, "value": value}}],
    });
    vec![
        Request {
            reads: Some(key.clone()),
            ..get(format!("/v1/kv/{key}"), read())
        },
        request(Method::HEAD, format!("/v1/kv/{key}"), String::new(), vec![read()]),
        get(format!("/v1/explain/{key}"), read()),
        Request {
            effect: puts(),
            ..request(Method::PUT, format!("/v1/kv/{key}"), value.clone(), vec![write()])
        },
        Request {
            effect: Effect::Removes(key.clone()),
            ..request(
                Method::DELETE,
                format!("/v1/kv/{key}"),
                String::new(),
                vec![write()],
            )
        },
        Request {
            effect: puts(),
            ..request(
                Method::POST,
                "/v1/txn".to_owned(),
                transaction.to_string(),
                vec![read(), write()],
            )
        },
        get(format!("/v1/kv?start={from}&end={to}"), span()),
        get(format!("/v1/kv?prefix={place}"), whole()),
        get(format!("/v1/kv?count=true&start={place}&end={behind}"), whole()),
        get(
            format!("/v1/kv?start={from}&end={behind}x"),
            Does::ReadSpan(from.clone(), format!("{behind}x")),
        ),
        get("/v1/kv?keys_only=true".to_owned(), everything()),
        Request {
            effect: Effect::RemovesAll(format!("{place}9"), behind.clone()),
            ..request(
                Method::DELETE,
                format!("/v1/kv?start={place}9&end={behind}"),
                String::new(),
                vec![Does::WriteSpan(format!("{place}9"), behind.clone())],
            )
        },
        get("placement-1/v1/ranges".to_owned(), everything()),
        get("placement-1/v1/heatmap".to_owned(), everything()),
        get("placement-1/v1/tokens".to_owned(), Does::Administer),
        request(
            Method::PATCH,
            "placement-1/v1/config".to_owned(),
            "{}".to_owned(),
            vec![Does::Administer],
        ),
        get(format!("placement-1/router/v1/kv/{key}"), read()),
        get(format!("placement-1/router/v1/kv?prefix={place}"), whole()),
    ]
}

/// Whether a holder may do that; written without a look at the code under test.
fn oracle((_, role, prefixes): (&str, &str, &[&str]), does: &Does) -> bool {
    let writes = role != "read-only";
    let all = prefixes.is_empty();
    let key = |key: &str| all || prefixes.iter().any(|prefix| key.starts_with(prefix));
    // The keys between two bounds all have a prefix when the first has it, and the second does or is what follows the prefix.
    let span = |start: &str, end: &str| {
        let ends_in = |prefix: &str| end.starts_with(prefix) || end == prefix.replace('/', "0");
        all || prefixes
            .iter()
            .any(|prefix| start.starts_with(prefix) && ends_in(prefix))
    };
    match does {
        Does::Read(at) => key(at),
        Does::Write(at) => writes && key(at),
        Does::ReadSpan(start, end) => span(start, end),
        Does::WriteSpan(start, end) => writes && span(start, end),
        Does::Administer => role == "admin",
    }
}

/// What the keys have to be.
#[derive(Default)]
struct Model(BTreeMap<String, String>);

impl Model {
    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Puts(key, value) => drop(self.0.insert(key, value)),
            Effect::Removes(key) => drop(self.0.remove(&key)),
            Effect::RemovesAll(start, end) => self.0.retain(|key, _| *key < start || *key >= end),
        }
    }
}

struct Asked<'a> {
    cluster: &'a Secured,
    http: reqwest::Client,
    model: Model,
    random: StdRng,
    refused: usize,
    allowed: usize,
}

impl Asked<'_> {
    /// Every operation at every place by everybody, in an order of its own.
    async fn everything(&mut self, tokens: &[String]) -> anyhow::Result<()> {
        let mut requests = Vec::new();
        for place in PLACES {
            for who in 0..tokens.len() + 2 {
                let all = operations(place, &mut self.random);
                requests.extend(all.into_iter().map(|request| (who, request)));
            }
        }
        requests.shuffle(&mut self.random);
        for (who, request) in requests {
            let what = format!("{who}: {} {}", request.method, request.path);
            let token = tokens.get(who).map(String::as_str);
            // Behind the last holder there is one with a token that nobody made, and one with none.
            let token = token.or_else(|| (who == tokens.len()).then_some("hf_nobody-made-this"));
            let holder = HOLDERS.get(who);
            self.one(token, holder.copied(), request).await.context(what)?;
        }
        Ok(())
    }

    async fn one(
        &mut self,
        token: Option<&str>,
        holder: Option<(&str, &str, &[&str])>,
        request: Request,
    ) -> anyhow::Result<()> {
        let router = ["router-1", "router-2"][usize::from(self.random.random::<bool>())];
        let (member, path) = match request.path.strip_prefix("placement-1") {
            Some(path) => ("placement-1", path),
            None => (router, request.path.as_str()),
        };
        let url = format!("{}{path}", self.cluster.url(member)?);
        let mut asked = self.http.request(request.method.clone(), url);
        if let Some(token) = token {
            asked = asked.bearer_auth(token);
        }
        if member == "placement-1" && !request.body.is_empty() {
            asked = asked.header("content-type", "application/json");
        }
        let answer = asked.body(request.body).send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        let expected = match holder {
            None => Some(401),
            Some(holder) => {
                let all = request.does.iter().all(|does| oracle(holder, does));
                (!all).then_some(403)
            }
        };
        match expected {
            Some(expected) => {
                ensure!(status == expected, "{status}, not {expected}: {text}");
                ensure!(!text.contains(CANARY), "a refusal with a value: {text}");
                self.refused += 1;
            }
            None => {
                ensure!([200, 201, 204, 404].contains(&status), "{status}: {text}");
                if let Some(key) = &request.reads {
                    let read = (status == 200).then_some(&text);
                    ensure!(read == self.model.0.get(key), "{key} is {read:?}");
                }
                self.model.take(request.effect);
                self.allowed += 1;
            }
        }
        Ok(())
    }

    /// All keys, as an admin sees them.
    async fn keys(&self, token: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let url = format!("{}/v1/kv?limit=1000", self.cluster.url("router-1")?);
        let answer: Value = self.http.get(url).bearer_auth(token).send().await?.json().await?;
        let items = answer["items"].as_array().context("items")?;
        let text = |item: &Value, name: &str| item[name].as_str().map(str::to_owned).context("text");
        let item = |item: &Value| Ok((text(item, "key")?, text(item, "value")?));
        items.iter().map(item).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_hold_while_ranges_split_and_no_log_has_a_secret() -> anyhow::Result<()> {
    let cluster = Secured::start(PROGRAM).await?;
    let http = reqwest::Client::builder()
        .add_root_certificate(Certificate::from_pem(&cluster.ca()?)?)
        .no_proxy()
        .build()?;
    let mut tokens = Vec::new();
    for (name, role, prefixes) in HOLDERS {
        tokens.push(cluster.create_token_for(name, role, prefixes).await?.1);
    }
    heard_of(&cluster, &http, tokens.last().context("a token")?).await?;

    let mut asked = Asked {
        cluster: &cluster,
        http,
        model: Model::default(),
        random: StdRng::seed_from_u64(20_26),
        refused: 0,
        allowed: 0,
    };
    asked.everything(&tokens).await?;
    let splits = tokio::spawn(split(cluster.admin()?));
    while !splits.is_finished() {
        asked.everything(&tokens).await?;
    }
    splits.await??;
    asked.everything(&tokens).await?;
    println!("{} requests refused, {} allowed", asked.refused, asked.allowed);
    ensure!(asked.refused > 500 && asked.allowed > 500, "too little was tried");

    let ranges = cluster.admin()?.ranges().await?;
    check_tiling(&ranges)?;
    ensure!(ranges.len() > SPLITS.len(), "{ranges:?}");
    ensure!(
        asked.keys(&tokens[0]).await? == asked.model.0,
        "a refused request did something, or an allowed one nothing"
    );
    no_secret_is_logged(&cluster, &tokens)
}

/// Both routers have to know the token that was made last.
async fn heard_of(cluster: &Secured, http: &reqwest::Client, token: &str) -> anyhow::Result<()> {
    for router in ["router-1", "router-2"] {
        let url = format!("{}/v1/kv/b/heard", cluster.url(router)?);
        loop {
            let status = http.get(&url).bearer_auth(token).send().await?.status();
            match status.as_u16() {
                404 => break,
                401 => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                _ => anyhow::bail!("{status}"),
            }
        }
    }
    Ok(())
}

async fn split(admin: Admin) -> anyhow::Result<()> {
    for key in SPLITS {
        admin.split(key).await?;
    }
    Ok(())
}

/// Looks for tokens, values and private keys in what all members have logged, debugging lines included.
fn no_secret_is_logged(cluster: &Secured, tokens: &[String]) -> anyhow::Result<()> {
    let mut secrets = vec![CANARY.to_owned(), "PRIVATE KEY".to_owned()];
    secrets.extend(tokens.iter().cloned());
    for file in std::fs::read_dir(cluster.pki())? {
        let path = file?.path();
        if path.to_string_lossy().ends_with("-key.pem") {
            let key = std::fs::read_to_string(path)?;
            secrets.extend(
                key.lines()
                    .filter(|line| !line.starts_with("--"))
                    .map(str::to_owned),
            );
        }
    }
    ensure!(secrets.len() > tokens.len() + 8, "keys were not found");
    for (member, log) in cluster.logs()? {
        ensure!(log.contains("DEBUG"), "{member} was to be wordy");
        // A token's beginning would be a hint as well.
        let found = log.lines().find(|line| {
            secrets
                .iter()
                .any(|secret| line.contains(&secret[..secret.len().min(20)]))
        });
        ensure!(found.is_none(), "{member} logs a secret: {found:?}");
        let audited = log
            .lines()
            .any(|line| line.contains("audit") && line.contains("forbidden"));
        let refuses = !member.starts_with("store");
        ensure!(
            audited == refuses,
            "{member}: what was refused is in the audit log"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_and_1_are_agreed_on() -> anyhow::Result<()> {
    let cluster = Secured::start(PROGRAM).await?;
    let ca = Certificate::from_pem(&cluster.ca()?)?;
    let client = || {
        reqwest::Client::builder()
            .add_root_certificate(ca.clone())
            .no_proxy()
    };
    for member in ["placement-1", "store-1", "router-1"] {
        let url = format!("{}/health", cluster.url(member)?);
        let both = client().build()?.get(&url).send().await?;
        ensure!(
            both.version() == Version::HTTP_2,
            "{member}: {:?}",
            both.version()
        );
        let one = client().http1_only().build()?.get(&url).send().await?;
        ensure!(one.version() == Version::HTTP_11, "{member}: {:?}", one.version());
        let plain = url.replace("https:", "http:");
        ensure!(
            client().build()?.get(&plain).send().await.is_err(),
            "{member} answers plain text"
        );
    }
    cluster.assert_no_errors()
}
