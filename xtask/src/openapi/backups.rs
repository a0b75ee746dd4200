//! What the HTTP API tells of backups of a tenant, and how they are taken, carried away and restored.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Conflict, Forbidden, NotFound, PayloadTooLarge};
use tidegate_protocol::http::{BackupList, BackupView};
use tidegate_protocol::ids::{BackupId, TenantId};

use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

const TAG: &str = "administration";
const ALL: &str = "/v1/admin/tenants/{tenant}/backups";
const ONE: &str = "/v1/admin/tenants/{tenant}/backups/{backup}";
const PART: &str = "/v1/admin/tenants/{tenant}/backups/{backup}/parts/{part}";

/// `/v1/admin/tenants/{tenant}/backups`, and what is below it.
pub fn backups(schemas: &mut Schemas) -> Vec<Operation> {
    let tenant = schemas.of::<TenantId>();
    let backup = schemas.of::<BackupId>();
    let view = schemas.of::<BackupView>();
    let of_all = |operation: Operation| {
        operation
            .parameter("path", "tenant", tenant.clone(), "The tenant.")
            .refused(&[of(Forbidden), of(NotFound)])
    };
    let of_one = |operation: Operation| of_all(operation.parameter("path", "backup", backup.clone(), "The backup."));
    let of_part = |operation: Operation| {
        let number = json!({ "type": "integer", "minimum": 0, "maximum": 99_999_999 });
        of_one(operation.parameter("path", "part", number, "Its number; 0 is the manifest."))
    };
    let bytes = || json!({ "type": "string", "format": "binary" });
    vec![
        of_all(Operation::new(ALL, "get", "listBackups", TAG, "Lists the backups of a tenant, the newest first"))
            .about("Takes the scope `operator`.")
            .answer(200, "The backups.", schemas.of::<BackupList>()),
        of_one(Operation::new(ONE, "get", "getBackup", TAG, "Shows a backup"))
            .about("How far it has got, what it holds, and whether the tenant was restored from it. Takes the scope `operator`.")
            .answer(200, "The backup.", view.clone()),
        of_part(Operation::new(PART, "get", "getBackupPart", TAG, "Reads a part of a backup"))
            .about(
                "Part 0 is the manifest: a line of JSON about the backup, and one for each part with its SHA-256. All others \
                are sequences of CBOR items (RFC 8742). Takes the scope `operator`.",
            )
            .answer_as(200, "The part.", &[("application/octet-stream", bytes())]),
        of_part(Operation::new(PART, "put", "putBackupPart", TAG, "Brings a part of a backup that was taken elsewhere"))
            .about(
                "Takes the same part again. A backup that is whole does not change any more. Takes the scope `operator`.",
            )
            .body("application/octet-stream", bytes(), "The part: 64 MiB at most.")
            .answer(200, "The backup.", view.clone())
            .refused(&[FAULTS, of(Conflict), of(PayloadTooLarge)]),
        of_one(Operation::new(
            "/v1/admin/tenants/{tenant}/backups/{backup}:restore",
            "post",
            "restoreBackup",
            TAG,
            "Restores a tenant from a backup",
        ))
        .about(
            "Only where there is no such tenant, or it is erased. Every part is checked before anything is written. The tenant \
            comes back suspended; its jobs go on once it is resumed. Takes the scope `operator`.",
        )
        .answer(202, "It is being restored.", view.clone())
        .refused(&[of(Conflict)]),
        of_all(Operation::new(ALL, "post", "takeBackup", TAG, "Takes a backup of a tenant"))
            .about(
                "Everything that its objects hold, at one moment, and what lies in object storage. It goes on by itself, \
                whatever dies meanwhile. Takes the scope `operator`.",
            )
            .answer(202, "It is being taken.", view.clone())
            .refused(&[of(Conflict)]),
        of_one(Operation::new(ONE, "delete", "deleteBackup", TAG, "Deletes a backup"))
            .about("Takes the scope `operator`.")
            .answer(202, "It is being deleted.", view)
            .refused(&[of(Conflict)]),
    ]
}
