//! `cargo xtask tidy`: the conventions that a program can check.

use std::path::Path;

use anyhow::{Context, bail};

use crate::shell::{command, root};

/// The most lines a source file may have, and a test file.
const SOURCE_LINES: usize = 400;
const TEST_LINES: usize = 600;
/// Names that say nothing about what is in a file.
const VAGUE: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "types", "misc", "manager"];

pub(crate) fn run() -> anyhow::Result<()> {
    let listed = command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).output()?;
    let listed = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    let mut faults = Vec::new();
    for file in listed.lines().filter(|file| root().join(file).is_file()) {
        check(file, &mut faults)?;
    }
    if faults.is_empty() {
        println!("tidy");
        return Ok(());
    }
    bail!("not tidy:\n  {}", faults.join("\n  "));
}

fn check(file: &str, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let path = Path::new(file);
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    if !matches!(extension, "rs" | "py" | "mjs" | "ts") {
        return Ok(());
    }
    let text = std::fs::read_to_string(root().join(file)).with_context(|| file.to_owned())?;
    let stem = path.file_stem().and_then(|it| it.to_str()).unwrap_or_default();
    if VAGUE.contains(&stem) {
        faults.push(format!("{file}: the name says nothing about what is in the file"));
    }
    let is_test = file.contains("/tests/") || file.contains("e2e/");
    let (lines, most) = (text.lines().count(), if is_test { TEST_LINES } else { SOURCE_LINES });
    if lines > most {
        faults.push(format!("{file}: {lines} lines are over the budget of {most}; split it"));
    }
    let opening = match extension {
        "rs" => "//!",
        "py" => "\"\"\"",
        _ => "//",
    };
    if !text.is_empty() && !text.starts_with(opening) {
        faults.push(format!("{file}: the first line must say what the file is for ({opening} …)"));
    }
    for (number, line) in text.lines().enumerate() {
        let words = ["TO", "DO"].concat();
        if line.contains(&format!("{words}:")) || line.contains(&format!("#[{}(", "allow")) {
            faults.push(format!("{file}:{}: unfinished, or a lint silenced without a reason", number + 1));
        }
    }
    Ok(())
}
