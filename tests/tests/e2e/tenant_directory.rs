//! The tenants of a deployment: created, listed, suspended, and erased so that nothing is left, whatever is killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::http::Client;
use tidegate_tests::server::Server;
use tidegate_tests::socket::Socket;
use tidegate_tests::tenant::Tenant;
use tidegate_tests::{SOON, eventually, token, unique};

use crate::access::{operator, operator_issuer, operator_token};

fn server() -> Arc<Server> {
    Arc::new(Server::start_with_issuers(&[operator_issuer()]))
}

fn echo(client: &Client) -> tidegate_tests::http::Answer {
    client.post("/v1/requests", &json!({ "action": "core.echo", "payload": 7 }))
}

/// A tenant with an id of its own, which nobody has heard of yet.
fn named(server: &Arc<Server>, id: &str) -> Tenant {
    Tenant {
        id: id.to_owned(),
        ..Tenant::new(server.clone())
    }
}

fn erase(operator: &Client, id: &str, confirm: &str) -> tidegate_tests::http::Answer {
    let headers = [("content-type", "application/json")];
    let body = json!({ "confirm": confirm }).to_string();
    operator.send("DELETE", &format!("/v1/admin/tenants/{id}"), &headers, body.as_bytes())
}

fn erased(operator: &Client, id: &str) -> Value {
    eventually("the tenant is erased", || {
        let shown = operator.get(&format!("/v1/admin/tenants/{id}")).json(200);
        (shown["state"] == "erased").then_some(shown)
    })
}

#[test]
fn a_tenant_is_created_with_a_template_and_listed() {
    let server = server();
    let operator = operator(&server);
    let id = format!("new-{}", unique());
    let created = operator
        .post("/v1/admin/tenants", &json!({ "tenant": id, "template": "free" }))
        .json(201);
    assert_eq!(
        (&created["tenant"], &created["state"], &created["template"]),
        (&json!(id), &json!("active"), &json!("free"))
    );
    assert_eq!(created["acts"][0]["what"], "created");
    assert_eq!(created["acts"][0]["by"], "op");
    // Its composition is the template, and what the operator did is in its audit trail.
    let tenant = named(&server, &id);
    let admin = tenant.client_with("root", "admin");
    let composition = admin.get("/v1/admin/composition").json(200);
    assert_eq!(composition["actions"]["hello"]["run"], "core.echo");
    let said = tenant
        .client("ann")
        .post("/v1/requests", &json!({ "action": "hello", "payload": "a" }));
    assert_eq!(said.json(200)["data"], "a");
    let trail = admin.get("/v1/admin/audit").json(200);
    assert_eq!(trail["entries"][0]["what"], "composition.activated");
    operator
        .post("/v1/admin/tenants", &json!({ "tenant": id }))
        .problem(409, "CONFLICT");
    // One without a template has the default composition; a jurisdiction is part of the id, and workerd knows none.
    let named = format!("eu.{id}");
    let created = operator
        .post("/v1/admin/tenants", &json!({ "tenant": id, "jurisdiction": "eu" }))
        .json(201);
    assert_eq!(
        (
            &created["tenant"],
            &created["jurisdiction"],
            &created["jurisdiction_enforced"]
        ),
        (&json!(named), &json!("eu"), &json!(false))
    );
    let european = self::named(&server, &named);
    echo(&european.client("ann")).json(200);
    // Pages of one, by id.
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = operator
            .get(&format!("/v1/admin/tenants?state=active&limit=1{cursor}"))
            .json(200);
        listed.extend(page["tenants"].as_array().expect("tenants").iter().cloned());
        match page["cursor"].as_str() {
            Some(after) => cursor = format!("&cursor={after}"),
            None => break,
        }
    }
    let ids: Vec<&str> = listed.iter().filter_map(|one| one["tenant"].as_str()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    for one in [id.as_str(), &named, "operations"] {
        assert!(ids.contains(&one), "{ids:?}");
    }
}

