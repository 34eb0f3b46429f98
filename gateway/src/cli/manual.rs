//! `holdpoint man`, `holdpoint completions` and `holdpoint api`: what `man`, a shell and other programs want to know of this
//! one, made from the declarations that it reads its own arguments and requests by.

use std::{fs, io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Command;

/// Where to write pages.
#[derive(Debug, clap::Args)]
pub struct Pages {
    /// The directory for the pages, one for each command: /usr/local/share/man/man1
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// For which shell.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Writes a page for each command.
///
/// # Errors
/// The directory cannot be written.
pub fn pages(args: &Pages, command: Command) -> anyhow::Result<ExitCode> {
    let failed = || format!("cannot write pages to {}", args.directory.display());
    fs::create_dir_all(&args.directory).with_context(failed)?;
    clap_mangen::generate_to(command, &args.directory).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what completes this program's words in a shell.
///
/// # Errors
/// None.
pub fn completions(args: &Completions, mut command: Command) -> anyhow::Result<ExitCode> {
    clap_complete::generate(args.shell, &mut command, "holdpoint", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}

/// Prints the description of the API.
///
/// # Errors
/// None.
pub fn api() -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(&crate::admin::openapi())?);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_people_see_has_a_page_and_is_completed() {
        let directory = tempfile::tempdir().expect("a directory");
        let command = super::super::command();
        let args = Pages { directory: directory.path().to_owned() };
        pages(&args, command.clone()).expect("it is ours");
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut command.clone(), "holdpoint", &mut script);
        let script = String::from_utf8(script).expect("text");
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let page = directory.path().join(format!("holdpoint-{}.1", sub.get_name()));
            let page = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(page.contains(".SH SYNOPSIS"), "{}", sub.get_name());
            assert!(script.contains(sub.get_name()), "{}", sub.get_name());
        }
    }
}
