//! `holdpoint resources`: what a resource has in it that should be masked.
//!
//! # Security
//! The password comes from standard input or is typed unseen, never from an argument and never from the vault: what the
//! gateway logs in with leaves it for bots' logins alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{IsTerminal as _, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use crate::{
    app,
    credentials::Secret,
    discover::{
        Proposal,
        catalog::{Catalog, Id, Looked, Relation, What},
        postgres::{Login, Server},
        propose,
    },
    policy::{
        PolicySet, Resource,
        amend::{MaskLine, with_masks},
    },
    visible::visible,
};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Propose masks from what a resource's catalog and values look like, for a person to edit
    Discover(Discover),
}

#[derive(Debug, clap::Args)]
struct Discover {
    /// The resource
    name: String,
    /// The directory of the policy files, or one file
    #[arg(long, value_name = "DIR", env = "HOLDPOINT_POLICIES", default_value = "/etc/holdpoint/policies")]
    policies: PathBuf,
    /// Whom to log in as; its password is read from standard input, or asked for
    #[arg(long)]
    user: String,
    /// Which database
    #[arg(long)]
    database: String,
    /// Only this schema; may be repeated
    #[arg(long = "schema", value_name = "NAME")]
    schemas: Vec<String>,
    /// How many rows of each table are looked at
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rows: u32,
    /// Read names and comments alone, no values
    #[arg(long)]
    no_sample: bool,
    /// Write to this file, which must not be there yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Asks the resource.
///
/// # Errors
/// The policies are wrong, the resource cannot be asked, or the file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Sub::Discover(args) = &args.what;
    if let Some(path) = args.output.as_deref().filter(|path| path.symlink_metadata().is_ok()) {
        bail!("{} is there already, and is not overwritten; name another file", path.display());
    }
    let set = match PolicySet::load_inspected(&args.policies, &*app::inspector()) {
        Ok(set) => set,
        Err(errors) => bail!("the policies are wrong; put them right first:\n{errors}"),
    };
    let resource = named(&set, &args.name)?;
    let login = Login { user: args.user.clone(), database: args.database.clone(), password: password(&args.user)? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (catalog, looked) = runtime.block_on(ask(args, resource, &login))?;
    let proposal = propose(&catalog, &resource.masks, &looked);
    let text = document(args, resource, &proposal, &catalog)?;
    match &args.output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => write_new(path, &text)?,
    }
    let (rules, open) = (proposal.columns.len() + proposal.detectors.len(), proposal.open);
    let place = args.output.as_deref().map_or_else(String::new, |path| format!(" in {}", path.display()));
    eprintln!(
        "{rules} rules, {open} more for you to decide{place}; edit, `holdpoint policy check`, then put it where the resource is"
    );
    Ok(ExitCode::SUCCESS)
}

fn named<'s>(set: &'s PolicySet, name: &str) -> anyhow::Result<&'s Resource> {
    let known = || set.resources().iter().map(|resource| &*resource.name).collect::<Vec<_>>().join(", ");
    let resource =
        set.resource_named(name).with_context(|| format!("no resource `{name}`; expected one of {}", known()))?;
    if resource.protocol.as_str() != "postgres" {
        bail!("resource `{name}` speaks {}; only postgres can be looked into", resource.protocol);
    }
    Ok(resource)
}

/// What stands on standard input, or is typed; nothing where there is none.
fn password(user: &str) -> anyhow::Result<Option<Secret>> {
    let input = std::io::stdin();
    let mut text = Zeroizing::new(String::new());
    if input.is_terminal() {
        let typed = rpassword::prompt_password(format!("password of {} (empty: none): ", visible(user.as_bytes())));
        text = typed.map(Zeroizing::new).context("cannot ask without showing what is typed; use a pipe")?;
    } else {
        input.lock().read_to_string(&mut text).context("the password on standard input is not UTF-8")?;
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok((!text.is_empty()).then(|| Secret::new(text.as_bytes().to_vec())))
}

async fn ask(args: &Discover, resource: &Resource, login: &Login) -> anyhow::Result<(Catalog, BTreeMap<Id, Looked>)> {
    let server = Server::connect(resource, login).await?;
    let catalog = server.catalog(&args.schemas).await?;
    // A part is looked at with its whole, where that is among the chosen schemas.
    let chosen: BTreeSet<Id> = catalog.relations.iter().map(|relation| relation.id).collect();
    let is_part = |relation: &&Relation| relation.parent.is_some_and(|parent| chosen.contains(&parent));
    let tables: Vec<_> = catalog.relations.iter().filter(|one| one.what != What::View && !is_part(one)).collect();
    if catalog.relations.is_empty() {
        eprintln!(
            "note: there is no table in database {}{}",
            args.database,
            if args.schemas.is_empty() { "" } else { " in these schemas" }
        );
    }
    let mut looked = BTreeMap::new();
    if args.no_sample {
        return Ok((catalog, looked));
    }
    eprintln!("{} tables to look at", tables.len());
    let mut said = Instant::now();
    for (done, relation) in tables.iter().enumerate() {
        looked.insert(relation.id, server.look(&catalog, relation, args.rows).await?);
        if said.elapsed() >= PROGRESS {
            eprintln!("looked at {} of {} tables", done + 1, tables.len());
            said = Instant::now();
        }
    }
    eprintln!("looked at {} tables", tables.len());
    Ok((catalog, looked))
}

/// How often a person hears how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// The resource's document with what is proposed, read again to see that it does what it says.
fn document(args: &Discover, resource: &Resource, proposal: &Proposal, catalog: &Catalog) -> anyhow::Result<String> {
    let path = &resource.origin.file;
    let source = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = heading(args, proposal, catalog);
    lines.extend(proposal.lines.iter().cloned());
    let text = with_masks(&source, &resource.name, &lines)?;
    let set =
        PolicySet::parse([("what is proposed", text.as_bytes())]).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let masks = &set.resource_named(&resource.name).context("the resource is not in what is proposed")?.masks;
    for (schema, table, column, with) in &proposal.columns {
        if masks.for_column(schema, table, column) < Some(*with) {
            bail!(
                "the rule for {} would not mask it; please report this",
                visible(format!("{schema}.{table}.{column}").as_bytes())
            );
        }
    }
    Ok(text)
}

fn heading(args: &Discover, proposal: &Proposal, catalog: &Catalog) -> Vec<MaskLine> {
    let say = |text: String| MaskLine::Comment(text);
    let rules = proposal.columns.len() + proposal.detectors.len();
    let values =
        if args.no_sample { "no values".to_owned() } else { format!("up to {} rows of each table", args.rows) };
    let tables = catalog.relations.iter().filter(|relation| relation.what != What::View).count();
    let shown = |text: &str| visible(text.as_bytes());
    vec![
        say(format!(
            "---- proposed by `holdpoint resources discover {}`, as {} in database {}",
            shown(&args.name),
            shown(&args.user),
            shown(&args.database)
        )),
        say(format!(
            "{tables} tables, {values}: {rules} rules, and {} in comments for you to decide; nothing here is proof",
            proposal.open
        )),
    ]
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    let mut file =
        open.with_context(|| format!("cannot make {}; name a file that is not there yet", path.display()))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}
