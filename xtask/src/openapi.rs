//! `cargo xtask openapi`: the description of the HTTP API (OpenAPI 3.1), which the Worker serves at `/openapi.json`.
//!
//! The schemas come from the types of the protocol, the paths from the table in [`operations`]. Nothing is measured on
//! a running Worker: a test holds the table's paths to the Worker's routes.

mod access;
mod again;
mod attempts;
mod backups;
mod batches;
mod channels;
mod endpoints;
mod health;
mod idempotency;
mod inbound;
mod limits;
mod operation;
mod operations;
mod policies;
mod problems;
mod queue;
mod recovery;
mod schemas;
mod secrets;
mod upstreams;
mod usage;
mod workers;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use tidegate_protocol::http::JobEnded;

use crate::arguments::Arguments;
use crate::process::say;
use crate::project::Project;
use operation::{Access, Operation};
use operations::TAGS;
use problems::Problems;
use schemas::Schemas;

const ABOUT: &str = "Runs the actions of a tenant's composition and keeps what becomes of them.\n\n\
    Every error is a problem document (RFC 9457) whose `code` is stable. Beside the statuses named here, an unknown \
    path is answered with `404` and `NOT_FOUND`, and a method that a path does not take with `405`, \
    `METHOD_NOT_ALLOWED` and `Allow`. `HEAD` goes with every `GET`; `OPTIONS` is answered with `204` and `Allow`.\n\n\
    Clients must ignore members that they do not know.";

/// `cargo xtask openapi [--check]`: writes the description, or compares it with the one that is there.
pub fn openapi(project: &Project, mut arguments: Arguments) -> Result<()> {
    let only_check = arguments.flag("--check");
    arguments.end()?;
    if only_check {
        return check(project);
    }
    let path = file(project);
    let text = serde_json::to_string_pretty(&document())? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(format!("wrote {}", project.relative(&path).display()));
    Ok(())
}

/// Compares the description with the types. The order of members counts for nothing, as in JSON. Errors: they differ.
pub fn check(project: &Project) -> Result<()> {
    let path = file(project);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let there: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    if there == document() {
        return Ok(());
    }
    let path = project.relative(&path).display();
    bail!("{path} is not that of the types: write it again with `cargo xtask openapi`");
}

fn file(project: &Project) -> PathBuf {
    project.root.join("docs/reference/openapi.json")
}

/// The whole description.
fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut problems = Problems::new();
    let mut paths = Map::new();
    for operation in operations::all(&mut schemas) {
        let operation = idempotency::described(operation, &mut schemas);
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method] = describe(&operation, &mut problems);
    }
    let responses = problems.responses(&mut schemas);
    let tags: Vec<Value> = TAGS
        .iter()
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "webhooks": { "jobEnded": job_ended(&mut schemas) },
        "components": {
            "responses": responses,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of one of the deployment's issuers. Tenant and user come from it alone.",
                },
                "attempt": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The `attempt_token` that came with the attempt. It is good for that attempt alone.",
                },
                "ticket": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "ticket",
                    "description": "A ticket of `POST /v1/tickets`: good once, for 30 seconds.",
                },
                "subprotocol": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Sec-WebSocket-Protocol",
                    "description": "For browsers: the list `tidegate.v1, bearer.<token>`.",
                },
            },
        },
    });
    document["components"]["schemas"] = schemas.finish(&document);
    document
}

/// What an endpoint is sent when a job ends.
fn job_ended(schemas: &mut Schemas) -> Value {
    let header = |name: &str, description: &str| json!({ "name": name, "in": "header", "required": true, "schema": { "type": "string" }, "description": description });
    json!({
        "post": {
            "operationId": "jobEnded",
            "tags": ["jobs"],
            "summary": "Tells an endpoint that a job has ended",
            "description": "Signed after Standard Webhooks with the tenant's secret. Sent again until it is answered with \
                2xx or 410, or its attempts are spent.",
            "parameters": [
                header("webhook-id", "Names the message: the same for each time that it is sent."),
                header("webhook-timestamp", "When it was sent: seconds since 1970."),
                header("webhook-signature", "`v1,` and the base64 of HMAC-SHA256 over id, time and body, joined by dots; or `v1a,` and that of an Ed25519 \
                    signature. Several, separated by spaces, while what signs is changed."),
            ],
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": schemas.of::<JobEnded>() } },
            },
            "responses": {
                "2XX": { "description": "It has been heard." },
                "410": { "description": "The endpoint wants to hear no more of it." },
            },
        },
    })
}

