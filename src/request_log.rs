//! The request log of what comes over HTTP: one line for a request, once it is answered. What a line says, and which are
//! written, is decided in [`tidegate_engine::request_log`].

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use tidegate_durable_objects::platform::{now, random};
use tidegate_durable_objects::request_log::{level, write};
use tidegate_engine::hub::Logging;
use tidegate_engine::request_log::{Record, Transport};
use tidegate_protocol::Error;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::frames::{self, Mode};
use tidegate_protocol::ids::{JobId, RequestId, TenantId};
use tidegate_protocol::time::UnixMs;
use worker::{Env, Request, Response, ResponseBody};

/// A request that is served, and what is noted of it on the way.
pub struct Served {
    /// Its id, where the client or the hub gives it no other.
    id: RequestId,
    logging: Logging,
    at: UnixMs,
    method: String,
    bytes_in: Option<u64>,
    /// Whose request it is, once that is known. Not only for the log.
    tenant: RefCell<Option<TenantId>>,
    noted: RefCell<Noted>,
}

#[derive(Default)]
struct Noted {
    route: &'static str,
    principal: Option<Principal>,
    request_id: Option<RequestId>,
    action: Option<String>,
    mode: Option<Mode>,
    job: Option<JobId>,
    body: Option<String>,
    failed: Option<(String, Cow<'static, str>)>,
}

impl Served {
    /// A request begins.
    pub fn begin(request: &Request, env: &Env) -> Rc<Self> {
        let (logging, at) = (level(env), now());
        let (method, bytes_in) = match logging {
            Logging::Off => (String::new(), None),
            Logging::Requests | Logging::Frames => {
                let length = request.headers().get("content-length").ok().flatten();
                (
                    request.method().to_string(),
                    length.and_then(|length| length.parse().ok()),
                )
            }
        };
        Rc::new(Self {
            id: RequestId::generate(at, random()),
            logging,
            at,
            method,
            bytes_in,
            tenant: RefCell::default(),
            noted: RefCell::default(),
        })
    }

    /// The id of the request, where it has no other.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    fn note(&self, note: impl FnOnce(&mut Noted)) {
        if self.logging != Logging::Off {
            note(&mut self.noted.borrow_mut());
        }
    }

    /// Which route it is for, by the template of its path.
    pub fn routed(&self, template: &'static str) {
        self.note(|noted| noted.route = template);
    }

    /// Who asks.
    pub fn identified(&self, principal: &Principal) {
        self.tenant.replace(Some(principal.tenant.clone()));
        self.note(|noted| noted.principal = Some(principal.clone()));
    }

    /// Whose request it is; `None` for one that nobody has shown to be theirs.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant.borrow().clone()
    }

    /// What a body asks for. One that cannot be read asks for nothing that could be told.
    pub fn asked(&self, body: &str) {
        self.note(|noted| {
            if let Ok(request) = frames::Request::parse(body) {
                noted.action = Some(request.action.as_str().to_owned());
                noted.mode = Some(request.mode);
                noted.request_id = request.id;
            }
            noted.body = (self.logging == Logging::Frames).then(|| body.to_owned());
        });
    }

    /// What it became.
    pub fn became(&self, request_id: &RequestId, job: Option<JobId>) {
        self.note(|noted| {
            noted.request_id = Some(request_id.clone());
            noted.job = job;
        });
    }

    /// What it was refused with.
    pub fn failed(&self, error: &Error) {
        self.note(|noted| noted.failed = Some((error.code.as_str().to_owned(), error.message.clone())));
    }

    /// It is answered. Of an answer that goes on as a stream, this is its beginning.
    pub fn end(&self, env: &Env, response: &Response) {
        if self.logging == Logging::Off {
            return;
        }
        let status = response.status_code();
        let body = match response.body() {
            ResponseBody::Body(bytes) => Some(bytes.as_slice()),
            ResponseBody::Empty => Some([].as_slice()),
            ResponseBody::Stream(_) => None,
        };
        let mut noted = self.noted.take();
        if status >= 400 && noted.failed.is_none() {
            noted.failed = body.and_then(problem);
        }
        let failed = noted.failed.as_ref();
        let principal = noted.principal.as_ref();
        write(
            env,
            &Record {
                at: self.at,
                request_id: noted.request_id.as_ref().unwrap_or(&self.id),
                tenant: principal.map(|principal| &principal.tenant),
                who: principal,
                transport: Transport::Http,
                method: &self.method,
                route: noted.route,
                action: noted.action.as_deref(),
                mode: noted.mode,
                status,
                code: failed.map(|(code, _)| code.as_str()),
                message: failed.map(|(_, message)| message.clone()),
                duration_ms: now().since(self.at),
                bytes_in: self.bytes_in,
                bytes_out: body.and_then(|body| u64::try_from(body.len()).ok()),
                job: noted.job,
                body: noted.body.as_deref(),
                connection: None,
            },
        );
    }
}

/// What a problem document says.
fn problem(body: &[u8]) -> Option<(String, Cow<'static, str>)> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| problem.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    Some((text("code")?, text("detail")?.into()))
}