#[test]
fn what_cannot_be_created_listed_or_erased_is_told_with_all_its_faults() {
    let server = server();
    let operator = operator(&server);
    for (body, faults) in [
        (json!({}), vec!["/tenant"]),
        (
            json!({ "tenant": "A:b", "jurisdiction": "mars", "tempalte": "free" }),
            vec!["/tempalte", "/tenant", "/jurisdiction"],
        ),
        (json!({ "tenant": "a", "template": "none" }), vec!["/template"]),
        (
            json!({ "tenant": "a", "template": "broken" }),
            vec!["/template/actions/x/run"],
        ),
    ] {
        let problem = operator
            .post("/v1/admin/tenants", &body)
            .problem(422, "VALIDATION_ERROR");
        let details = problem["details"].as_array().expect("details");
        let pointers: Vec<&str> = details.iter().filter_map(|fault| fault["pointer"].as_str()).collect();
        assert_eq!(pointers, faults, "{problem}");
    }
    operator.get("/v1/admin/tenants/a").is_not_found();
    let problem = operator
        .get("/v1/admin/tenants?state=gone&limit=0&stat=active")
        .problem(422, "VALIDATION_ERROR");
    assert_eq!(problem["details"].as_array().map(Vec::len), Some(3), "{problem}");
    erase(&operator, "a", "a").is_not_found();
    let id = format!("here-{}", unique());
    operator.post("/v1/admin/tenants", &json!({ "tenant": id })).json(201);
    for confirm in ["", "here", "operations"] {
        erase(&operator, &id, confirm).problem(422, "VALIDATION_ERROR");
    }
    erase(&operator, "operations", "operations").problem(409, "CONFLICT");
    assert_eq!(
        operator.get(&format!("/v1/admin/tenants/{id}")).json(200)["state"],
        "active"
    );
}

#[test]
fn who_is_no_operator_learns_nothing_of_other_tenants() {
    let server = server();
    let tenant = Tenant::new(server.clone());
    tenant.compose(None);
    let pretender = tenant.client_with("root", "admin operator");
    let of = |id: &str| {
        let path = format!("/v1/admin/tenants/{id}");
        let answers = [
            pretender.get(&path),
            pretender.post(&format!("{path}:suspend"), &json!({})),
            erase(&pretender, id, id),
            pretender.post("/v1/admin/tenants", &json!({ "tenant": id })),
            pretender.get("/v1/admin/tenants"),
        ];
        answers.map(|answer| {
            let problem = answer.problem(403, "FORBIDDEN");
            problem["detail"].clone()
        })
    };
    // Their own, another that is there, and one that nobody has heard of: the same.
    assert_eq!(of(&tenant.id), of("operations"));
    assert_eq!(of(&tenant.id), of(&unique()));
    echo(&tenant.client("ann")).json(200);
}

#[test]
fn a_tenant_that_comes_by_itself_is_listed_and_held_by_the_command() {
    let server = server();
    let operator = operator(&server);
    let tenant = Tenant::new(server.clone());
    let path = format!("/v1/admin/tenants/{}", tenant.id);
    operator.get(&path).is_not_found();
    // A token that is not good makes no tenant.
    let header = token::header();
    let forged = token::sign_with(
        b"no key of any issuer, 32 bytes .",
        &header,
        &token::claims(&tenant.id, "a", ""),
    );
    Client::new(&server.url(), Some(&forged))
        .get("/v1/jobs")
        .problem(401, "UNAUTHORIZED");
    operator.get(&path).is_not_found();
    echo(&tenant.client("ann")).json(200);
    let shown = operator.get(&path).json(200);
    assert_eq!((&shown["state"], &shown["acts"]), (&json!("active"), &Value::Null));
    // A server that was killed still knows; the command says the same as the API.
    server.kill();
    server.start_again();
    let tidegate = |arguments: &[&str]| command(&server, arguments);
    let shown = tidegate(&["tenant", "show", &tenant.id]);
    assert_eq!(
        (&shown[0]["tenant"], &shown[0]["state"]),
        (&json!(tenant.id), &json!("active"))
    );
    let mut socket = tenant.socket("ann");
    let suspended = tidegate(&["tenant", "suspend", &tenant.id]);
    assert_eq!(suspended[0]["state"], "suspended");
    assert_eq!(socket.closed_within(SOON), Some(3502));
    let listed = tidegate(&["tenant", "list", "--state", "suspended"]);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["tenant"], json!(tenant.id));
    let resumed = tidegate(&["tenant", "resume", &tenant.id]);
    assert_eq!(resumed[0]["state"], "active");
    echo(&tenant.client("ann")).json(200);
    let id = format!("made-{}", unique());
    let made = tidegate(&["tenant", "create", &id, "--template", "free"]);
    assert_eq!(made[0]["state"], "active");
    let erased = tidegate(&["tenant", "erase", &id, "--confirm", &id, "--wait"]);
    assert_eq!(erased[0]["state"], "erased");
    assert!(erased[0]["erasure"]["verified_at"].is_string(), "{erased:?}");
}

