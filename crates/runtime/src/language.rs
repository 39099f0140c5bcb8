//! Which language the project's code is in. Each has worker processes of its own.

use threadyard_core::runtime::Language;

/// What files for Node end with.
const SCRIPTS: [&str; 8] = [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"];

/// The language of what a path such as `./file.py:name` or `./file.ts:name` names.
pub(crate) fn of(path: &str) -> Language {
    let source = path.rsplit_once(':').map_or(path, |(source, _)| source);
    if SCRIPTS.iter().any(|extension| source.ends_with(extension)) { Language::Node } else { Language::Python }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_its_language() {
        for path in ["./a.ts:graph", "./a.tsx:graph", "a.mts:g", "./a.cjs:default", "./src/a.test.js:g"] {
            assert_eq!(of(path), Language::Node, "{path}");
        }
        for path in ["./a.py:graph", "package.module:graph", "openai:model", "./js/a.py:g"] {
            assert_eq!(of(path), Language::Python, "{path}");
        }
    }
}
