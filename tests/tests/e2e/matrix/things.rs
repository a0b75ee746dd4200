//! What a tenant of the matrix has: one of everything that a path or a body can name.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::server::Server;
use tidegate_tests::socket::job_of;
use tidegate_tests::tenant::{Tenant, composition};
use tidegate_tests::{eventually, token, unique};

/// Every scope that an issuer of a tenant's own can give.
pub const SCOPES: &str = "admin jobs:read jobs:write jobs:work";
/// The user whose things they are.
pub const OWNER: &str = "alice";

/// The names of one of everything. All fit into paths as they are.
#[derive(Debug, Clone)]
pub struct Things {
    /// The tenant.
    pub tenant: String,
    /// A job that is scheduled for later.
    pub job: String,
    /// The key that it was requested with.
    pub idempotency_key: String,
    /// A job that failed for good.
    pub failed: String,
    /// A job that has a result.
    pub done: String,
    /// A job that a worker has leased; it has written to the stream `log`.
    pub leased: String,
    /// The token of its attempt.
    pub attempt: String,
    /// A batch with jobs for later.
    pub batch: String,
    /// An API key that is good.
    pub key: String,
    /// An endpoint that is told of ends.
    pub endpoint: String,
    /// An object.
    pub object: String,
    /// A schedule.
    pub schedule: String,
    /// An upstream with a breaker.
    pub upstream: String,
    /// A pool of workers.
    pub pool: String,
    /// A backup that is whole.
    pub backup: String,
    /// A channel that the owner alone may follow, and publish in. It has a message.
    pub channel: String,
}

/// Text that is in everything that has room for it: who reads it has seen something of this tenant.
pub fn mark(tenant: &Tenant) -> String {
    format!("mark-of-{}", tenant.id)
}

/// The composition of a tenant whose schedule, upstream and pool have these names.
fn document(things: &Things) -> Value {
    let mut document = composition(None);
    document["patterns"][&things.pool] = json!({ "use": "pull" });
    let (instance, upstream) = things.upstream.split_once('.').expect("an instance and a name");
    let main = json!({ "base_url": "https://upstream.example.com", "breaker": { "consecutive_failures": 3 } });
    document["patterns"][instance] = json!({ "use": "http", "config": { "upstreams": { upstream: main } } });
    let with = json!({ "upstream": upstream, "method": "POST" });
    document["actions"]["call"] = json!({ "run": format!("{instance}.call"), "mode": "async", "with": with });
    document["actions"]["train"] = json!({ "run": format!("{}.handle", things.pool), "lease": "10m" });
    document["actions"]["guarded"] = json!({ "run": "core.echo", "mode": "async", "scopes": ["vip"] });
    document["actions"]["keep"] = json!({ "run": "core.echo", "mode": "async" });
    let owner = json!({ "when": format!("user == '{OWNER}'") });
    document["channels"][&things.channel] = json!({ "subscribe": owner, "publish": owner, "presence": owner });
    document["schedules"][&things.schedule] = json!({ "cron": "0 0 1 1 *", "action": "slow", "catch_up": "1s" });
    document
}

