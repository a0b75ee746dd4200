//! A whole worker: runs the action `shout` of a pool until Ctrl-C.
//!
//! `TIDEGATE_URL` and `TIDEGATE_TOKEN` say where the server is and who asks (a token with the scope `jobs:work`); the pool
//! is the first argument, `gpu` where there is none.

use std::env;
use std::time::Duration;

use tidegate_sdk::worker::{Context, Failure, Job, Worker};
use tidegate_sdk::{Client, Error};

async fn shout(job: Job, context: Context) -> Result<String, Failure> {
    let text: String = serde_json::from_str(job.payload.as_str())
        .map_err(|error| Failure::permanent(format!("The payload is no text: {error}")))?;
    context.progress(10.0, "breathing in");
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(100)) => Ok(text.to_uppercase()),
        () = context.stopped() => Err(Failure::retryable("interrupted")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = env::var("TIDEGATE_URL").unwrap_or_else(|_| "http://127.0.0.1:8787".to_owned());
    let token = env::var("TIDEGATE_TOKEN").unwrap_or_default();
    let pool = env::args().nth(1).unwrap_or_else(|| "gpu".to_owned());
    let client = Client::new(&url, &token)?;
    let worker = Worker::builder(&client, pool)
        .concurrency(4)
        .handler("shout", shout)
        .build()?;
    let drained = worker
        .run(async {
            // Where the signal cannot be heard, the worker goes on until it is killed: leases mend that.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    println!("{drained:?}");
    Ok(())
}
