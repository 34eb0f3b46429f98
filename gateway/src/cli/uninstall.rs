//! `holdpoint uninstall`: takes the guard off this machine. The gateway must be stopped; the record stays.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use anyhow::bail;

use super::Settings;
use crate::{
    config::Config,
    intercept::{InterceptError, Uninstalled, uninstall},
    visible::visible,
};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

/// Runs it. Doing it twice is no error.
///
/// # Errors
/// A gateway is running, or the kernel or its file system refuses.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.settings.load()?;
    match uninstall(&config.bpffs) {
        Ok(removed) => {
            print!("{}", report(&removed, &config));
            if !removed.unseen.is_empty() {
                bail!("nftables did not answer in {}: run this again", removed.unseen.join(", in "));
            }
        }
        Err(InterceptError::InUse { path }) => {
            bail!("a gateway is running with {}: stop it first; nothing was removed", path.display())
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn report(removed: &Uninstalled, config: &Config) -> String {
    let shown = |path: &Path| visible(path.as_os_str().as_encoded_bytes());
    let mut out = String::new();
    if !removed.was_there {
        let _ = writeln!(out, "nothing is installed in {}", shown(&config.bpffs));
        return out;
    }
    for (cgroup, path) in &removed.guards {
        let path = path.as_ref().map_or_else(|| "a cgroup that is gone".to_owned(), |path| visible(path.as_bytes()));
        let _ =
            writeln!(out, "no longer guarded: {path} (cgroup {}); its connections are direct from now on", cgroup.0);
    }
    if removed.namespaces > 0 {
        let _ = writeln!(out, "removed the deny from {} network namespaces", removed.namespaces);
    }
    let _ = writeln!(out, "removed the programs and maps in {}", shown(&config.bpffs));
    let _ = writeln!(out, "the record stays in {}", shown(&config.record()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::CgroupId;

    #[test]
    fn says_what_it_removed_and_what_stays() {
        let removed = Uninstalled {
            guards: vec![(CgroupId(7), Some("/holdpoint".to_owned())), (CgroupId(9), None)],
            namespaces: 2,
            unseen: Vec::new(),
            was_there: true,
        };
        assert_eq!(
            report(&removed, &Config::default()),
            "no longer guarded: /holdpoint (cgroup 7); its connections are direct from now on\n\
             no longer guarded: a cgroup that is gone (cgroup 9); its connections are direct from now on\n\
             removed the deny from 2 network namespaces\n\
             removed the programs and maps in /sys/fs/bpf/holdpoint\n\
             the record stays in /var/lib/holdpoint/record\n"
        );
        assert_eq!(
            report(&Uninstalled::default(), &Config::default()),
            "nothing is installed in /sys/fs/bpf/holdpoint\n"
        );
    }
}
