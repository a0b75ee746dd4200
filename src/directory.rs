//! `/v1/admin/tenants`: the tenants of the deployment. The directory decides and remembers; here bodies are read, and the
//! template of a new tenant is made its first composition.

use serde_json::value::RawValue;
use tidegate_durable_objects::{remote, residence};
use tidegate_engine::composition::{self, DeploymentLimits};
use tidegate_engine::directory::PAGE_MAX;
use tidegate_protocol::calls::Principal;
use tidegate_protocol::calls::directory::{Call, Reply};
use tidegate_protocol::fault::{escape_pointer, shorten};
use tidegate_protocol::fields::Fields;
use tidegate_protocol::http::{NewTenant, TenantState, parse_confirmation};
use tidegate_protocol::ids::TenantId;
use tidegate_protocol::limits::BODY_BYTES_MAX;
use tidegate_protocol::{Error, ErrorCode, Fault};
use worker::{Env, Method, Request, Response};

use crate::audit::acting;
use crate::jobs::queries;
use crate::requests::read_text;
use crate::tenants::{put, unexpected};
use crate::{answer, limits};

/// The variable with the templates: a JSON object, of a composition for each name.
const TEMPLATES: &str = "TIDEGATE_TEMPLATES";
/// Tenants of a page, where the query does not say.
const PAGE: u32 = 50;
/// What can narrow a page.
const CONDITIONS: [&str; 3] = ["state", "limit", "cursor"];

/// `/v1/admin/tenants`: a page of the tenants, or a new one.
///
/// Errors: `FORBIDDEN` without the scope `operator`; `VALIDATION_ERROR` with every fault, those of a template included;
/// `CONFLICT` where there is such a tenant; `UNAVAILABLE`.
pub async fn handle(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    method: &Method,
) -> Result<Response, Error> {
    check_operator(principal)?;
    if *method == Method::Get {
        let call = query(&queries(request)?)?;
        return show(env, &call, 200).await;
    }
    let body = read_text(request, BODY_BYTES_MAX).await?;
    let NewTenant { tenant, template } = NewTenant::parse(&body)?;
    let template_of = |name: &str| template_of(env, name);
    let from = template.as_deref().map(template_of).transpose()?;
    let create = Call::Create {
        resident: residence::is_kept(env, &tenant)?,
        tenant: tenant.clone(),
        template,
        by: acting(request, principal),
    };
    let Some(Template { document, limits }) = from else {
        return show(env, &create, 201).await;
    };
    remote::directory(env, &create).await?;
    // Before anybody can use what it limits.
    if let Some(limits) = limits {
        limits::set(request, env, principal, &tenant, limits).await?;
    }
    put(request, env, principal, &tenant, document).await?;
    show(env, &Call::Created { tenant }, 201).await
}

/// `/v1/admin/tenants/{tenant}`: shows a tenant, or has it erased.
///
/// Errors: `NOT_FOUND`; `VALIDATION_ERROR` where an erasure is not confirmed; `CONFLICT` for the tenant of whoever asks;
/// `UNAVAILABLE`.
pub async fn handle_one(
    request: &mut Request,
    env: &Env,
    principal: &Principal,
    method: &Method,
    tenant: TenantId,
) -> Result<Response, Error> {
    if *method == Method::Get {
        return show(env, &Call::Show { tenant }, 200).await;
    }
    check_other(principal, &tenant)?;
    let body = read_text(request, BODY_BYTES_MAX).await?;
    let keep_backups = parse_confirmation(&body, &tenant)?;
    let erase = Call::Erase {
        tenant,
        by: acting(request, principal),
        keep_backups,
    };
    show(env, &erase, 202).await
}

/// What the directory shows.
///
/// Errors: the directory's refusals, and `UNAVAILABLE`.
pub async fn show(env: &Env, call: &Call, status: u16) -> Result<Response, Error> {
    match remote::directory(env, call).await? {
        Reply::Shown(view) => answer::json(&view, status),
        Reply::Standing { .. } => Err(unexpected()),
    }
}

fn check_operator(principal: &Principal) -> Result<(), Error> {
    if principal.scopes.contains("operator") {
        return Ok(());
    }
    let message = "Tenants are administered with the scope `operator`, by tokens of an issuer that may give it.";
    Err(Error::new(ErrorCode::Forbidden, message))
}