#[test]
fn an_erasure_leaves_nothing_whatever_is_killed_meanwhile_and_no_other_tenant_notices() {
    let server = server();
    let (other, victim) = (Tenant::new(server.clone()), Tenant::new(server.clone()));
    let used = fill(&other);
    operator(&server).get("/v1/admin/tenants").json(200);
    server.kill();
    // What the objects of all others are called, by what they hold.
    let before = held(&server);
    let others = with_rows(&before);
    server.start_again();
    fill(&victim);
    // What is looked for afterwards is there before.
    server.kill();
    let filled = held(&server);
    assert_eq!(with_rows(&filled).len(), others.len() + 3);
    let names = |files: &Held| rows_that_name(files, &victim.id).len();
    assert!(names(&filled) > 6, "{:?}", rows_that_name(&filled, &victim.id));
    assert!(!files_that_name(&server, &victim.id).is_empty());
    server.start_again();
    let mut socket = victim.socket("ann");
    let answer = erase(&operator(&server), &victim.id, &victim.id).json(202);
    assert_eq!(answer["state"], "erasing");
    assert_eq!(socket.closed_within(SOON), Some(3502));
    let path = format!("/v1/admin/tenants/{}", victim.id);
    let begun = Instant::now();
    // It goes on by itself after each kill: nobody asks for it again.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(fastrand::u64(50..1500)));
        server.kill();
        server.start_again();
        victim.client("ann").get("/v1/jobs").problem(403, "TENANT_SUSPENDED");
        echo(&victim.client("ann")).problem(403, "TENANT_SUSPENDED");
    }
    let shown = erased(&operator(&server), &victim.id);
    let report = &shown["erasure"];
    assert!(report["verified_at"].is_string(), "{report}");
    assert!(
        report["passes"].as_u64() >= Some(2),
        "{report} after {:?}",
        begun.elapsed()
    );
    let whats: Vec<&Value> = shown["acts"]
        .as_array()
        .expect("acts")
        .iter()
        .map(|act| &act["what"])
        .collect();
    assert_eq!(whats, ["erased"], "{shown}");
    // Nobody comes back by a credential of before, and those who try leave nothing.
    echo(&victim.client("ann")).problem(403, "TENANT_SUSPENDED");
    let admin = victim.client_with("root", "admin");
    let document = [("content-type", "application/json")];
    admin
        .send("PUT", "/v1/admin/composition", &document, b"{}")
        .problem(403, "TENANT_SUSPENDED");
    let operator = operator(&server);
    operator
        .post(&format!("{path}:resume"), &json!({}))
        .problem(409, "CONFLICT");
    assert_eq!(erase(&operator, &victim.id, &victim.id).json(202)["state"], "erased");
    intact(&other, &used);
    server.kill();
    let after = held(&server);
    assert_eq!(with_rows(&after), others, "objects that hold rows");
    let found = rows_that_name(&after, &victim.id);
    let entry = ["tenants", "act", "erasure"].map(|table| format!("{table} of tidegate-Tenant"));
    assert_eq!(found, BTreeSet::from(entry), "rows that name the tenant");
    let named = files_that_name(&server, &victim.id);
    assert!(named.is_empty(), "files that name the tenant: {named:?}");
    server.start_again();
    intact(&other, &used);
    // Created again it is another tenant of the same name: nothing of before is there.
    let operator = self::operator(&server);
    operator
        .post("/v1/admin/tenants", &json!({ "tenant": victim.id }))
        .json(201);
    let ann = eventually("the tenant is let in", || {
        let ann = victim.client("ann");
        (echo(&ann).status == 200).then_some(ann)
    });
    ann.get("/v1/objects/a.txt").is_not_found();
    let jobs = victim.client_with("root", "jobs:read").get("/v1/jobs").json(200);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(0), "{jobs}");
    let keys = victim.client_with("root", "admin").get("/v1/admin/keys").json(200);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(0), "{keys}");
}

#[test]
fn the_report_counts_what_there_was() {
    let server = server();
    let tenant = Tenant::new(server.clone());
    fill(&tenant);
    let operator = operator(&server);
    erase(&operator, &tenant.id, &tenant.id).json(202);
    // What it is doing is not done twice.
    assert!(erase(&operator, &tenant.id, &tenant.id).status == 202);
    let report = erased(&operator, &tenant.id)["erasure"].clone();
    assert_eq!(report["objects"], 3, "{report}");
    assert_eq!(report["keys"], 1, "{report}");
    // The object, and a payload that is too large for a row.
    assert_eq!(report["stored_objects"], 2, "{report}");
    assert!(report["stored_bytes"].as_u64() > Some(LARGE as u64), "{report}");
    assert!(report["rows"].as_u64() > Some(5), "{report}");
    // The directory writes some rows for each erasure, and none when it has ended: its last alarm comes within 5 s.
    let written = || -> u64 {
        let text = server.ask("Tenant", "d:tenants", "/rows-written");
        text.parse().expect("a number")
    };
    std::thread::sleep(Duration::from_secs(6));
    let rows = written();
    assert!((1..60).contains(&rows), "{rows} rows");
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(written(), rows, "rows are written after the end");
}

/// Bytes of a payload that does not fit a row.
const LARGE: usize = 40_000;