fn describe(operation: &Operation, problems: &mut Problems) -> Value {
    let mut responses = Map::new();
    for (status, response) in &operation.answers {
        responses.insert(status.to_string(), response.clone());
    }
    for (status, response) in problems.of(&operation.refusals) {
        responses.insert(status.to_string(), response);
    }
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "security": match operation.access {
            Access::Everyone => json!([]),
            Access::Token => json!([{ "bearer": [] }]),
            Access::Attempt => json!([{ "attempt": [] }]),
            Access::Ticket => json!([{ "bearer": [] }, { "ticket": [] }]),
            Access::Socket => json!([{ "bearer": [] }, { "ticket": [] }, { "subprotocol": [] }]),
        },
        "responses": responses,
    });
    if !operation.description.is_empty() {
        described["description"] = json!(operation.description);
    }
    if !operation.parameters.is_empty() {
        described["parameters"] = json!(operation.parameters);
    }
    if let Some(body) = &operation.body {
        described["requestBody"] = body.clone();
    }
    described
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ROUTES: &str = include_str!("../../src/routes.rs");

    fn paths(document: &Value) -> BTreeSet<String> {
        document["paths"].as_object().unwrap().keys().cloned().collect()
    }

    /// Whether `path` is one of `template`, whose last parameter may hold slashes where it ends the template.
    fn fits(template: &str, path: &str) -> bool {
        let Some((before, rest)) = template.split_once('{') else {
            return template == path;
        };
        let after = rest.split_once('}').unwrap().1;
        let held = path.strip_prefix(before).and_then(|path| path.strip_suffix(after));
        held.is_some_and(|held| !held.is_empty() && (before.ends_with("objects/") || !held.contains(['/', ':'])))
    }

    #[test]
    fn the_paths_are_the_routes_of_the_worker() {
        let variants = ["pub enum Route {", "pub enum AccessRoute {", "pub enum BackupRoute {"].map(|head| {
            let (_, variants) = ROUTES.split_once(head).unwrap();
            variants.split_once("\n}").unwrap().0
        });
        let routes: BTreeSet<String> = variants
            .iter()
            .flat_map(|variants| variants.lines())
            .filter_map(|line| line.trim().strip_prefix("/// `")?.strip_suffix('`'))
            .map(str::to_owned)
            .collect();
        assert!(routes.len() > 10, "{routes:?}");
        assert_eq!(paths(&document()), routes);
    }

    #[test]
    fn each_path_that_the_worker_is_tested_with_is_described() {
        let paths = paths(&document());
        let mut cases = 0;
        for line in ROUTES.lines().filter(|line| line.contains(", Some(Route::")) {
            let Some(path) = line.trim().strip_prefix("(\"").and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            cases += 1;
            let described = paths.iter().filter(|template| fits(template, path)).count();
            assert_eq!(described, usize::from(!line.contains("Route::NotYet")), "{path}");
        }
        assert!(cases > 5, "the table was not found");
    }

    #[test]
    fn each_reference_has_what_it_refers_to() {
        fn visit(document: &Value, value: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    members.values().for_each(|value| visit(document, value));
                }
                Value::Array(values) => values.iter().for_each(|value| visit(document, value)),
                _ => {}
            }
        }
        let document = document();
        visit(&document, &document);
    }

    #[test]
    fn an_operation_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for operation in operations::all(&mut Schemas::new()) {
            assert!(names.insert(operation.id), "{} is there twice", operation.id);
        }
    }
}
