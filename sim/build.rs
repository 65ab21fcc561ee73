//! Makes the list of fault points from the sources of the whole workspace: every `fault_point!("NAME")` and
//! `crash_point!("NAME")` in a program that is simulated, each once.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const MARKS: [&str; 2] = ["fault_point!(\"", "crash_point!(\""];
const SOURCES: [&str; 4] =
    ["../atm-cli/src", "../services/auth/src", "../services/gateway/src", "../services/ledger/src"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        scan(Path::new(source), &mut found)?;
    }
    let names: Vec<String> = found.keys().map(|name| format!("    {name:?},\n")).collect();
    let target = PathBuf::from(env::var("OUT_DIR")?).join("fault_points.rs");
    fs::write(target, format!("&[\n{}]\n", names.concat()))?;
    Ok(())
}

fn scan(directory: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            scan(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            for piece in MARKS.iter().flat_map(|mark| text.split(mark).skip(1)) {
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
