//! Makes the list of crash points from the sources: every `crash_point!("NAME")` below `src/`, each once.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const MARK: &str = "crash_point!(\"";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src");
    let mut found = BTreeMap::new();
    scan(Path::new("src"), &mut found)?;
    let names: Vec<String> = found.keys().map(|name| format!("    {name:?},\n")).collect();
    let text = format!("&[\n{}]\n", names.concat());
    let target = PathBuf::from(env::var("OUT_DIR")?).join("crash_points.rs");
    fs::write(target, text)?;
    Ok(())
}

/// A name stands at one place only, so that a test that reached it knows where it was.
fn scan(directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            scan(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            for piece in text.split(MARK).skip(1) {
                let name = piece.split('"').next().unwrap_or_default().to_owned();
                if let Some(other) = found.insert(name.clone(), path.clone()) {
                    return Err(
                        format!("{name} stands in {} and in {}", other.display(), path.display()).into()
                    );
                }
            }
        }
    }
    Ok(())
}
