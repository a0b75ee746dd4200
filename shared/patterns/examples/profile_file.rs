//! Profiles a file: `profile_file <file> [folder]` prints the speed and writes `report.html` and `report.json`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use tidegate_patterns::report::{Options, Profile, render_html};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), folder) = (arguments.next(), arguments.next()) else {
        return Err("usage: profile_file <file> [folder]".into());
    };
    let name = Path::new(&path)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut file = File::open(&path)?;
    let mut profile = Profile::new(Options {
        name: name.clone(),
        ..Options::default()
    });
    let mut chunk = vec![0; 64 * 1024];
    let started = Instant::now();
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        profile.feed(chunk.get(..read).unwrap_or_default())?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (bytes, checkpoint) = (profile.bytes_read(), profile.checkpoint().len());
    let summary = profile.finish()?;
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let speed = bytes as f64 / 1e6 / seconds;
    println!(
        "{name}: {bytes} bytes, {} rows, {} columns, {} broken; {seconds:.3} s, {speed:.1} MB/s; checkpoint {checkpoint} bytes",
        summary.rows,
        summary.columns.len(),
        summary.broken_rows
    );
    if let Some(folder) = folder {
        std::fs::create_dir_all(&folder)?;
        let folder = Path::new(&folder);
        std::fs::write(folder.join("report.html"), render_html(&summary, &name, "now"))?;
        std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&summary)?)?;
    }
    Ok(())
}
