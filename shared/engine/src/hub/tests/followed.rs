//! What a hub says of the jobs that its sockets follow.

use super::*;

#[test]
fn a_job_is_left_once_its_last_socket_is_gone_and_nobody_is_about_to_follow_it() {
    let mut bench = Bench::new();
    let socket = bench.open();
    let (id, _) = call(&bench.frame(&socket, r#"{"id":"r","action":"work"}"#));
    assert_eq!(
        bench.hub.not_followed(vec![job()]),
        [],
        "its acknowledgment is on its way"
    );
    bench.replied(id, acknowledged(1));
    assert_eq!(bench.hub.not_followed(vec![job()]), []);
    assert_eq!(bench.hub.closed(bench.now, &socket), []);
    assert_eq!(bench.hub.not_followed(vec![job()]), [job()]);
}
