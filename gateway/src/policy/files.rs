//! Finding and reading policy files.
//!
//! Every `*.yaml` and `*.yml` below a directory, in the order of their paths. Names that begin with a dot are left
//! out, which is also what makes Kubernetes' ConfigMap mounts (`..data`, swapped as a symbolic link) read once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::{Origin, PolicyError},
    yaml::LARGEST_FILE,
};

/// Deeper trees than anybody keeps policies in, so that a loop of links ends.
const DEEPEST: u32 = 8;

/// More files than any node's policies have.
const MOST_FILES: usize = 1000;

/// A file as it was read.
pub(super) struct Source {
    pub(super) name: Arc<Path>,
    pub(super) bytes: Vec<u8>,
}

/// Reads all policy files of `path`: a directory, or one file.
pub(super) fn read(path: &Path) -> Result<Vec<Source>, Vec<PolicyError>> {
    let mut names = Vec::new();
    let mut errors = Vec::new();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => find(path, 0, &mut names, &mut errors),
        Ok(_) => names.push(path.to_owned()),
        Err(error) => errors.push(whole(path, unreadable(&error))),
    }
    if names.is_empty() && errors.is_empty() {
        errors.push(whole(
            path,
            "there is no policy file here; expected at least one `*.yaml` with a `resource:`".into(),
        ));
    }
    if names.len() > MOST_FILES {
        errors.push(whole(path, format!("there are more than {MOST_FILES} policy files here")));
        names.clear();
    }
    names.sort();
    let mut sources = Vec::new();
    for name in names {
        match read_file(&name) {
            Ok(bytes) => sources.push(Source { name: name.into(), bytes }),
            Err(message) => errors.push(whole(&name, message)),
        }
    }
    if errors.is_empty() { Ok(sources) } else { Err(errors) }
}

fn find(directory: &Path, depth: u32, names: &mut Vec<PathBuf>, errors: &mut Vec<PolicyError>) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return errors.push(whole(directory, unreadable(&error))),
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => return errors.push(whole(directory, unreadable(&error))),
        };
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || names.len() > MOST_FILES {
            continue;
        }
        if path.is_dir() && depth < DEEPEST {
            find(&path, depth + 1, names, errors);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            names.push(path);
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    // A pipe would make loading wait for a writer.
    if !metadata.is_file() {
        return Err("this is no regular file; a policy file must be one".to_owned());
    }
    if metadata.len() > LARGEST_FILE {
        return Err(format!(
            "the file has {} bytes; the largest is {LARGEST_FILE}: split it into several files",
            metadata.len()
        ));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| unreadable(&error))?;
    // The file may have grown since: never more than the limit, whatever it is now.
    io::Read::read_to_end(&mut io::Read::take(file, LARGEST_FILE), &mut bytes).map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; give the directory of the policy files, or mend the link",
        io::ErrorKind::PermissionDenied => "; the gateway's user must be able to read it",
        _ => "",
    };
    format!("cannot be read: {error}{hint}")
}

fn whole(path: &Path, message: String) -> PolicyError {
    PolicyError { at: Origin { file: path.into(), line: 0, column: 0 }, message }
}
