//! The console: where it listens, what it is called, and who may sign in.

use std::{net::TcpListener, sync::Arc};

use anyhow::{Context as _, Result, bail};

use crate::{
    admin::{self, Admin},
    config::{Config, Console},
    net::tls::{Server, Tls},
    people::{Directory, Origin, People},
};

/// A console that is about to be served.
pub(super) struct Listening {
    listener: TcpListener,
    tls: Option<Server>,
    settings: Console,
    origin: Origin,
}

/// Before anybody is told that the gateway is ready: an address that cannot be had is the operator's to correct.
pub(super) fn listen(config: &Config, tls: &Tls) -> Result<Option<Listening>> {
    let Some(settings) = config.console.clone() else { return Ok(None) };
    let address = settings.listen;
    let listener = TcpListener::bind(address).with_context(|| {
        format!(
            "cannot listen on {address}; set `console: {{listen: …}}` to an address of this machine and a free port"
        )
    })?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let url = match &settings.url {
        Some(url) => url.clone(),
        None if address.ip().is_loopback() => format!("http://localhost:{port}"),
        None => {
            bail!("`console:` listens beyond this machine, so it needs `url: https://…`: what people type to reach it")
        }
    };
    let origin = Origin::read(&url).map_err(anyhow::Error::msg)?;
    let server = match &settings.tls {
        Some(files) => {
            Some(Server::brought(&files.certificate, &files.key).context("`console: {tls: …}` cannot be used")?)
        }
        None if address.ip().is_loopback() => None,
        None if origin.tls => Some(Server::own(tls, &origin.host)),
        None => bail!("`console:` listens beyond this machine, so its `url` must be https://…"),
    };
    tracing::info!(address = %listener.local_addr()?, url = origin.url, tls = server.is_some(), "the console is open");
    Ok(Some(Listening { listener, tls: server, settings, origin }))
}

/// Everybody who may have a say.
pub(super) fn people(config: &Config, console: Option<&Listening>) -> Result<People> {
    let directory = Directory::with_groups(config.groups.clone());
    let console = console.map(|console| (&console.settings, console.origin.clone()));
    let oidc = (!config.people.oidc.is_empty()).then_some("oidc");
    let vouched = oidc.or((!config.people.saml.is_empty()).then_some("saml"));
    if let Some(vouched) = vouched.filter(|_| console.is_none()) {
        bail!("`people: {vouched}:` is for people who sign in at the console; say where that is with `console:`");
    }
    Ok(People::open(directory, &config.state, &config.people, console)?)
}

impl Listening {
    /// Serves until dropped.
    pub(super) async fn serve(self, admin: Arc<Admin>) {
        match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => admin::serve_console(admin, listener, self.tls).await,
            Err(error) => tracing::error!(%error, "the console is gone"),
        }
    }
}
