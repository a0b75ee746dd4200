//! The `tidegate` command: mints development tokens, moves objects, runs actions and follows jobs.
//!
//! Decides nothing about requests: that is the server's. What it adds is for people and scripts: settings, progress,
//! plain words for errors, and exit codes that tell outcomes apart.

mod arguments;
mod commands;
mod exit;
mod failure;
mod follow;
mod output;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, AuditCommand, Command};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(arguments, output));
            // A read of standard input cannot be called off; the process ends all the same.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Failure::of_io("The command cannot start", &error)),
    };
    let exit = done.unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit
    });
    exit.into()
}

async fn run(arguments: Arguments, output: Output) -> Result<Exit, Failure> {
    let connection = arguments.connection;
    match arguments.command {
        Command::Token(token) => commands::token::mint(&token, output),
        Command::Put(put) => commands::objects::put(&settings::client(&connection)?, &put, output).await,
        Command::Get(get) => commands::objects::get(&settings::client(&connection)?, &get, output).await,
        Command::Call(call) => commands::call::call(&settings::client(&connection)?, &call, output).await,
        Command::Job(job) => commands::job::job(&settings::client(&connection)?, job, output).await,
        Command::Batch(batch) => commands::batches::batches(&settings::client(&connection)?, batch, output).await,
        Command::Channel(channel) => {
            commands::channel::channels(&settings::client(&connection)?, channel, output).await
        }
        Command::Queue(queue) => commands::queue::queue(&settings::client(&connection)?, queue, output).await,
        Command::Schedules(schedules) => {
            commands::schedules::schedules(&settings::client(&connection)?, schedules, output).await
        }
        Command::DeadLetters(command) => {
            commands::letters::letters(&settings::client(&connection)?, command, output).await
        }
        Command::Worker(worker) => commands::worker::worker(&settings::client(&connection)?, worker, output).await,
        Command::Composition(composition) => {
            commands::composition::composition(&settings::client(&connection)?, &composition, output).await
        }
        Command::Limits(limits) => commands::limits::limits(&settings::client(&connection)?, limits, output).await,
        Command::Usage(usage) => commands::usage::usage(&settings::client(&connection)?, usage, output).await,
        Command::Budgets(budgets) => commands::usage::budgets(&settings::client(&connection)?, budgets, output).await,
        Command::Upstreams(command) => {
            commands::upstreams::upstreams(&settings::client(&connection)?, command, output).await
        }
        Command::Health => commands::health::health(&settings::client(&connection)?, output).await,
        Command::Secret(secret) => commands::secrets::secrets(&settings::client(&connection)?, secret, output).await,
        Command::Audit(audit) => match audit.command {
            Some(AuditCommand::Verify(verify)) if !verify.files.is_empty() => {
                commands::audit_verify::verify_files(verify, output)
            }
            Some(AuditCommand::Verify(verify)) => {
                commands::audit_verify::verify(&settings::client(&connection)?, verify, output).await
            }
            None => commands::audit::audit(&settings::client(&connection)?, audit, output).await,
        },
        Command::Key(key) => commands::access::keys(&settings::client(&connection)?, key, output).await,
        Command::Revoke(revoke) => commands::access::revoke(&settings::client(&connection)?, revoke, output).await,
        Command::Policy(policy) => commands::policy::policy(&settings::client(&connection)?, policy, output).await,
        Command::Tenant(tenant) => commands::tenant::tenant(&settings::client(&connection)?, tenant, output).await,
        Command::Webhook(command) => {
            commands::inbound::webhooks(&settings::client(&connection)?, command, output).await
        }
        Command::Endpoint(command) => {
            commands::endpoints::endpoints(&settings::client(&connection)?, command, output).await
        }
        Command::WebhookSecret(command) => {
            commands::endpoints::webhook_secret(&settings::client(&connection)?, command, output).await
        }
    }
}
