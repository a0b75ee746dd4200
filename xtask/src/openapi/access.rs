//! What the HTTP API tells of API keys, revocations and tenants, and how they are changed.

use serde_json::{Value, json};
use tidegate_protocol::ErrorCode::{
    Conflict, Forbidden, NotFound, PayloadTooLarge, UnsupportedMediaType, ValidationError,
};
use tidegate_protocol::http::{KeyList, KeyMade, RevocationList, RevocationView, TenantPage, TenantState, TenantView};
use tidegate_protocol::ids::{ApiKeyId, TenantId, UserId};
use tidegate_protocol::time::UnixMs;

use super::operation::Operation;
use super::problems::{FAULTS, Refusal, of};
use super::schemas::Schemas;

const TAG: &str = "administration";
/// How a body can be refused before it is looked into.
pub(super) const UNREAD: [Refusal; 3] = [of(ValidationError), of(PayloadTooLarge), of(UnsupportedMediaType)];

/// `/v1/admin/keys`, `/v1/admin/revocations` and `/v1/admin/tenants`.
pub fn access(schemas: &mut Schemas) -> Vec<Operation> {
    let mut operations = keys(schemas);
    operations.extend(revocations(schemas));
    operations.extend(tenants(schemas));
    operations
}

fn keys(schemas: &mut Schemas) -> Vec<Operation> {
    let list = Operation::new(
        "/v1/admin/keys",
        "get",
        "listKeys",
        TAG,
        "Lists the API keys, the oldest first",
    )
    .about("Without what opens anything: the text of a key is shown once, when it is made.")
    .answer(200, "The keys.", schemas.of::<KeyList>())
    .refused(&[of(Forbidden)]);
    let body = new_key(schemas);
    let create = Operation::new("/v1/admin/keys", "post", "createKey", TAG, "Makes an API key")
        .about(
            "It speaks for a user of the tenant, as a token of theirs would. Its text is in this answer and stored nowhere: \
            what is kept is a hash of it.",
        )
        .body("application/json", body, "What it is to be.")
        .answer(201, "The key, with its text.", schemas.of::<KeyMade>())
        .refused(&UNREAD)
        .refused(&[of(Forbidden), FAULTS, of(Conflict)]);
    let overlap = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": { "overlap_ms": {
            "type": "integer", "minimum": 0, "maximum": 2_592_000_000_u64, "default": 86_400_000,
            "description": "How long the old text stays good. Milliseconds.",
        } },
    });
    let rotate = Operation::new(
        "/v1/admin/keys/{id}:rotate",
        "post",
        "rotateKey",
        TAG,
        "Gives an API key another text",
    )
    .about("The old one stays good for a while; one of before that is good no longer.")
    .parameter("path", "id", schemas.of::<ApiKeyId>(), "The key's id.")
    .body_or_none(
        "application/json",
        overlap,
        "For how long both are good: a day, where nothing is said.",
    )
    .answer(200, "The key, with its new text.", schemas.of::<KeyMade>())
    .refused(&UNREAD)
    .refused(&[of(Forbidden), FAULTS, of(NotFound)]);
    let delete = Operation::new("/v1/admin/keys/{id}", "delete", "deleteKey", TAG, "Deletes an API key")
        .about("It is refused from now on. Sockets that were opened with it are closed (`3500`) within a second.")
        .parameter("path", "id", schemas.of::<ApiKeyId>(), "The key's id.")
        .answer_as(204, "It is deleted.", &[])
        .refused(&[of(Forbidden), of(NotFound)]);
    vec![list, create, rotate, delete]
}

fn new_key(schemas: &mut Schemas) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "user"],
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": 64, "description": "What people call it." },
            "user": schemas.of::<UserId>(),
            "scopes": {
                "type": "array", "maxItems": 128, "default": [],
                "items": { "type": "string", "pattern": "^[!#-\\[\\]-~]{1,128}$" },
                "description": "What it allows beyond the user's own things. Never `operator`.",
            },
            "expires_at": schemas.of::<UnixMs>(),
        },
    })
}

