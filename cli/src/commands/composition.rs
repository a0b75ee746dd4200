//! `tidegate composition`: what the tenant's actions are.

use tidegate_sdk::Client;

use crate::arguments::Composition;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Applies or shows the composition document.
pub async fn composition(client: &Client, composition: &Composition, output: Output) -> Result<Exit, Failure> {
    match composition {
        Composition::Show => {
            let document = client.http().composition().await?;
            output.json_value("composition", "document", &document);
        }
        Composition::Apply { file } => {
            let document = std::fs::read_to_string(file)
                .map_err(|error| Failure::of_io(&format!("{} cannot be read", file.display()), &error))?;
            let activated = client.http().put_composition(&document).await?;
            if output.is_json() {
                output.event("activated", &activated);
            } else {
                output.print(&format!("Active: revision {}", activated.revision));
            }
        }
    }
    Ok(Exit::Succeeded)
}