/// The tenant that an operator names.
///
/// Errors: `FORBIDDEN` without the scope `operator`, whether there is such a tenant or not; `NOT_FOUND`.
pub fn of_operator(principal: &Principal, tenant: &str) -> Result<TenantId, Error> {
    check_operator(principal)?;
    TenantId::parse(tenant).ok_or_else(Error::not_found)
}

/// Errors: `CONFLICT` for the tenant of whoever asks.
pub fn check_other(principal: &Principal, tenant: &TenantId) -> Result<(), Error> {
    if *tenant != principal.tenant {
        return Ok(());
    }
    let message = "That is the tenant of your own token, which could not undo it any more.";
    Err(Error::new(ErrorCode::Conflict, message))
}

/// What a tenant begins with.
struct Template {
    document: String,
    limits: Option<String>,
}

/// The template of this name: a composition; or an object of a `composition` and what the deployment allows its tenants, `limits`.
///
/// Errors: `VALIDATION_ERROR` where there is none of that name, and with every fault of one that cannot be used.
fn template_of(env: &Env, name: &str) -> Result<Template, Error> {
    let none = |expected: &'static str| {
        let fault = Fault::new("/template", expected, name);
        Error::invalid("The tenant cannot be created.", vec![fault])
    };
    let text = env.var(TEMPLATES).map(|text| text.to_string()).unwrap_or_default();
    if text.is_empty() {
        return Err(none("nothing: the variable TIDEGATE_TEMPLATES is not set"));
    }
    let templates =
        Fields::split(&text).map_err(|_| none("nothing: the variable TIDEGATE_TEMPLATES is no JSON object"))?;
    let whole = templates
        .raw(name)
        .ok_or_else(|| none("the name of a template in the variable TIDEGATE_TEMPLATES"))?
        .get();
    let parts = Fields::split(whole).ok();
    let part = |name: &str| parts.as_ref().and_then(|parts| parts.raw(name)).map(RawValue::get);
    let (document, limits, of_document) = match part("composition") {
        Some(document) => (document, part("limits"), "/template/composition"),
        None => (whole, None, "/template"),
    };
    let mut faults = Vec::new();
    let checked = [
        (
            composition::compile(document, tidegate_patterns::MANIFESTS).err(),
            of_document,
        ),
        (
            limits.and_then(|limits| DeploymentLimits::parse(limits).err()),
            "/template/limits",
        ),
    ];
    for (error, at) in checked {
        let Some(error) = error else { continue };
        if error.details.is_empty() {
            return Err(error);
        }
        faults.extend(error.details.into_iter().map(|fault| Fault {
            pointer: format!("{at}{}", fault.pointer),
            ..fault
        }));
    }
    if !faults.is_empty() {
        return Err(Error::invalid("The template cannot be used.", faults));
    }
    Ok(Template {
        document: document.to_owned(),
        limits: limits.map(str::to_owned),
    })
}

fn query(pairs: &[(String, String)]) -> Result<Call, Error> {
    let (mut state, mut after, mut limit) = (None, None, PAGE);
    let mut faults = Vec::new();
    for (name, value) in pairs {
        let expected = match name.as_str() {
            "state" => match TenantState::parse(value) {
                Some(_) => {
                    state = Some(value.clone());
                    continue;
                }
                None => "creating, active, suspended, erasing, erased or restoring",
            },
            "cursor" => match TenantId::parse(value) {
                Some(tenant) => {
                    after = Some(tenant);
                    continue;
                }
                None => "the cursor of a page",
            },
            "limit" => match value.parse::<u32>() {
                Ok(number @ 1..=PAGE_MAX) => {
                    limit = number;
                    continue;
                }
                _ => "a whole number from 1 to 200",
            },
            _ => "no such condition",
        };
        let pointer = format!("/query/{}", escape_pointer(&shorten(name)));
        let fault = Fault::new(pointer, expected, value);
        faults.push(if CONDITIONS.contains(&name.as_str()) {
            fault
        } else {
            fault.suggest(name, CONDITIONS)
        });
    }
    if faults.is_empty() {
        return Ok(Call::List { state, after, limit });
    }
    Err(Error::invalid("The query cannot be used.", faults))
}
