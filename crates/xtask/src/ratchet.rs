//! Lists of what has passed before, which only grow, and of what is not to pass, each with the reason.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};

use crate::shell::root;

/// What is not to pass, with the reasons.
pub(crate) type Deviations = BTreeMap<String, String>;

/// Whether everything in a list of what has passed before still passes.
pub(crate) fn hold(file: &str, passed: &BTreeSet<&str>) -> anyhow::Result<()> {
    let held = read(file)?;
    let held: BTreeSet<_> = held.lines().collect();
    let lost: Vec<_> = held.difference(passed).copied().collect();
    ensure!(lost.is_empty(), "these passed before, as {file} says: {}", lost.join(", "));
    let new: Vec<_> = passed.difference(&held).copied().collect();
    if !new.is_empty() {
        println!("   new, to be added to {file}: {}", new.join(", "));
    }
    Ok(())
}

/// The lines of a file, each a name, a tab, and why it is not to pass.
pub(crate) fn deviations(file: &str) -> anyhow::Result<Deviations> {
    let deviation = |line: &str| {
        let (name, why) = line.split_once('\t').with_context(|| format!("{file}: `{line}` has no reason"))?;
        Ok((name.to_owned(), why.to_owned()))
    };
    read(file)?.lines().map(deviation).collect()
}

/// Whether all that fails is not to pass.
pub(crate) fn excuse<'a>(failed: impl Iterator<Item = &'a str>, meant: &Deviations) -> anyhow::Result<()> {
    let (meant_to, others): (Vec<_>, Vec<_>) = failed.partition(|name| meant.contains_key(*name));
    println!("   {} fail as they are meant to:", meant_to.len());
    for name in meant_to {
        println!("     {name}: {}", meant[name]);
    }
    ensure!(others.is_empty(), "these fail, and no list of deviations says why: {}", others.join(", "));
    Ok(())
}

fn read(file: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root().join(file)).with_context(|| format!("`{file}` is missing"))
}