impl Things {
    /// Gives `tenant` a composition, and one of everything.
    pub fn make(tenant: &Tenant) -> Self {
        let (mark, word) = (mark(tenant), unique());
        let name = |kind: &str| format!("{kind}-{word}");
        let mut things = Self {
            tenant: tenant.id.clone(),
            job: String::new(),
            idempotency_key: name("key"),
            failed: String::new(),
            done: String::new(),
            leased: String::new(),
            attempt: String::new(),
            batch: String::new(),
            key: String::new(),
            endpoint: String::new(),
            object: name("object"),
            schedule: name("schedule"),
            upstream: format!("up-{word}.main"),
            pool: name("pool"),
            backup: String::new(),
            channel: name("channel"),
        };
        tenant.put_composition(&document(&things));
        let client = tenant.client_with(OWNER, SCOPES);
        let start = |mut body: Value| {
            body["metadata"] = json!({ "of": mark });
            job_of(&client.post("/v1/requests", &body).json(202))
        };
        let later = json!({ "action": "slow", "payload": { "ms": 1 }, "delay_ms": 36_000_000 });
        let mut keyed = later.clone();
        keyed["idempotency_key"] = json!(things.idempotency_key);
        things.job = start(keyed);
        let luckless = json!({ "message": mark, "retryable": false });
        things.failed = start(json!({ "action": "boom", "payload": luckless }));
        things.done = start(json!({ "action": "keep", "payload": { "of": mark } }));
        for (job, status) in [(&things.failed, "failed"), (&things.done, "succeeded")] {
            let ended = client.get(&format!("/v1/jobs/{job}?wait=30")).json(200);
            assert_eq!(ended["status"], status, "{ended}");
        }
        things.leased = start(json!({ "action": "train", "payload": { "of": mark } }));
        let lease = format!("/v1/workers/{}:lease", things.pool);
        let leased = eventually("a job for a worker", || {
            let body = json!({ "max": 1, "wait_ms": 5000, "worker": "w" });
            client.post(&lease, &body).json(200)["jobs"]
                .as_array()?
                .first()
                .cloned()
        });
        assert_eq!(job_of(&leased), things.leased);
        things.attempt = text(&leased["attempt_token"]);
        let report = format!("/v1/attempts/{}:report", things.leased);
        let written = json!({ "output": [{ "stream": "log", "chunk": mark }] });
        bearer(tenant, &things.attempt).post(&report, &written).json(200);
        let batch = client.post("/v1/requests:batch", &json!([later, later])).json(200);
        things.batch = text(&batch["batch_id"]);
        let key = json!({ "name": mark, "user": OWNER, "scopes": ["admin"] });
        things.key = text(&client.post("/v1/admin/keys", &key).json(201)["key"]["key_id"]);
        // It is told of nothing that happens here.
        let endpoint = json!({ "url": "https://hooks.example.com/", "description": mark, "filter": "false" });
        things.endpoint = text(&client.post("/v1/admin/endpoints", &endpoint).json(201)["endpoint_id"]);
        let messages = format!("/v1/channels/{}/messages", things.channel);
        client.post(&messages, &json!({ "data": mark })).json(200);
        let put = client.send(
            "PUT",
            &things.object_path(),
            &[("content-type", "text/plain")],
            mark.as_bytes(),
        );
        assert_eq!(put.status, 201, "{}", put.text());
        let (operator, path) = (
            crate::access::operator(&tenant.server),
            format!("/v1/admin/tenants/{}/backups", tenant.id),
        );
        things.backup = text(&operator.post(&path, &json!({})).json(202)["backup"]);
        let path = format!("{path}/{}", things.backup);
        eventually("the backup is whole", || {
            (operator.get(&path).json(200)["state"] == "kept").then_some(())
        });
        things
    }

    /// Names of the same form and length, which nothing has.
    pub fn made_up(&self) -> Self {
        // The beginning of an id says what it is, and where it would lie.
        let other = |text: &str| {
            let head = text.get(..text.len() - 6).expect("a name of ASCII letters");
            format!("{head}{}", if text.ends_with("000000") { "000001" } else { "000000" })
        };
        let (instance, upstream) = self.upstream.split_once('.').expect("an instance and a name");
        Self {
            tenant: other(&self.tenant),
            job: other(&self.job),
            idempotency_key: other(&self.idempotency_key),
            failed: other(&self.failed),
            done: other(&self.done),
            leased: other(&self.leased),
            attempt: self.attempt.clone(),
            batch: other(&self.batch),
            key: other(&self.key),
            endpoint: other(&self.endpoint),
            object: other(&self.object),
            schedule: other(&self.schedule),
            upstream: format!("{}.{upstream}", other(instance)),
            pool: other(&self.pool),
            backup: other(&self.backup),
            channel: other(&self.channel),
        }
    }

