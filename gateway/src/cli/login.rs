//! `holdpoint login` and `logout`: a session at a console that may be far away, for the commands that are given
//! `--console`.
//!
//! # Security
//! The session's secret stands in a file that only its user can read, goes to the console that gave it and nowhere
//! else, and ends as any session of a browser's does.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::net::http::{Answer, Client, HeaderMap, HeaderValue, Method};

/// Where and how to sign in.
#[derive(Debug, clap::Args)]
pub struct Login {
    /// The console: https://holdpoint.example:8443
    #[arg(value_name = "URL")]
    console: String,
    /// The provider of OpenID Connect there, as the settings name it; it must have `device: true`
    #[arg(long, value_name = "NAME")]
    provider: String,
    /// Who signs the console's certificate, in PEM, where this machine does not trust them
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// A session at a console.
#[derive(Serialize, Deserialize)]
pub(super) struct Signed {
    console: String,
    ca: Option<PathBuf>,
    name: String,
    cookie: String,
    csrf: String,
}

/// Signs in.
///
/// # Errors
/// The console or the provider cannot be asked, or somebody says no there.
pub fn login(args: &Login) -> Result<ExitCode> {
    let console = args.console.trim_end_matches('/').to_owned();
    let ca = args.ca.as_ref().map(fs::canonicalize).transpose().context("the file of --ca cannot be found")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signed = Signed { console, ca, name: String::new(), cookie: String::new(), csrf: String::new() };
    runtime.block_on(async {
        let named = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
        if args.provider.is_empty() || !args.provider.chars().all(named) {
            bail!("`{}` is no provider's name: those have letters, digits, `.`, `_` and `-`", args.provider);
        }
        let path = format!("/signin/oidc/{}/device", args.provider);
        let begun = signed.said(&Method::POST, &path, None, QUICK).await?.1;
        let word = |key: &str| begun[key].as_str().with_context(|| format!("the console's answer has no {key}"));
        println!("Open {} and type the code {}", word("address")?, word("code")?);
        if let Some(whole) = begun["whole_address"].as_str() {
            println!("or open {whole}");
        }
        println!("Type it only if you began this yourself. Waiting …");
        let patience = Duration::from_secs(begun["seconds"].as_u64().unwrap_or(600)) + QUICK;
        let (headers, done) = signed.said(&Method::POST, &format!("{path}/{}", word("token")?), None, patience).await?;
        signed.name = done["signed_in"].as_str().unwrap_or_default().to_owned();
        let cookies = headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
        let cookie = cookies.filter_map(|cookie| cookie.split(';').next()?.strip_prefix(COOKIE)).next_back();
        signed.cookie = cookie.context("the console gave no session")?.to_owned();
        let me = signed.said(&Method::GET, "/api/v1/me", None, QUICK).await?.1;
        signed.csrf = me["csrf"].as_str().context("the console's answer has no csrf")?.to_owned();
        signed.save()
    })?;
    println!("signed in at {} as {}; `--console` asks there", signed.console, signed.name);
    Ok(ExitCode::SUCCESS)
}

/// Signs out, there and here.
///
/// # Errors
/// Nobody is signed in, or the console cannot be asked; what is kept here is gone all the same.
pub fn logout() -> Result<ExitCode> {
    let signed = Signed::load()?;
    fs::remove_file(place()?).context("cannot remove the session's file")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(signed.said(&Method::POST, "/signout", None, QUICK)).context("signed out here, not there")?;
    println!("signed out at {}", signed.console);
    Ok(ExitCode::SUCCESS)
}

impl Signed {
    /// The one that `login` kept.
    ///
    /// # Errors
    /// There is none, it is somebody else's to read, or it is broken.
    pub(super) fn load() -> Result<Self> {
        let place = place()?;
        let told = || format!("not signed in at a console ({}); run `holdpoint login` first", place.display());
        let mode = fs::metadata(&place).with_context(told)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!(
                "{} can be read by others, so what is in it may be theirs by now; delete it and run `holdpoint login` again",
                place.display()
            );
        }
        let text = Zeroizing::new(fs::read_to_string(&place).with_context(told)?);
        serde_json::from_str(&text)
            .with_context(|| format!("{} is broken; run `holdpoint login` again", place.display()))
    }

    fn save(&self) -> Result<()> {
        let place = place()?;
        let failed = || format!("cannot keep the session in {}", place.display());
        let directory = place.parent().context("a file has a directory")?;
        fs::create_dir_all(directory).with_context(failed)?;
        let aside = place.with_extension("new");
        let _ = fs::remove_file(&aside);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).with_context(failed)?;
        let text = Zeroizing::new(serde_json::to_string(self)?);
        file.write_all(text.as_bytes()).and_then(|()| fs::rename(&aside, &place)).with_context(failed)
    }

    /// Asks the console, as whoever is signed in.
    ///
    /// # Errors
    /// It cannot be asked, or says no: its own words.
    pub(super) async fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
        Ok(self.said(method, path, body, PATIENT).await?.1)
    }

    async fn said(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<(HeaderMap, Value)> {
        let client = Client::new(&self.console, self.ca.clone(), None);
        let client = client.map_err(|why| anyhow::anyhow!("the console's address {} {why}", self.console))?;
        let mut headers = HeaderMap::new();
        let mut say = |name: &'static str, value: &str| -> Result<()> {
            let mut value =
                HeaderValue::from_str(value).context("the session is broken; run `holdpoint login` again")?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok(())
        };
        say("accept", "application/json")?;
        say("content-type", "application/json")?;
        if !self.cookie.is_empty() {
            say("cookie", &format!("{COOKIE}{}", self.cookie))?;
        }
        if !self.csrf.is_empty() {
            say("x-csrf", &self.csrf)?;
        }
        let body = Zeroizing::new(body.map_or_else(Vec::new, |body| body.to_string().into_bytes()));
        let asked = tokio::time::timeout(patience, client.send(method, path, headers, body, LONGEST)).await;
        let Answer { status, headers, body } = match asked {
            Ok(answer) => answer.map_err(|why| anyhow::anyhow!("the console at {}: {why}", self.console))?,
            Err(_) => bail!("the console at {} gave no answer within {} s", self.console, patience.as_secs()),
        };
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match value["detail"].as_str() {
            _ if status.is_success() => Ok((headers, value)),
            Some(why) if status == 401 && !self.cookie.is_empty() => bail!("{why}: run `holdpoint login` again"),
            Some(why) => bail!("{why}"),
            None if status == 404 => bail!("the console does not offer this; ask on the gateway's own machine"),
            None => bail!("the console answered {status}"),
        }
    }
}

/// Where the session is kept.
fn place() -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")));
    Ok(home.context("neither HOME nor XDG_CONFIG_HOME says where to keep a session")?.join("holdpoint/session.json"))
}

/// The session's cookie, as the console writes it.
const COOKIE: &str = "__Host-holdpoint=";

/// For what a machine answers.
const QUICK: Duration = Duration::from_secs(30);

/// For a list that is waited on.
const PATIENT: Duration = Duration::from_secs(90);

/// Of an answer, bytes.
const LONGEST: usize = 64 * 1024 * 1024;
