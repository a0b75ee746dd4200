//! Bodies about what a tenant uses, and its budgets.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::SortedMap;
use crate::calls::tenant::UsageForm;
use crate::calls::usage::{Counts, Meter};
use crate::error::Error;
use crate::fault::Fault;
use crate::fields::Fields;
use crate::time::UnixMs;

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Meters {
    /// Requests for actions that were admitted, over HTTP and sockets.
    pub requests: u64,
    /// Frames that clients sent; the keep-alive is not among them.
    pub messages_in: u64,
    /// Frames that were sent to clients.
    pub messages_out: u64,
    /// Jobs that were stored.
    pub jobs: u64,
    /// Attempts that the deployment's executor was given.
    pub attempts: u64,
    /// Rows read by the tenant's objects.
    pub rows_read: u64,
    /// Rows written by the tenant's objects, each set alarm counted as one.
    pub rows_written: u64,
    /// Bytes of requests and frames that reached a hub.
    pub bytes_in: u64,
    /// Bytes of frames, and of results in answers over HTTP, that a hub sent.
    pub bytes_out: u64,
    /// Calls that the tenant's objects were sent.
    pub object_calls: u64,
    /// Time for which sockets were open, added up. Milliseconds.
    pub connection_ms: u64,
    /// Time for which the tenant's objects were awake, added up. Milliseconds.
    pub awake_ms: u64,
    /// Payloads put into object storage because they are too large for a row.
    pub objects_stored: u64,
    /// Bytes of those.
    pub bytes_stored: u64,
}

impl From<&Counts> for Meters {
    fn from(counts: &Counts) -> Self {
        Self {
            requests: counts.of(Meter::Requests),
            messages_in: counts.of(Meter::MessagesIn),
            messages_out: counts.of(Meter::MessagesOut),
            jobs: counts.of(Meter::Jobs),
            attempts: counts.of(Meter::Attempts),
            rows_read: counts.of(Meter::RowsRead),
            rows_written: counts.of(Meter::RowsWritten),
            bytes_in: counts.of(Meter::BytesIn),
            bytes_out: counts.of(Meter::BytesOut),
            object_calls: counts.of(Meter::ObjectCalls),
            connection_ms: counts.of(Meter::ConnectionMs),
            awake_ms: counts.of(Meter::AwakeMs),
            objects_stored: counts.of(Meter::ObjectsStored),
            bytes_stored: counts.of(Meter::BytesStored),
        }
    }
}

/// What was used in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageWindow {
    /// When the window began.
    pub at: UnixMs,
    /// When it ends.
    pub until: UnixMs,
    /// What was counted in it.
    pub meters: Meters,
    /// What that costs by the prices.
    pub estimated_cost: f64,
}

/// What was used in all windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageSum {
    /// What was counted.
    pub meters: Meters,
    /// What that costs by the prices.
    pub estimated_cost: f64,
}

/// What a cost is estimated by. What is not named costs nothing in the estimate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsagePrices {
    /// What the prices are in.
    pub currency: String,
    /// What a million units cost, by the meter.
    pub per_million: SortedMap<String, f64>,
}

/// A budget, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BudgetView {
    /// Its name.
    pub name: String,
    /// Who set it: `composition` or `operator`.
    pub set_by: String,
    /// What is counted.
    pub meter: String,
    /// In which time: `day` or `month`, in UTC.
    pub per: String,
    /// How much may be used.
    pub units: u64,
    /// From how much on it warns.
    pub warn_units: u64,
    /// How much was used in the window of now.
    pub used: u64,
    /// When that window ends.
    pub until: UnixMs,
    /// How it stands: `open`, `warned`, or `spent`, where new requests are refused until the window ends.
    pub state: String,
}

/// The answer to `GET /v1/admin/usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageView {
    /// How long the windows are: `hour`, `day` or `month`, in UTC.
    pub window: String,
    /// From when on.
    pub from: UnixMs,
    /// Until when.
    pub to: UnixMs,
    /// What was used in each window, the oldest first. Windows in which nothing was used are left out.
    pub usage: Vec<UsageWindow>,
    /// What was used in all of them.
    pub total: UsageSum,
    /// What the costs are estimated by.
    pub prices: UsagePrices,
    /// The budgets, and how they stand now.
    pub budgets: Vec<BudgetView>,
}

/// The answer to `PUT /v1/admin/tenants/{tenant}/budgets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BudgetsView {
    /// Every budget of the tenant, and how it stands now.
    pub budgets: Vec<BudgetView>,
}

/// The body of `POST /v1/admin/usage/export`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageExport {
    /// How long the windows are; absent: a day.
    pub window: Option<String>,
    /// From when on.
    pub from: Option<String>,
    /// Until when.
    pub to: Option<String>,
    form: UsageForm,
}

impl UsageExport {
    /// Reads the body. What `window`, `from` and `to` say is looked at where a query's is.
    ///
    /// Errors: `VALIDATION_ERROR` with every fault.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const MESSAGE: &str = "The export cannot be made.";
        let Ok(mut fields) = Fields::split(text) else {
            let fault = Fault::new("", "a JSON object with `format`", "something else");
            return Err(Error::invalid(MESSAGE, alloc::vec![fault]));
        };
        fields.refuse_others(&["format", "window", "from", "to"]);
        let form = fields.required_text("format", "`csv` or `ndjson`", |text| match text {
            "csv" => Some(UsageForm::Csv),
            "ndjson" => Some(UsageForm::Lines),
            _ => None,
        });
        let window = fields.optional::<String>("window", "hour, day or month");
        let from = fields.optional::<String>("from", "a time as RFC 3339 text");
        let to = fields.optional::<String>("to", "a time as RFC 3339 text");
        fields.finish(MESSAGE)?;
        Ok(Self {
            window,
            from,
            to,
            form: form.unwrap_or_default(),
        })
    }

    /// How it is written.
    pub fn form(&self) -> UsageForm {
        self.form
    }
}

/// The answer to `POST /v1/admin/usage/export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageExported {
    /// The object's key.
    pub key: String,
    /// Where it can be fetched.
    pub url: String,
    /// How long it is. Bytes.
    pub bytes: u64,
}
