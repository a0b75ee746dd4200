//! What the HTTP API tells of upstreams, and what is done to their breakers by hand.

use serde_json::json;
use tidegate_protocol::ErrorCode::{Conflict, Forbidden, NotFound};
use tidegate_protocol::http::UpstreamsView;

use super::operation::Operation;
use super::problems::of;
use super::schemas::Schemas;

/// `/v1/admin/upstreams`.
pub fn upstreams(schemas: &mut Schemas) -> Vec<Operation> {
    let show = Operation::new(
        "/v1/admin/upstreams",
        "get",
        "getUpstreams",
        "administration",
        "Tells how the breakers of upstreams stand",
    )
    .about(
        "Those that have changed their state or failed of late, and those that are called now; a breaker that is well may be \
        missing. What its window holds is told as of the last calls.",
    )
    .answer(200, "The breakers.", schemas.of::<UpstreamsView>())
    .refused(&[of(Forbidden)]);
    let mut change = |path, id, summary, about: &str| {
        Operation::new(path, "post", id, "administration", summary)
            .about(about)
            .parameter(
                "path",
                "name",
                json!({ "type": "string" }),
                "The upstream of the active composition: its pattern's instance and its name, with a dot between; for the \
                 breaker of one key, a slash and the key behind it, escaped.",
            )
            .answer(200, "The breakers as they stand now.", schemas.of::<UpstreamsView>())
            .refused(&[of(Forbidden), of(NotFound), of(Conflict)])
    };
    let open = change(
        "/v1/admin/upstreams/{name}:open",
        "openUpstream",
        "Opens a breaker until it is closed by hand",
        "No call of the upstream is made any more. Known everywhere within 5 s.",
    );
    let close = change(
        "/v1/admin/upstreams/{name}:close",
        "closeUpstream",
        "Closes a breaker",
        "It begins anew, with nothing counted. Ends what `:open` and `:disable` began.",
    );
    let disable = change(
        "/v1/admin/upstreams/{name}:disable",
        "disableUpstream",
        "Disables a breaker until it is closed by hand",
        "Every call is made, and none is counted.",
    );
    vec![show, open, close, disable]
}
