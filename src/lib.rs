//! The Worker: what comes in from outside. It authenticates, routes, and executes attempts; it decides nothing else.

mod access;
mod address_limits;
mod again;
mod answer;
mod attempts;
mod audit;
mod backups;
mod batch;
mod batches;
mod channels;
mod connect;
mod cross_origin;
mod directory;
mod doorbells;
mod endpoints;
mod executor;
mod health;
mod history;
mod housekeeping;
mod idempotency;
mod identify;
mod inbound;
mod jobs;
mod limits;
mod objects;
mod operations;
mod policies;
mod queue;
mod readiness;
mod refusals;
mod request_log;
mod requests;
mod routes;
mod schedules;
mod secrets;
mod templates;
mod tenants;
mod upstreams;
mod usage;
mod webhooks;
mod workers;

use std::rc::Rc;

use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::jobs::Change;
use tidegate_protocol::{Error, ErrorCode};
use worker::{Context, Env, Method, Request, Response, Result, event, wasm_bindgen};

// Naming the classes makes the bundle export them.
pub use tidegate_durable_objects::{Channel, Hub, Jobs, Tenant};

use crate::request_log::Served;
use crate::routes::{Access, Route, allowed, find};

#[event(start)]
fn start() {
    console_error_panic_hook::set_once();
    tidegate_durable_objects::microtasks::wake_by_promises();
}

/// A request from outside.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
    let head = request.method() == Method::Head;
    let origin = cross_origin::origin(&request);
    let served = Served::begin(&request, &env);
    let response = match handle(request, env.clone(), &context, &served).await {
        Ok(response) => response,
        Err(error) => {
            served.failed(&error);
            answer::problem(&error, Some(served.id().clone()))?
        }
    };
    // What became a socket is no answer to be read.
    if let Some(origin) = origin.filter(|_| response.status_code() != 101) {
        cross_origin::share(&env, served.tenant().as_ref(), &origin, &response).await;
    }
    served.end(&env, &response);
    if !head {
        return Ok(response);
    }
    let (builder, _) = response.into_parts();
    Ok(builder.empty())
}

async fn handle(
    mut request: Request,
    env: Env,
    context: &Context,
    served: &Rc<Served>,
) -> core::result::Result<Response, Error> {
    let path = request.path();
    let Some(route) = find(&path) else {
        return Err(Error::new(
            ErrorCode::NotFound,
            "There is no such path. The API is described at /openapi.json.",
        ));
    };
    served.routed(templates::template(&route));
    let method = match request.method() {
        Method::Head => Method::Get,
        method => method,
    };
    let methods = allowed(&route);
    if method == Method::Options {
        return answer::options(&request, methods);
    }
    if !methods.contains(&method) {
        return answer::method_not_allowed(&method, methods);
    }
    match routes::access(&route) {
        Access::Everyone => return operations::handle(&env, &route).await,
        Access::Attempt => return attempts::handle(&mut request, &env, &route).await,
        Access::Signature => return inbound::handle(&mut request, &env, context, &route).await,
        Access::Token => {}
    }
    let network = identify::network(&request, &env);
    address_limits::check_credentials(&network)?;
    let answered = with_credentials(request, env.clone(), context, served, (route, method)).await;
    if matches!(&answered, Err(error) if error.code == ErrorCode::Unauthorized) {
        address_limits::note_refused(&env, &network).await;
    }
    answered
}

/// Serves whoever comes with a token, a key or a ticket, once that was looked at.
async fn with_credentials(
    request: Request,
    env: Env,
    context: &Context,
    served: &Rc<Served>,
    (route, method): (Route, Method),
) -> core::result::Result<Response, Error> {
    if route == Route::Connect {
        return connect::handle(&request, &env, served).await;
    }
    let principal = identify::header(&request, &env).await?;
    served.identified(&principal);
    let (tenant, telling) = (principal.tenant.clone(), env.clone());
    let asked = idempotency::Asked {
        request,
        env,
        route,
        method,
        principal,
        served: served.clone(),
    };
    let answered = answered(asked, context).await;
    if let Err(error) = &answered {
        refusals::note(&telling, context, tenant, error.code);
    }
    answered
}

async fn answered(asked: idempotency::Asked, context: &Context) -> core::result::Result<Response, Error> {
    if !routes::asks_a_hub(&asked.route) {
        tidegate_durable_objects::access::check(&asked.env, &asked.principal).await?;
    }
    idempotency::serve(asked, context).await
}