fn revocations(schemas: &mut Schemas) -> Vec<Operation> {
    let list = Operation::new(
        "/v1/admin/revocations",
        "get",
        "listRevocations",
        TAG,
        "Lists the revocations in force, the newest first",
    )
    .answer(200, "The revocations.", schemas.of::<RevocationList>())
    .refused(&[of(Forbidden)]);
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "properties": {
            "token": { "type": "string", "minLength": 1, "maxLength": 256, "description": "The `jti` of one token." },
            "user": schemas.of::<UserId>(),
            "everyone": { "const": true, "description": "Whatever anybody of the tenant has by now." },
            "for_ms": {
                "type": "integer", "minimum": 1, "maximum": 34_560_000_000_u64, "default": 34_560_000_000_u64,
                "description": "How long it has to be remembered: until what it revokes has expired. Milliseconds.",
            },
        },
    });
    let revoke = Operation::new("/v1/admin/revocations", "post", "revoke", TAG, "Refuses credentials from now on")
        .about(
            "One of `token`, `user` and `everyone`. Of a user and of everyone, what is issued later is good: tokens by their \
            `iat`, API keys by when they were made. Live sockets are closed (`3500`) within a second. `everyone` includes \
            whoever asks.",
        )
        .body("application/json", body, "Whose.")
        .answer(201, "The revocation.", schemas.of::<RevocationView>())
        .refused(&UNREAD)
        .refused(&[of(Forbidden), FAULTS, of(NotFound), of(Conflict)]);
    vec![list, revoke]
}

fn tenants(schemas: &mut Schemas) -> Vec<Operation> {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 });
    let list = Operation::new(
        "/v1/admin/tenants",
        "get",
        "listTenants",
        TAG,
        "Lists the tenants, by id",
    )
    .about("Takes the scope `operator`.")
    .parameter(
        "query",
        "state",
        schemas.of::<TenantState>(),
        "Only those in this state.",
    )
    .parameter("query", "limit", limit, "At most so many.")
    .parameter(
        "query",
        "cursor",
        json!({ "type": "string" }),
        "The `cursor` of the page before.",
    )
    .answer(200, "A page of the tenants.", schemas.of::<TenantPage>())
    .refused(&[of(Forbidden), FAULTS]);
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["tenant"],
        "properties": {
            "tenant": schemas.of::<TenantId>(),
            "jurisdiction": {
                "enum": ["eu", "fedramp"],
                "description": "Where its objects stay; becomes the beginning of its id.",
            },
            "template": {
                "type": "string", "minLength": 1, "maxLength": 48,
                "description": "The template of the deployment that its first composition comes from.",
            },
        },
    });
    let create = Operation::new("/v1/admin/tenants", "post", "createTenant", TAG, "Creates a tenant")
        .about("Also one that was erased. Takes the scope `operator`.")
        .body("application/json", body, "What it is to be.")
        .answer(201, "The tenant.", schemas.of::<TenantView>())
        .refused(&UNREAD)
        .refused(&[of(Forbidden), FAULTS, of(Conflict)]);
    let confirm = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["confirm"],
        "properties": {
            "confirm": schemas.of::<TenantId>(),
            "keep_backups": {
                "type": "boolean", "default": false,
                "description": "Whether its backups stay, so that it can be restored.",
            },
        },
    });
    let erase = Operation::new(
        "/v1/admin/tenants/{tenant}",
        "delete",
        "eraseTenant",
        TAG,
        "Erases a tenant with all that is stored of it",
    )
    .about(
        "Nobody is let in from now on. The rest goes on by itself until a pass through everything finds nothing; `erasure` \
        says what was removed. Without a backup that is kept it cannot be undone. Takes the scope `operator`.",
    )
    .parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.")
    .body("application/json", confirm, "The tenant's id once more, and whether its backups stay.")
    .answer(202, "It is being erased, or is erased.", schemas.of::<TenantView>())
    .refused(&UNREAD)
    .refused(&[of(Forbidden), of(NotFound), FAULTS, of(Conflict)]);
    let mut tenant = |path, method, id, summary, about: &str| {
        Operation::new(path, method, id, TAG, summary)
            .about(about)
            .parameter("path", "tenant", schemas.of::<TenantId>(), "The tenant.")
            .answer(200, "The tenant.", schemas.of::<TenantView>())
            .refused(&[of(Forbidden), of(NotFound)])
    };
    let scope = "Takes the scope `operator`, which only tokens of an issuer that is configured for it can have.";
    let show = tenant(
        "/v1/admin/tenants/{tenant}",
        "get",
        "getTenant",
        "Shows a tenant",
        scope,
    );
    let suspend = tenant(
        "/v1/admin/tenants/{tenant}:suspend",
        "post",
        "suspendTenant",
        "Lets nobody of a tenant in",
        "Requests are refused with `TENANT_SUSPENDED`, and sockets closed (`3502`) within a second. Jobs that were accepted go \
        on. Takes the scope `operator`.",
    )
    .refused(&[of(Conflict)]);
    let resume = tenant(
        "/v1/admin/tenants/{tenant}:resume",
        "post",
        "resumeTenant",
        "Lets a suspended tenant in again",
        scope,
    )
    .refused(&[of(Conflict)]);
    vec![list, create, show, erase, suspend, resume]
}
