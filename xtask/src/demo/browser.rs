//! Opens the console in the browser of whoever sits at this machine.

use std::{
    env,
    process::{Command, Stdio},
};

use crate::command;

/// What opens an address in somebody's own browser, first come.
const OPENERS: [&str; 3] = ["xdg-open", "wslview", "sensible-browser"];

/// Opens `link`; with what, or `None` where there is no desktop or nothing that opens one.
///
/// The demo runs as root and a browser should not: under `sudo` it is started as the user who typed that.
pub(super) fn open(link: &str) -> Option<&'static str> {
    ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"].iter().find_map(env::var_os)?;
    let opener = OPENERS.into_iter().find(|name| command::which(name).is_some())?;
    let user = env::var("SUDO_USER").ok().filter(|user| user != "root");
    let mut command = match user {
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", &user, "--", opener]);
            command
        }
        None => Command::new(opener),
    };
    command.arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // Some openers stay for as long as the browser does.
    std::thread::spawn(move || child.wait());
    Some(opener)
}
