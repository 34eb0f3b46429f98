//! The command line: one file per subcommand, and the one place where an error becomes words and an exit code.
//!
//! Exit codes: 0 done; 1 not done, and standard error says why; 2 wrong usage. `exec` gives its command's;
//! `wait` 0 approved, 3 denied, 4 ended otherwise, 5 still open.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::{config::Config, protocol};

pub mod approvals;
pub mod channels;
mod client;
pub mod credentials;
pub mod doctor;
pub mod exec;
pub mod grants;
mod idle;
pub mod login;
pub mod manual;
pub mod people;
pub mod policy;
mod ready;
pub mod replay;
pub mod resources;
pub mod run;
pub mod sessions;
pub mod status;
mod store;
pub mod tokens;
pub mod trust;
pub mod uninstall;
pub mod verify;
pub mod wait;

/// Human approval in front of bots.
#[derive(Debug, Parser)]
#[command(name = "holdpoint", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground
    Run(run::Args),
    /// Run a command as a guarded workload
    Exec(exec::Args),
    /// See and decide what waits for people
    Approvals(approvals::Args),
    /// Wait until a request has ended; the exit code says how
    Wait(wait::Args),
    /// See and revoke what approvals go on releasing
    Grants(grants::Args),
    /// See whether people hear of what waits
    Channels(channels::Args),
    /// List and search recorded sessions
    Sessions(sessions::Args),
    /// Play a recorded session back
    Replay(replay::Args),
    /// Prove that the record is whole
    Verify(verify::Args),
    /// Say who may sign in at the console
    People(people::Args),
    /// Which programs may ask the API
    Tokens(tokens::Args),
    /// Sign in at a console, for commands with `--console`
    Login(login::Login),
    /// Sign out there
    Logout,
    /// Check, test and explain policies
    Policy(policy::Args),
    /// Find what a resource should mask
    Resources(resources::Args),
    /// Say how the gateway is, as the kernel has it
    Status(status::Args),
    /// Check the machine, and probe a workload's guard from inside
    Doctor(doctor::Args),
    /// Keep what the gateway logs in with in bots' place
    Credentials(credentials::Args),
    /// Print what clients must trust to believe the gateway
    Trust(trust::Args),
    /// Take the guard off this machine, once the gateway is stopped
    Uninstall(uninstall::Args),
    /// Write the manual's pages
    Man(manual::Pages),
    /// Print what completes this program's words in a shell
    Completions(manual::Completions),
    /// Print the description of the API that people and their programs have: OpenAPI 3.1
    Api,
    /// Fail unless this container's own gateway serves: for a readiness probe
    Ready(ready::Args),
    /// What `run --stay` becomes
    #[command(name = IDLE, hide = true)]
    Idle,
}

/// The command of a process that has been a gateway.
const IDLE: &str = "idle";

/// Where the settings are.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// The settings file
    #[arg(long, value_name = "FILE", env = "HOLDPOINT_CONFIG")]
    config: Option<PathBuf>,
}

/// Where the settings are looked for when nobody says.
const CONFIG: &str = "/etc/holdpoint/holdpoint.yaml";

impl Settings {
    /// Reads them; a file that nobody named may be missing.
    ///
    /// # Errors
    /// The file cannot be read or is wrong.
    pub fn load(&self) -> anyhow::Result<Config> {
        match &self.config {
            Some(path) => Ok(Config::load(path)?),
            None if std::path::Path::new(CONFIG).exists() => Ok(Config::load(CONFIG.as_ref())?),
            None => Ok(Config::default()),
        }
    }
}

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// The program's commands and arguments, as declared.
fn command() -> clap::Command {
    Cli::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Run(_)) {
        end_with_the_reader();
    }
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Exec(args) => exec::run(&args),
        Command::Approvals(args) => approvals::run(&args),
        Command::Wait(args) => wait::run(&args),
        Command::Grants(args) => grants::run(&args),
        Command::Channels(args) => channels::run(&args),
        Command::Sessions(args) => sessions::run(args),
        Command::Replay(args) => replay::run(args, &|name| protocol::named(name).map(|protocol| protocol.renderer())),
        Command::Verify(args) => verify::run(args),
        Command::People(args) => people::run(&args),
        Command::Tokens(args) => tokens::run(&args),
        Command::Login(args) => login::login(&args),
        Command::Logout => login::logout(),
        Command::Policy(args) => policy::run(args, &|resource, statement| {
            protocol::named(&resource.protocol).map(|protocol| protocol.operation(statement, &resource.masks))
        }),
        Command::Resources(args) => resources::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Credentials(args) => credentials::run(&args),
        Command::Trust(args) => trust::run(&args),
        Command::Uninstall(args) => uninstall::run(&args),
        Command::Man(args) => manual::pages(&args, command()),
        Command::Completions(args) => manual::completions(&args, command()),
        Command::Api => manual::api(),
        Command::Ready(args) => ready::run(&args),
        Command::Idle => idle::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("holdpoint: {error:#}");
        ExitCode::FAILURE
    })
}

/// A reader that has seen enough (`| head`) ends the command quietly, as it does every other command.
fn end_with_the_reader() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default disposition runs no code of ours.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
