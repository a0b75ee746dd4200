//! `tidegate put` and `get`: the tenant's own storage. Files are streamed, never held whole.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidegate_sdk::Client;
use tidegate_sdk::http::Download;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::arguments::{Get, Put};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, stderr_is_terminal, stdout_is_terminal};

/// Stores a file as an object.
pub async fn put(client: &Client, put: &Put, output: Output) -> Result<Exit, Failure> {
    let shown = put.file.display();
    let unreadable = |error: std::io::Error| Failure::of_io(&format!("{shown} cannot be read"), &error);
    let file = File::open(&put.file).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(
            Failure::new(Exit::Invalid, format!("{shown} is no file whose length is known."))
                .remedy("Write it to a file first."),
        );
    }
    let kind = put.content_type.as_deref().unwrap_or_else(|| media_type(&put.name));
    let bar = bytes_bar(Some(metadata.len()), output);
    let reader = bar.wrap_async_read(file);
    let stored = client
        .http()
        .put_object(&put.name, reader, metadata.len(), Some(kind))
        .await;
    bar.finish_and_clear();
    let stored = stored?;
    if output.is_json() {
        output.event("object", &stored);
    } else {
        output.say(&format!("Stored {} ({} bytes).", stored.key, stored.size));
    }
    Ok(Exit::Succeeded)
}

/// Reads an object.
pub async fn get(client: &Client, get: &Get, output: Output) -> Result<Exit, Failure> {
    let mut download = client.http().get_object(&get.name).await?;
    save(&mut download, get.file.as_deref(), output).await
}

/// Writes a download to `file`, or to stdout.
pub async fn save(download: &mut Download, file: Option<&Path>, output: Output) -> Result<Exit, Failure> {
    match file {
        Some(path) => save_as(download, path, output).await,
        None => print(download).await,
    }
}

/// Writes beside the file and renames at the end, so that there is never half a file under its name.
async fn save_as(download: &mut Download, path: &Path, output: Output) -> Result<Exit, Failure> {
    let unwritable = |error: std::io::Error| Failure::of_io(&format!("{} cannot be written", path.display()), &error);
    let part = part_of(path);
    let mut file = File::create(&part).await.map_err(unwritable)?;
    let bar = bytes_bar(download.size(), output);
    let written = download.write_to(&mut bar.wrap_async_write(&mut file)).await;
    bar.finish_and_clear();
    let written = match written {
        Ok(written) => written,
        Err(error) => {
            // What is left of a failed download is of no use; the failure is what has to be told.
            let _ = tokio::fs::remove_file(&part).await;
            return Err(error.into());
        }
    };
    tokio::fs::rename(&part, path).await.map_err(unwritable)?;
    output.say(&format!("Wrote {} ({written} bytes).", path.display()));
    if output.is_json() {
        output.event(
            "file",
            &serde_json::json!({"path": path, "size": written, "etag": download.etag()}),
        );
    }
    Ok(Exit::Succeeded)
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".part");
    path.with_file_name(name)
}

async fn print(download: &mut Download) -> Result<Exit, Failure> {
    let terminal = stdout_is_terminal();
    let mut stdout = tokio::io::stdout();
    while let Some(bytes) = download.chunk().await? {
        if terminal && is_binary(&bytes) {
            return Err(
                Failure::new(Exit::Invalid, "This is binary, and would upset the terminal.")
                    .remedy("Name a file to write it to, or redirect stdout."),
            );
        }
        if !write(&mut stdout, &bytes).await? {
            break;
        }
    }
    write(&mut stdout, b"").await?;
    Ok(Exit::Succeeded)
}

/// Writes and flushes. False where the reader has gone, as `head` does.
async fn write(stdout: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<bool, Failure> {
    let written = async {
        stdout.write_all(bytes).await?;
        stdout.flush().await
    };
    match written.await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::of_io("stdout cannot be written", &error)),
    }
}

/// Whether bytes hold what a terminal may take for a command.
fn is_binary(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .any(|byte| *byte == 0x7f || (*byte < 0x20 && !matches!(byte, b'\n' | b'\r' | b'\t' | 0x0c)))
}

fn bytes_bar(size: Option<u64>, output: Output) -> ProgressBar {
    if output.is_json() || !stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr());
    let template = "[{elapsed_precise}] {bar:32} {bytes}/{total_bytes} ({bytes_per_sec})";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// The media type that the ending of a name stands for.
fn media_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending.to_ascii_lowercase().as_str() {
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "json" => "application/json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_binary_and_control_characters_are() {
        assert!(!is_binary("a,b\r\n1,ü\t\n".as_bytes()));
        for bytes in [&b"\0"[..], b"a\x1b[2J", b"\x7fELF"] {
            assert!(is_binary(bytes));
        }
    }

    #[test]
    fn a_media_type_follows_the_ending() {
        for (name, kind) in [
            ("zips.CSV", "text/csv"),
            ("a/b.ndjson", "application/x-ndjson"),
            ("noending", "application/octet-stream"),
        ] {
            assert_eq!(media_type(name), kind);
        }
    }

    #[test]
    fn a_part_lies_beside_its_file() {
        assert_eq!(part_of(Path::new("a/report.html")), Path::new("a/report.html.part"));
    }
}
