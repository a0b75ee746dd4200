//! `tidegate channel` against real workerd: what one command publishes another shows, once and in order, whatever dies between.

use std::io::{BufRead, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::server::Server;
use tidegate_tests::tenant::{Tenant, composition};

use super::tenant_directory::program;

/// No line of a follower takes so long.
const LINE_MAX: Duration = Duration::from_secs(60);

/// The command, as a user of a tenant.
struct Cli {
    program: PathBuf,
    server: Arc<Server>,
    token: String,
}

/// An address that stays while the server behind it starts again on another port, and that cuts connections.
struct Relay {
    url: String,
    port: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let relay = Self {
            url: format!("http://{}", listener.local_addr().expect("its address")),
            port: Arc::new(AtomicU16::new(port)),
            open: Arc::default(),
        };
        let (port, open) = (relay.port.clone(), relay.open.clone());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A server that is not there closes what was opened.
                let Ok(far) = TcpStream::connect(("127.0.0.1", port.load(Ordering::SeqCst))) else {
                    continue;
                };
                let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
                open.lock().expect("the list").extend([copy(&near), copy(&far)]);
                for (mut from, mut to) in [(copy(&near), copy(&far)), (far, near)] {
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        relay
    }

    /// Cuts every connection.
    fn cut(&self) {
        for stream in self.open.lock().expect("the list").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Cli {
    fn of(tenant: &Tenant, user: &str) -> Self {
        Self {
            program: program(),
            server: tenant.server.clone(),
            token: tenant.token(user, ""),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_at(&self.server.url(), arguments)
    }

    fn command_at(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--json", "--url", url, "channel"])
            .args(arguments)
            .env("TIDEGATE_TOKEN", &self.token)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end; the code and the lines that it printed.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
        let Output { status, stdout, .. } = self.command(arguments).output().expect("the command runs");
        let lines = String::from_utf8_lossy(&stdout)
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        (status.code(), lines)
    }

    fn publish(&self, channel: &str, data: &Value) -> Value {
        let (code, mut lines) = self.run(&["publish", channel, &data.to_string()]);
        assert_eq!(code, Some(0), "{lines:?}");
        lines.pop().expect("where it stands")
    }

    fn follow(&self, arguments: &[&str]) -> Follower {
        self.follow_at(&self.server.url(), arguments)
    }

    fn follow_at(&self, url: &str, arguments: &[&str]) -> Follower {
        let mut child = self
            .command_at(url, &[&["follow"], arguments].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let stdout = BufReader::new(child.stdout.take().expect("its stdout"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Follower {
            child,
            lines,
            reconnections: 0,
        }
    }
}

/// A command that follows, ended with the test.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// How often it said that it is connected again.
    reconnections: u32,
}

impl Follower {
    /// The next line, which has to be of the type `kind`; what is said of the connection is counted.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(LINE_MAX).expect("a line in time");
            let read: Value = serde_json::from_str(&line).expect("a line of JSON");
            match read["type"].as_str() {
                Some("reconnecting") => {}
                Some("reconnected") => self.reconnections += 1,
                other => {
                    assert_eq!(other, Some(kind), "{read}");
                    return read;
                }
            }
        }
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().expect("the command").code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_one_command_publishes_another_shows_and_a_third_reads_later() {
    let tenant = Tenant::shared();
    let (ann, bob) = (Cli::of(&tenant, "ann"), Cli::of(&tenant, "bob"));
    let mut follower = bob.follow(&["chat:1", "--count", "3"]);
    let begin = follower.next("subscribed");
    assert_eq!((&begin["channel"], &begin["offset"]), (&json!("chat:1"), &json!(0)));
    for n in 1..=3 {
        let published = ann.publish("chat:1", &json!({ "n": n }));
        assert_eq!(
            (&published["offset"], &published["deduplicated"]),
            (&json!(n), &json!(false))
        );
        let message = follower.next("message");
        assert_eq!((&message["offset"], &message["data"]["n"]), (&json!(n), &json!(n)));
        assert_eq!(
            (&message["publisher"], &message["epoch"]),
            (&json!("ann"), &begin["epoch"])
        );
    }
    assert_eq!(follower.end(), Some(0));
    // The same key, the same message.
    for deduplicated in [false, true] {
        let (_, lines) = ann.run(&["publish", "chat:1", "4", "--key", "once"]);
        assert_eq!(
            (&lines[0]["offset"], &lines[0]["deduplicated"]),
            (&json!(4), &json!(deduplicated))
        );
    }
    let offsets = |lines: &[Value]| -> Vec<Value> {
        let messages = lines.iter().filter(|line| line["type"] == "message");
        messages.map(|line| line["offset"].clone()).collect()
    };
    let (code, page) = bob.run(&["history", "chat:1", "--limit", "2"]);
    assert_eq!((code, offsets(&page)), (Some(0), vec![json!(1), json!(2)]));
    let next = page[2]["next"].as_str().expect("a cursor");
    let (_, rest) = bob.run(&["history", "chat:1", "--after", next]);
    assert_eq!(offsets(&rest), [json!(3), json!(4)]);
    assert_eq!(offsets(&bob.run(&["history", "chat:1", "--all"]).1).len(), 4);
    // From a cursor on, what was missed comes first.
    let mut late = bob.follow(&["chat:1", "--after", next, "--count", "2"]);
    late.next("subscribed");
    for n in 3..=4 {
        assert_eq!(late.next("message")["offset"], n);
    }
    assert_eq!(late.end(), Some(0));
}

#[test]
fn a_follower_misses_nothing_when_its_socket_is_cut_and_when_the_whole_server_dies() {
    let tenant = Tenant::new(Arc::new(Server::start()));
    let cli = Cli::of(&tenant, "ann");
    let relay = Relay::start(tenant.server.port());
    let mut follower = cli.follow_at(&relay.url, &["news:1"]);
    follower.next("subscribed");
    let message = |follower: &mut Follower, n: u64| {
        let message = follower.next("message");
        assert_eq!((&message["offset"], &message["data"]), (&json!(n), &json!(n)));
    };
    let mut n = 0;
    for kill in [false, true, false, true] {
        n += 1;
        cli.publish("news:1", &json!(n));
        message(&mut follower, n);
        if kill {
            tenant.server.kill();
            tenant.server.start_again();
            relay.port.store(tenant.server.port(), Ordering::SeqCst);
        } else {
            relay.cut();
        }
        // Published while it is away, or just back.
        n += 1;
        cli.publish("news:1", &json!(n));
        message(&mut follower, n);
    }
    assert!(follower.reconnections >= 4, "{}", follower.reconnections);
}

#[test]
fn what_is_no_longer_kept_is_a_gap_and_what_is_not_allowed_has_its_exit_code() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["channels"] = json!({
        "log": { "publish": true, "history": { "messages": 2 } },
        "staff": { "subscribe": { "scopes": ["staff"] } },
    });
    tenant.put_composition(&document);
    let cli = Cli::of(&tenant, "ann");
    let first = cli.publish("log:1", &json!(1));
    // The log is cut now and then, not with each message; shown are the latest two at once.
    for n in 2..=40 {
        cli.publish("log:1", &json!(n));
    }
    let after = format!("{}:1", first["epoch"].as_str().expect("an epoch"));
    let mut follower = cli.follow(&["log:1", "--after", &after]);
    let gap = follower.next("gap");
    assert_eq!(
        (&gap["after"], &gap["until"]),
        (&json!(after), &json!(after.replace(":1", ":40")))
    );
    let (_, lines) = cli.run(&["history", "log:1", "--after", &after]);
    let until = after.replace(":1", ":38");
    assert_eq!((&lines[0]["type"], &lines[0]["until"]), (&json!("gap"), &json!(until)));
    assert_eq!((&lines[1]["offset"], &lines[2]["offset"]), (&json!(39), &json!(40)));
    for (arguments, exit, code) in [
        (&["follow", "staff:1"][..], 4, "NOT_FOUND"),
        (&["history", "staff:1"], 4, "NOT_FOUND"),
        (&["publish", "staff:1", "1"], 4, "NOT_FOUND"),
    ] {
        let (ended, lines) = cli.run(arguments);
        let error = &lines[lines.len() - 1]["error"];
        assert_eq!((ended, &error["code"]), (Some(exit), &json!(code)), "{arguments:?}");
    }
    // The rules change under a follower: it is told, and ends.
    document["channels"]["log"] = json!({ "subscribe": { "scopes": ["staff"] } });
    tenant.put_composition(&document);
    let ended = follower.next("error");
    assert!(ended["error"]["code"].is_string(), "{ended}");
    assert_ne!(follower.end(), Some(0));
}

#[test]
fn a_terminal_shows_what_happens_to_every_job_and_to_one() {
    let tenant = Tenant::shared();
    let mut document = composition(None);
    document["channels"] = json!({ "tenant": { "jobs": true } });
    tenant.put_composition(&document);
    let ops = Cli {
        token: tenant.token("ops", "jobs:read"),
        ..Cli::of(&tenant, "ops")
    };
    let (code, lines) = Cli::of(&tenant, "ann").run(&["follow", "tenant:jobs", "--count", "1"]);
    assert_eq!(
        (code, &lines[0]["error"]["code"]),
        (Some(4), &json!("NOT_FOUND")),
        "{lines:?}"
    );
    let mut all = ops.follow(&["tenant:jobs"]);
    all.next("subscribed");
    let body = json!({ "action": "slow", "payload": { "ms": 700, "steps": 4 }, "mode": "async" });
    let job = tenant.client("ann").post("/v1/requests", &body).json(202)["job_id"].clone();
    let mut one = ops.follow(&[&format!("job:{}", job.as_str().expect("an id"))]);
    for (follower, first) in [(&mut all, "acknowledgment"), (&mut one, "")] {
        if first.is_empty() {
            follower.next("subscribed");
        }
        let mut kinds = Vec::new();
        while kinds.last().is_none_or(|kind| kind != "complete") {
            let message = follower.next("message");
            assert_eq!(message["data"]["job_id"], job, "{message}");
            kinds.push(message["data"]["type"].as_str().expect("a type").to_owned());
        }
        assert!(kinds.len() >= 2 && kinds[0].starts_with(first), "{kinds:?}");
    }
}
