//! Where a Go program of the tests is kept. Part of `xtask`, which builds it, and of the tests, which look for it.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::{Path, PathBuf},
};

/// The name under the directory of tools: its own and a digest of the Go files and pinned versions that it is made from,
/// so that checkouts which differ in them do not take each other's.
pub(crate) fn tool_name(name: &str, module: &Path) -> io::Result<String> {
    let files = fs::read_dir(module)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    let mut sources: Vec<_> = files.into_iter().filter(|file| is_source(file)).collect();
    sources.sort();
    let mut digest = DefaultHasher::new();
    for source in sources {
        source.file_name().hash(&mut digest);
        fs::read(&source)?.hash(&mut digest);
    }
    Ok(format!("{name}-{:016x}", digest.finish()))
}

fn is_source(file: &Path) -> bool {
    file.extension().is_some_and(|extension| ["go", "mod", "sum"].iter().any(|known| extension == *known))
}