/// What each route does. Reached through [`idempotency::serve`] alone.
async fn serve(
    request: &mut Request,
    env: &Env,
    route: Route,
    method: Method,
    principal: Principal,
    served: &Served,
) -> core::result::Result<Response, Error> {
    match route {
        Route::Requests => requests::create(request, env, principal, served).await,
        Route::Batch => batch::create(request, env, principal).await,
        Route::BatchView(batch) => batches::show(request, env, &principal, &batch).await,
        Route::BatchCancel(batch) => batches::cancel(request, env, &principal, &batch).await,
        Route::Jobs => jobs::list(request, env, &principal).await,
        Route::Job(job) => jobs::show(request, env, &principal, &job).await,
        Route::JobEvents(job) => jobs::events(request, env, &principal, &job).await,
        Route::JobResult(job) => jobs::result(env, &principal, &job).await,
        Route::JobCancel(job) => jobs::cancel(request, env, &principal, &job).await,
        Route::JobWhy(job) => jobs::why(env, &principal, &job).await,
        Route::JobOutput(job, stream) => history::output(request, env, &principal, &job, &stream).await,
        Route::Queue => queue::show(env, &principal).await,
        Route::QueuePause => queue::hold(request, env, &principal, queue::Held::Back).await,
        Route::QueueResume => queue::hold(request, env, &principal, queue::Held::NoMore).await,
        Route::Schedules => schedules::list(env, &principal).await,
        Route::Schedule(name, change) => schedules::change(request, env, &principal, &name, change).await,
        Route::JobRetry(job) => again::retry(request, env, &principal, &job).await,
        Route::JobPause(job) => jobs::change(request, env, &principal, &job, Change::Pause).await,
        Route::JobResume(job) => jobs::change(request, env, &principal, &job, Change::Resume).await,
        Route::JobReschedule(job) => jobs::reschedule(request, env, &principal, &job).await,
        Route::JobsCancel => again::cancel(request, env, &principal).await,
        Route::DeadLetters => again::dead_letters(request, env, &principal).await,
        Route::Redrive => again::redrive(request, env, &principal).await,
        Route::Discard => again::discard(request, env, &principal).await,
        Route::Lease(pool) => workers::lease(request, env, &principal, &pool).await,
        Route::Tickets => connect::ticket(env, &principal).await,
        Route::Object(key) => objects::handle(request, env, &principal, &key, &method).await,
        Route::Composition if method == Method::Put => tenants::activate(request, env, &principal).await,
        Route::Composition => tenants::composition(env, &principal).await,
        Route::Audit => audit::show(request, env, &principal).await,
        Route::AuditArchive(None) => audit::segments(request, env, &principal).await,
        Route::AuditArchive(Some(name)) => audit::segment(env, &principal, &name).await,
        Route::Usage(of) => usage::show(request, env, &principal, of.as_deref()).await,
        Route::UsageExport => usage::export(request, env, &principal).await,
        Route::Budgets(tenant) => usage::set_budgets(request, env, &principal, &tenant).await,
        Route::Limits => limits::show(request, env, &principal).await,
        Route::DeploymentLimits(tenant) => limits::of_tenant(request, env, &principal, &method, &tenant).await,
        Route::AdminHealth => health::show(env, &principal).await,
        Route::Upstreams => upstreams::handle(request, env, &principal, None).await,
        Route::Upstream(name, key, change) => {
            upstreams::handle(request, env, &principal, Some((name, key, change))).await
        }
        Route::Access(route) => access::handle(request, env, &principal, &method, route).await,
        Route::Backups(tenant, route) => backups::handle(request, env, &principal, &method, (tenant, route)).await,
        Route::Secrets => secrets::list(env, &principal).await,
        Route::Secret(name) if method == Method::Put => secrets::set(request, env, &principal, &name).await,
        Route::Secret(name) => secrets::delete(request, env, &principal, &name).await,
        Route::Webhooks => inbound::list(request, env, &principal).await,
        Route::WebhookSecret => webhooks::secret(env, &principal).await,
        Route::WebhookSecretRotate => webhooks::rotate(request, env, &principal).await,
        Route::Endpoints => endpoints::all(request, env, &principal, &method).await,
        Route::Endpoint(id) => endpoints::one(request, env, &principal, &method, &id).await,
        Route::EndpointDeliveries(id) => endpoints::deliveries(request, env, &principal, &id).await,
        Route::EndpointReplay(id) => endpoints::replay(request, env, &principal, &id).await,
        Route::ChannelMessages(channel) if method == Method::Post => {
            channels::publish(request, env, principal, &channel).await
        }
        Route::ChannelMessages(channel) => channels::history(request, env, principal, &channel).await,
        Route::ChannelPresence(channel) => channels::presence(env, principal, &channel).await,
        Route::PolicyExplanation => policies::explain(request, env, &principal).await,
        Route::NotYet(what) => {
            let message = format!("`{what}` is part of the protocol, but not there yet.");
            Err(Error::new(ErrorCode::NotImplemented, message))
        }
        Route::Connect | Route::Health | Route::Ready | Route::OpenApi => Err(Error::not_found()),
        Route::AttemptPayload(_) | Route::AttemptReport(_) | Route::AttemptFinish(_) | Route::Webhook(_) => {
            Err(Error::not_found())
        }
    }
}

/// Doorbells from the queue. Each message is acknowledged or retried by itself, so that one bad one spoils no batch.
#[event(queue)]
async fn queue(batch: worker::MessageBatch<serde_json::Value>, env: Env, _context: Context) -> Result<()> {
    doorbells::handle(&batch, &env).await;
    Ok(())
}

/// The housekeeping of the deployment, now and then.
#[event(scheduled)]
async fn scheduled(_event: worker::ScheduledEvent, env: Env, _context: worker::ScheduleContext) {
    housekeeping::run(&env).await;
}
