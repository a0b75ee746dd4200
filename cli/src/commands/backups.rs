//! `tidegate tenant backup`, `export`, `import` and `restore`.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tidegate_protocol::chain::Hash;
use tidegate_sdk::Client;
use tidegate_sdk::http::Backup;
use tokio::fs;

use crate::arguments::TenantBackups as Command;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, tame};

/// How often a backup that is waited for is looked at.
const LOOK_MS: u64 = 500;
/// The name of the manifest in a folder.
const MANIFEST: &str = "manifest.ndjson";

/// Runs one of the commands on backups.
pub async fn backups(client: &Client, command: Command, output: Output) -> Result<Exit, Failure> {
    let http = client.http();
    match command {
        Command::Backup { tenant, wait } => {
            let taken = http.take_backup(&tenant).await?;
            let shown = if wait { ended(client, taken).await? } else { taken };
            Ok(conclude(&shown, output))
        }
        Command::Backups { tenant } => {
            let all = http.backups(&tenant).await?;
            if all.is_empty() {
                output.say("There is no backup.");
            }
            for one in &all {
                show(one, output);
            }
            Ok(Exit::Succeeded)
        }
        Command::DeleteBackup { tenant, backup } => {
            show(&http.delete_backup(&tenant, &backup).await?, output);
            Ok(Exit::Succeeded)
        }
        Command::Export { tenant, to, backup } => {
            let found = match backup {
                Some(backup) => http.backup(&tenant, &backup).await?,
                None => http.take_backup(&tenant).await?,
            };
            export(client, ended(client, found).await?, &to, output).await
        }
        Command::Import { folder } => import(client, &folder, output).await,
        Command::Restore { tenant, backup, wait } => {
            let begun = http.restore_backup(&tenant, &backup).await?;
            let shown = if wait { ended(client, begun).await? } else { begun };
            Ok(conclude(&shown, output))
        }
    }
}

/// Waits until nothing is done any more with a backup.
async fn ended(client: &Client, mut backup: Backup) -> Result<Backup, Failure> {
    while matches!(backup.state.as_str(), "running" | "restoring" | "deleting") {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        backup = client.http().backup(&backup.tenant, &backup.backup).await?;
    }
    Ok(backup)
}

/// Shows what came of it. A backup that came to nothing is a failure.
fn conclude(backup: &Backup, output: Output) -> Exit {
    show(backup, output);
    match backup.state.as_str() {
        "failed" => Exit::Failed,
        _ => Exit::Succeeded,
    }
}

fn show(backup: &Backup, output: Output) {
    if output.is_json() {
        return output.event("backup", backup);
    }
    output.print(&tame(&line(backup)));
}

fn line(backup: &Backup) -> String {
    let text = |name: &str| backup.more.get(name).and_then(Value::as_str);
    let taken = text("taken_at").map(|at| format!("  of {at}")).unwrap_or_default();
    let restored = text("restored_at")
        .map(|at| format!("  restored {at}"))
        .unwrap_or_default();
    let reason = backup
        .reason
        .as_ref()
        .map(|reason| format!("\n  {reason}"))
        .unwrap_or_default();
    format!(
        "{}  {}  {}{taken}  {} parts, {} rows, {} stored objects ({} bytes){restored}{reason}",
        backup.backup, backup.tenant, backup.state, backup.parts, backup.rows, backup.stored_objects, backup.bytes
    )
}

/// What the manifest says of all of it.
#[derive(Deserialize)]
struct Head {
    format: String,
    tenant: String,
    parts: u64,
}

/// What it says of a part.
#[derive(Deserialize)]
struct Part {
    part: u64,
    sha256: String,
}

fn file_of(folder: &Path, part: u64) -> PathBuf {
    folder.join(format!("part-{part:08}.cbor"))
}

fn unusable(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Failed, message).remedy("Export it again.")
}

fn lines(manifest: &str) -> Option<(Head, Vec<Part>)> {
    let mut lines = manifest.lines();
    let head: Head = serde_json::from_str(lines.next()?).ok()?;
    let parts: Vec<Part> = lines.map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
    let in_order = parts.iter().zip(1..).all(|(part, number)| part.part == number);
    let is_whole = u64::try_from(parts.len()) == Ok(head.parts);
    (head.format == "tidegate-backup" && in_order && is_whole).then_some((head, parts))
}

async fn download(client: &Client, backup: &Backup, part: u64) -> Result<Vec<u8>, Failure> {
    let mut download = client.http().backup_part(&backup.tenant, &backup.backup, part).await?;
    let mut bytes = Vec::new();
    download.write_to(&mut bytes).await?;
    Ok(bytes)
}