    /// All of them that are names, so that texts can be compared whatever they name.
    pub fn names(&self) -> [&str; 15] {
        [
            &self.tenant,
            &self.job,
            &self.idempotency_key,
            &self.failed,
            &self.done,
            &self.leased,
            &self.batch,
            &self.key,
            &self.endpoint,
            &self.object,
            &self.schedule,
            &self.upstream,
            &self.pool,
            &self.backup,
            &self.channel,
        ]
    }

    fn object_path(&self) -> String {
        format!("/v1/objects/{}", self.object)
    }

    /// Everything that `tenant` has, as its owner sees it. What changes by itself is left out.
    pub fn snapshot(&self, tenant: &Tenant) -> Vec<(String, Value)> {
        let client = tenant.client_with(OWNER, SCOPES);
        let mut paths: Vec<String> = [
            "/v1/jobs?limit=100",
            "/v1/queue",
            "/v1/schedules",
            "/v1/dead-letters",
            "/v1/admin/audit",
            "/v1/admin/composition",
            "/v1/admin/endpoints",
            "/v1/admin/keys",
            "/v1/admin/limits",
            "/v1/admin/revocations",
            "/v1/admin/secrets",
            "/v1/admin/upstreams",
        ]
        .map(str::to_owned)
        .to_vec();
        paths.extend([&self.job, &self.failed, &self.done, &self.leased].map(|job| format!("/v1/jobs/{job}")));
        paths.push(format!("/v1/jobs/{}/output/log", self.leased));
        paths.push(format!("/v1/batches/{}", self.batch));
        let mut seen: Vec<(String, Value)> = paths
            .into_iter()
            .map(|path| {
                let mut shown = client.get(&path).json(200);
                calm(&mut shown);
                if path == "/v1/admin/audit" {
                    shown = changes(&shown);
                }
                (path, shown)
            })
            .collect();
        let object = client.get(&self.object_path());
        let text = String::from_utf8_lossy(&object.body).into_owned();
        seen.push((self.object_path(), json!([object.status, object.header("etag"), text])));
        seen
    }
}

/// The changes that an audit trail tells of. What was refused stands in it too, and is no change.
fn changes(trail: &Value) -> Value {
    let entries = trail["entries"].as_array().expect("entries").iter();
    let changes = entries.filter(|entry| entry["what"] != "requests.refused");
    changes
        .map(|entry| json!([entry["what"], entry["who"], entry["target"]]))
        .collect()
}

/// Takes out of `shown` what time alone changes, or looking.
fn calm(shown: &mut Value) {
    const RESTLESS: [&str; 3] = ["used_at", "request_id", "since"];
    match shown {
        Value::Object(members) => {
            members.retain(|name, _| !RESTLESS.contains(&name.as_str()));
            members.values_mut().for_each(calm);
        }
        Value::Array(items) => items.iter_mut().for_each(calm),
        _ => {}
    }
}

/// The text that a member is.
pub fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// A client with this bearer token.
pub fn bearer(tenant: &Tenant, token: &str) -> Client {
    Client::new(&tenant.server.url(), Some(token))
}

const OPERATOR_KEY: &[u8] = b"a key of operators only, 32 bytes";
const OPERATORS: &str = "https://operators.tidegate.invalid";

/// A server whose deployment has operators.
pub fn server() -> Arc<Server> {
    use base64::Engine;
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(OPERATOR_KEY);
    let entry = json!({
        "issuer": OPERATORS,
        "audience": token::AUDIENCE,
        "tenant": "operations",
        "operator": true,
        "keys": { "keys": [{ "kty": "oct", "kid": "op", "alg": "HS256", "k": key }] },
    });
    Arc::new(Server::start_with_issuers(&[entry]))
}

/// A token of the deployment's operator.
pub fn operator() -> String {
    let mut claims = token::claims("operations", "op", "operator");
    claims["iss"] = json!(OPERATORS);
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "op" });
    token::sign_with(OPERATOR_KEY, &header, &claims)
}
