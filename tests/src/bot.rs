//! A bot: unmodified programs, run guarded, as a user without rights.

use nix::{sys::signal::Signal, unistd::Pid};

use crate::{Lab, Net, Outcome, Raw, Running, child, lab::COMMAND_LIMIT, python};

/// A named bot in a lab. Everything it runs goes through `holdpoint exec`, as user `nobody`.
#[derive(Debug)]
pub struct Bot<'lab> {
    lab: &'lab Lab,
    name: String,
    net: Option<&'lab Net>,
}

impl<'lab> Bot<'lab> {
    pub(crate) fn new(lab: &'lab Lab, name: &str) -> Self {
        Self { lab, name: name.to_owned(), net: None }
    }

    /// The bot inside `net`.
    #[must_use]
    pub fn inside(self, net: &'lab Net) -> Self {
        Self { net: Some(net), ..self }
    }

    /// Starts `argv` guarded.
    pub fn start(&self, argv: &[&str]) -> Running {
        let config = self.lab.config().display().to_string();
        let holdpoint = self.lab.tool("holdpoint");
        let guarded = [holdpoint.as_str(), "exec", "--as", &self.name, "--config", &config, "--"];
        let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"];
        let mut command = self.lab.command(&[&guarded[..], &nobody, argv].concat());
        if let Some(net) = self.net {
            net.enter(&mut command);
        }
        // A bot knows nothing of Holdpoint.
        command.env_remove("HOLDPOINT_SOCKET").env_remove("HOLDPOINT_STATE").env("HOME", "/nonexistent");
        Running::start(&mut command)
    }

    /// Runs `argv` guarded and waits for its end.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> Outcome {
        self.start(argv).finish(COMMAND_LIMIT)
    }

    /// Runs `psql -c SQL`: one simple query with everything in it.
    #[track_caller]
    pub fn psql(&self, url: &str, sql: &str) -> Outcome {
        self.start_psql(url, sql).finish(COMMAND_LIMIT)
    }

    /// Starts `psql -c SQL`.
    pub fn start_psql(&self, url: &str, sql: &str) -> Running {
        self.start(&["psql", "-X", "-A", "-t", "-v", "VERBOSITY=verbose", "-c", sql, url])
    }

    /// Gives `script` to psql's input: one query after another, going on after errors.
    #[track_caller]
    pub fn script(&self, url: &str, script: &str) -> Outcome {
        let mut psql = self.start_script(url);
        psql.write(script);
        psql.finish(COMMAND_LIMIT)
    }

    /// Starts a psql that reads its input.
    pub fn start_script(&self, url: &str) -> Running {
        self.start(&["psql", "-X", "-A", "-t", "-v", "VERBOSITY=verbose", url])
    }

    /// Runs a Python program (with psycopg and asyncpg at hand); `sys.argv[1]` is `url`.
    #[track_caller]
    pub fn python(&self, source: &str, url: &str) -> Outcome {
        self.start_python(source, url).finish(COMMAND_LIMIT)
    }

    /// Starts a Python program.
    pub fn start_python(&self, source: &str, url: &str) -> Running {
        assert!(python::made().is_some(), "call tests::venv() before Lab::new, so that the lab has Python");
        let python = self.lab.path("venv/bin/python").display().to_string();
        self.start(&[&python, "-u", "-c", source, url])
    }

    /// A program that speaks whatever bytes the test says.
    pub fn raw(&self) -> Raw {
        Raw::new(self.start(&[&self.lab.tool("raw_client")]))
    }

    /// Sends `signal` to the bot's one process called `name`: what Ctrl-C in its terminal would do.
    ///
    /// # Panics
    /// When there is not exactly one.
    #[track_caller]
    pub fn signal(&self, name: &str, signal: Signal) {
        let pid = self.only(name);
        nix::sys::signal::kill(pid, signal).expect("the process was there an instant ago");
    }

    /// `kill -9` for the bot's one process called `name`.
    #[track_caller]
    pub fn kill(&self, name: &str) {
        child::end(self.only(name), Signal::SIGKILL);
    }

    #[track_caller]
    fn only(&self, name: &str) -> Pid {
        let found = self.lab.guarded(name);
        assert_eq!(found.len(), 1, "processes called {name}: {found:?}");
        found[0]
    }
}
