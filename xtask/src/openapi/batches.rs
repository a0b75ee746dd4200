//! What the HTTP API does with batches: how one stands, and its cancel.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Forbidden, NotFound};
use tidegate_protocol::http::BatchView;
use tidegate_protocol::ids::BatchId;
use tidegate_protocol::limits::WAIT_SECONDS_MAX;

use super::operation::Operation;
use super::problems::{FAULTS, of};
use super::schemas::Schemas;

/// Every operation of this group.
pub fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let id = schemas.of::<BatchId>();
    let show = Operation::new(
        "/v1/batches/{id}",
        "get",
        "getBatch",
        "requests",
        "Shows how a batch stands",
    )
    .about(
        "The jobs that its calls made, counted by state. What a key had made before is not of it, and neither is the job \
        that does one of its jobs again. A batch goes with the last of its jobs, and one of which no request became a \
        job is not there. Another user's takes the scope `jobs:read` or `jobs:write`.",
    )
    .parameter("path", "id", id.clone(), "The batch.")
    .parameter(
        "query",
        "wait",
        json!({ "type": "integer", "minimum": 0 }),
        format!(
            "Wait up to so many seconds for the end of all its jobs; more than {WAIT_SECONDS_MAX} are \
            {WAIT_SECONDS_MAX}."
        ),
    )
    .answer(200, "The batch, ended or not.", schemas.of::<BatchView>())
    .refused(&[FAULTS, of(NotFound)]);
    let cancel = Operation::new(
        "/v1/batches/{id}:cancel",
        "post",
        "cancelBatch",
        "requests",
        "Cancels a batch",
    )
    .about(
        "From the answer on no job of the batch starts. Those that are there end as a cancelled job does, some at once \
        and a long batch within moments, whatever happens to the server: `ended_at` says that all have. A request that \
        comes for the batch later is refused with `CANCELLED`. Another user's batch takes the scope `jobs:write`. \
        Cancelling again changes nothing, and neither does cancelling a batch that has ended.",
    )
    .parameter("path", "id", id, "The batch.")
    .answer(202, "The batch is cancelled.", schemas.of::<BatchView>())
    .refused(&[of(NotFound), of(Forbidden)]);
    vec![show, cancel]
}
