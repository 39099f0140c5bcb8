//! The example that the demo serves, in the language that is asked for.

use std::{borrow::Cow, path::Path};

use anyhow::Context;
use clap::ValueEnum;
use rust_embed::{EmbeddedFile, RustEmbed};
use threadyard_runtime::install_packages;

use crate::commands::progress;

/// The language of the example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Python,
    Ts,
}

#[derive(RustEmbed)]
#[folder = "../../examples/quickstart"]
#[include = "*.py"]
#[include = "*.json"]
#[include = "*.toml"]
struct Python;

#[derive(RustEmbed)]
#[folder = "../../examples/quickstart-ts"]
#[include = "*.ts"]
#[include = "*.json"]
#[exclude = "node_modules/*"]
struct TypeScript;

impl Language {
    /// The name of the example's folder in the cache.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Python => "demo",
            Self::Ts => "demo-ts",
        }
    }

    /// Writes the example into a folder, and installs what only its package manager can.
    pub(super) fn unpack(self, folder: &Path) -> anyhow::Result<()> {
        let write = || match self {
            Self::Python => write_files(folder, Python::iter(), Python::get),
            Self::Ts => write_files(folder, TypeScript::iter(), TypeScript::get),
        };
        write().context("the example could not be written")?;
        match self {
            Self::Python => Ok(()),
            Self::Ts => Ok(install_packages(folder, &progress)?),
        }
    }
}

fn write_files(
    folder: &Path,
    names: impl Iterator<Item = Cow<'static, str>>,
    file: impl Fn(&str) -> Option<EmbeddedFile>,
) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for name in names {
        if let Some(file) = file(&name) {
            std::fs::write(folder.join(name.as_ref()), file.data)?;
        }
    }
    Ok(())
}