/// Has a tenant hold something of every kind: compositions, jobs that ended and that wait, a large payload, an object of its
/// own, an API key, a revocation, a spent ticket. Everything names the tenant. Gives the ended job.
fn fill(tenant: &Tenant) -> String {
    tenant.compose(None);
    let ann = tenant.client_with("ann", "admin");
    let large = tenant.id.repeat(LARGE / tenant.id.len() + 1);
    let job = |payload: Value, more: Value| {
        let mut body = json!({ "action": "slow", "payload": payload });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let accepted = ann.post("/v1/requests", &body).json(202);
        accepted["job_id"].as_str().expect("a job").to_owned()
    };
    let ended = job(
        json!({ "ms": 1, "steps": 1 }),
        json!({ "idempotency_key": tenant.id, "metadata": { "note": tenant.id } }),
    );
    job(json!({ "ms": 1, "note": large }), json!({ "delay_ms": 3_600_000 }));
    ann.get(&format!("/v1/jobs/{ended}?wait=30")).json(200);
    let put = ann.send("PUT", "/v1/objects/a.txt", &[], tenant.id.as_bytes());
    assert_eq!(put.status, 201);
    ann.post("/v1/admin/keys", &json!({ "name": tenant.id, "user": "ci" }))
        .json(201);
    ann.post("/v1/admin/revocations", &json!({ "user": tenant.id }))
        .json(201);
    let ticket = ann.send("POST", "/v1/tickets", &[], &[]).json(201);
    let path = format!("/v1/connect?ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    let mut socket = Socket::connect(tenant.server.port(), &path, &[], &tenant.observer).expect("the ticket is good");
    socket.echoes();
    ended
}

/// Whether what [`fill`] left is there.
fn intact(tenant: &Tenant, ended: &str) {
    let ann = tenant.client("ann");
    assert_eq!(ann.get(&format!("/v1/jobs/{ended}")).json(200)["status"], "succeeded");
    assert_eq!(ann.get("/v1/objects/a.txt").body, tenant.id.as_bytes());
    echo(&ann).json(200);
}

/// Every row of every table of every database.
type Held = BTreeMap<String, BTreeMap<String, Vec<String>>>;

fn held(server: &Server) -> Held {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let node = root.join("../node_modules/.bin/node");
    let read = Command::new(node)
        .args(["--no-warnings".as_ref(), root.join("held.mjs").as_os_str()])
        .arg(server.state())
        .output()
        .expect("node");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).expect("what is held")
}

/// The class of the object whose database that is.
fn kind(file: &str) -> &str {
    file.rsplit('/').nth(1).unwrap_or(file)
}

/// The objects of ours that hold rows, beside those of the platform and those that say which migrations have run.
fn with_rows(held: &Held) -> BTreeSet<String> {
    let ours = |(table, rows): (&String, &Vec<String>)| {
        !rows.is_empty() && table != "migration" && !table.starts_with("_cf_") && !table.starts_with("sqlite_")
    };
    held.iter()
        .filter(|(file, _)| kind(file).starts_with("tidegate-"))
        .filter(|(_, tables)| tables.iter().any(ours))
        .map(|(file, _)| file.clone())
        .collect()
}

/// The tables with a row in which `id` stands.
fn rows_that_name(held: &Held, id: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (file, tables) in held {
        for (table, rows) in tables {
            if rows.iter().any(|row| row.contains(id)) {
                found.insert(format!("{table} of {}", kind(file)));
            }
        }
    }
    found
}

/// The files in which `id` stands, beside those of databases.
fn files_that_name(server: &Server, id: &str) -> Vec<PathBuf> {
    let is_database = |path: &PathBuf| {
        path.extension()
            .is_some_and(|kind| kind.to_string_lossy().starts_with("sqlite"))
    };
    files(server)
        .into_iter()
        .filter(|path| !is_database(path))
        .filter(|path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.windows(id.len()).any(|window| window == id.as_bytes())
        })
        .collect()
}

fn files(server: &Server) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![server.state()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files
}

/// Builds the `tidegate` command, and says where it lies.
pub(crate) fn program() -> PathBuf {
    let cargo = std::env::var_os("CARGO").expect("cargo runs the tests");
    let built = Command::new(&cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "tidegate-cli",
            "--message-format",
            "json",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let text = String::from_utf8_lossy(&built.stdout);
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"]["kind"][0] == "bin")
        .find_map(|line| line["executable"].as_str().map(PathBuf::from))
        .expect("the command")
}

/// Runs the `tidegate` command as the operator, and gives the lines of JSON that it prints.
pub(crate) fn command(server: &Server, arguments: &[&str]) -> Vec<Value> {
    let ran = Command::new(program())
        .args(["--json", "--url", &server.url()])
        .args(arguments)
        .env("TIDEGATE_TOKEN", operator_token())
        .output()
        .expect("the command runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}