/// Downloads a backup. What is in the folder already, and right, is not fetched again.
async fn export(client: &Client, backup: Backup, folder: &Path, output: Output) -> Result<Exit, Failure> {
    if backup.state == "failed" {
        return Ok(conclude(&backup, output));
    }
    let unwritable = |error: std::io::Error| Failure::of_io(&format!("{} cannot be written", folder.display()), &error);
    fs::create_dir_all(folder).await.map_err(unwritable)?;
    let manifest = download(client, &backup, 0).await?;
    if backup.manifest_sha256.as_deref() != Some(Hash::of(&manifest).to_string().as_str()) {
        return Err(unusable("The manifest is not the one that was written."));
    }
    let text = String::from_utf8_lossy(&manifest).into_owned();
    let (_, parts) = lines(&text).ok_or_else(|| unusable("The manifest cannot be read."))?;
    for part in &parts {
        let file = file_of(folder, part.part);
        if let Ok(there) = fs::read(&file).await
            && Hash::of(&there).to_string() == part.sha256
        {
            continue;
        }
        let bytes = download(client, &backup, part.part).await?;
        if Hash::of(&bytes).to_string() != part.sha256 {
            let message = format!(
                "Part {} is broken: its SHA-256 is not the one in the manifest.",
                part.part
            );
            return Err(unusable(message));
        }
        fs::write(&file, bytes).await.map_err(unwritable)?;
    }
    // Last, so that a folder with a manifest is whole.
    fs::write(folder.join(MANIFEST), manifest).await.map_err(unwritable)?;
    show(&backup, output);
    output.say(&format!(
        "Wrote {} parts and the manifest to {}.",
        parts.len(),
        folder.display()
    ));
    Ok(Exit::Succeeded)
}

/// Checks a folder, brings its parts to the deployment, and has the tenant restored.
async fn import(client: &Client, folder: &Path, output: Output) -> Result<Exit, Failure> {
    let manifest = folder.join(MANIFEST);
    let unreadable = |error: std::io::Error| Failure::of_io(&format!("{} cannot be read", manifest.display()), &error);
    let manifest = fs::read(&manifest).await.map_err(unreadable)?;
    let text = String::from_utf8_lossy(&manifest).into_owned();
    let (head, parts) = lines(&text).ok_or_else(|| {
        unusable(format!(
            "{MANIFEST} in {} is no manifest of a backup.",
            folder.display()
        ))
    })?;
    let mut faults = Vec::new();
    for part in &parts {
        let file = file_of(folder, part.part);
        match fs::read(&file).await {
            Ok(bytes) if Hash::of(&bytes).to_string() == part.sha256 => {}
            Ok(_) => faults.push(format!("{} is broken", file.display())),
            Err(error) => faults.push(format!("{} cannot be read: {error}", file.display())),
        }
    }
    if !faults.is_empty() {
        return Err(unusable(format!("{}.", faults.join("; "))));
    }
    // The same folder is the same backup, so that an import that broke off goes on.
    let hash = Hash::of(&manifest).to_string();
    let id = format!("bak_{}", hash.chars().take(26).collect::<String>());
    for part in 0..=head.parts {
        let bytes = match part {
            0 => manifest.clone(),
            part => fs::read(file_of(folder, part)).await.map_err(unreadable)?,
        };
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let of = (head.tenant.as_str(), id.as_str(), part);
        client.http().put_backup_part(of, Cursor::new(bytes), size).await?;
    }
    let begun = client.http().restore_backup(&head.tenant, &id).await?;
    let shown = ended(client, begun).await?;
    let exit = conclude(&shown, output);
    if exit == Exit::Succeeded {
        output.say(&format!(
            "It is suspended: `tidegate tenant resume {}` lets it in.",
            head.tenant
        ));
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_a_backup_stands_and_why() {
        let backup: Backup = serde_json::from_value(serde_json::json!({
            "backup": "bak_1", "tenant": "acme", "state": "failed", "parts": 2, "bytes": 300, "rows": 20,
            "stored_objects": 1, "taken_at": "2026-11-21T07:00:00.000Z", "reason": "Part 1 is broken.",
        }))
        .unwrap();
        assert_eq!(
            line(&backup),
            "bak_1  acme  failed  of 2026-11-21T07:00:00.000Z  2 parts, 20 rows, 1 stored objects (300 bytes)\n  \
             Part 1 is broken."
        );
    }

    #[test]
    fn a_manifest_has_all_parts_in_order() {
        let head = r#"{"format":"tidegate-backup","version":1,"tenant":"acme","parts":2}"#;
        let part = |n: u64| format!(r#"{{"part":{n},"of":"t:acme:gate","sha256":"ab"}}"#);
        assert!(lines(&format!("{head}\n{}\n{}\n", part(1), part(2))).is_some());
        for broken in [
            String::new(),
            "{}".into(),
            format!("{head}\n{}\n", part(1)),
            format!("{head}\n{}\n{}\n", part(2), part(1)),
        ] {
            assert!(lines(&broken).is_none(), "{broken}");
        }
    }
}
