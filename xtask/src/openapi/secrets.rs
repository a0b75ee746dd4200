//! What the HTTP API tells of secrets, and how they are set and deleted.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Conflict, Forbidden, NotFound};
use tidegate_protocol::http::{SECRET_BYTES_MAX, SecretList, SecretView};
use tidegate_protocol::ids::SecretName;

use super::access::UNREAD;
use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

const TAG: &str = "administration";
const PATH: &str = "/v1/admin/secrets/{name}";

/// `/v1/admin/secrets`.
pub fn secrets(schemas: &mut Schemas) -> Vec<Operation> {
    let list = Operation::new("/v1/admin/secrets", "get", "listSecrets", TAG, "Lists the secrets")
        .about("Without their values, which nothing shows.")
        .answer(
            200,
            "The secrets, in the order of their names.",
            schemas.of::<SecretList>(),
        )
        .refused(&[of(Forbidden)]);
    let body = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["value"],
        "properties": {
            "value": {
                "type": "string", "minLength": 1, "maxLength": SECRET_BYTES_MAX, "writeOnly": true,
                "description": "The value: a text of at most 16,384 bytes.",
            },
            "overlap_ms": {
                "type": "integer", "minimum": 0, "maximum": 2_592_000_000_u64, "default": 86_400_000,
                "description": "How long the value before it stays good. Milliseconds.",
            },
        },
    });
    let set = Operation::new(PATH, "put", "setSecret", TAG, "Sets a secret, or gives it another value")
        .about(
            "What is sent takes the new value within seconds; the one before stays good for what verifies with it, for as long \
            as `overlap_ms` says. The value that it has already changes nothing. No fault repeats what was sent.",
        )
        .parameter("path", "name", schemas.of::<SecretName>(), "The secret's name.")
        .body("application/json", body, "The value.")
        .answer(200, "It has another value, or the same as before.", schemas.of::<SecretView>())
        .answer(201, "It is set for the first time.", schemas.of::<SecretView>())
        .refused(&UNREAD)
        .refused(&[of(Forbidden), FAULTS, of(Conflict)]);
    let delete = Operation::new(PATH, "delete", "deleteSecret", TAG, "Deletes a secret")
        .about("Attempts that need it fail from then on, with `SECRET_UNUSABLE`.")
        .parameter("path", "name", schemas.of::<SecretName>(), "The secret's name.")
        .answer_as(204, "It is deleted.", &[])
        .refused(&[of(Forbidden), of(NotFound)]);
    vec![list, set, delete]
}
