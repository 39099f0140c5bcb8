//! The workers' side of the worker protocol, carried inside the binary so that both always have the same version.

use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
};

use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use threadyard_core::runtime::Language;

#[derive(RustEmbed)]
#[folder = "../../workers/python"]
#[include = "threadyard_worker/*.py"]
struct Python;

#[derive(RustEmbed)]
#[folder = "../../workers/node"]
#[include = "package.json"]
#[include = "src/*"]
struct Node;

/// The first half of a digest, enough to name files by their contents.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes the worker package of a language below `cache` unless it is there, and returns its folder: the one to put on
/// the import path, or the one with the entry.
pub(crate) fn extract(language: Language, cache: &Path) -> io::Result<PathBuf> {
    match language {
        Language::Python => extracted::<Python>(cache),
        Language::Node => Ok(extracted::<Node>(cache)?.join("src")),
    }
}

fn extracted<Sources: RustEmbed>(cache: &Path) -> io::Result<PathBuf> {
    let mut names: Vec<_> = Sources::iter().collect();
    names.sort_unstable();
    let files: Vec<_> = names.iter().filter_map(|name| Some((name, Sources::get(name)?.data))).collect();
    let mut digest = Sha256::new();
    for (name, data) in &files {
        digest.update(name.as_bytes());
        digest.update(data);
    }
    let folder = cache.join(format!("worker-{}", hex(&digest.finalize())));
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(cache)?;
    let made = tempfile::tempdir_in(cache)?;
    for (name, data) in files {
        let file = made.path().join(name.as_ref());
        std::fs::create_dir_all(file.parent().unwrap_or(made.path()))?;
        std::fs::write(file, data)?;
    }
    // Somebody else may have been faster with the same files.
    match std::fs::rename(made.path(), &folder) {
        Err(error) if !folder.is_dir() => Err(error),
        _ => Ok(folder),
    }
}
