//! `holdpoint status`: how the gateway is, as the kernel and the record have it at this moment.

use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use super::{Output, channels, client::Socket};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// Prints it; exits with 1 when the gateway is not whole.
///
/// # Errors
/// No gateway answers.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let status: Value = args.socket.ask(&Method::GET, "/api/v1/status", None)?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Output::Table => print!("{}", lines(&status)),
    }
    Ok(if status["healthy"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn lines(status: &Value) -> String {
    let mut lines = Vec::new();
    let healthy = if status["healthy"] == true { "healthy" } else { "NOT HEALTHY" };
    lines.push(format!("node {}, version {}: {healthy}", text(&status["node"]), text(&status["version"])));
    lines.push(format!("open requests: {}", status["open_requests"]));
    match &status["record"]["Err"] {
        Value::Null => lines.push(format!("record: {}", text(&status["record"]["Ok"]))),
        error => lines.push(format!("record: FAILS: {}", text(error))),
    }
    credentials(&mut lines, &status["credentials"]);
    for channel in list(&status["channels"]) {
        let of = |part: &str| words_of(&channel[part]);
        lines.push(format!("channel {}: {} to tell; {}", of("name"), of("backlog"), channels::state(channel)));
    }
    if let Some(error) = status["kernel"]["Err"].as_str() {
        lines.push(format!("kernel: FAILS: {error}"));
    }
    for guard in list(&status["kernel"]["Ok"]) {
        let path = guard["path"].as_str().unwrap_or("(a cgroup that is gone)");
        let missing: Vec<_> = list(&guard["missing"]).iter().map(text).collect();
        let state =
            if missing.is_empty() { "every program".to_owned() } else { format!("LACKS {}", missing.join(", ")) };
        lines.push(format!("guarded: {path}: {state}"));
        refused(&mut lines, path, &guard["refused"]);
    }
    list(&status["guards"]).iter().for_each(|guard| standing(&mut lines, guard));
    for pod in list(&status["missing"]) {
        lines.push(format!("NOT GUARDED: pod {}: it has no cgroup v2 where the kubelet's are looked for", text(pod)));
    }
    if let Some(node) = status["kubernetes"]["node"].as_str() {
        let pods = &status["kubernetes"]["pods"];
        let api = status["kubernetes"]["away"]
            .as_str()
            .map_or("the API answers".to_owned(), |why| format!("API AWAY: {why}"));
        lines.push(format!("kubernetes: {pods} pods known of node {node}; {api}"));
    }
    refused(&mut lines, "guarded cgroups", &status["refused"]);
    if let Some(reason) = status["unix_sockets"]["Err"].as_str() {
        lines.push(format!("not guarded: UNIX sockets: {reason}"));
    }
    for namespace in list(&status["namespaces"]) {
        let of = |part: &str| namespace[part].as_str();
        let state = match (of("deaf"), of("open")) {
            (None, None) if namespace["shared"] == true => {
                "shared with others: denied are sockets made in guarded cgroups, not those handed in".to_owned()
            }
            (None, None) => "served, and denied what goes round".to_owned(),
            (Some(reason), _) => format!("NOT SERVED: {reason}"),
            (None, Some(reason)) => format!("OPEN to sockets that the hooks do not see: {reason}"),
        };
        lines.push(format!("network namespace {}: {state}", words_of(&namespace["id"])));
        if let Some(reason) = of("unwatched") {
            lines.push(format!("not stopped: packet sockets of {}: {reason}", words_of(&namespace["id"])));
        }
        if namespace["dropped"].as_u64().is_some_and(|dropped| dropped > 0) {
            lines.push(format!("dropped in {}: {} packets", words_of(&namespace["id"]), namespace["dropped"]));
        }
    }
    for workload in list(&status["workloads"]) {
        let of = |part: &str| words_of(&workload[part]);
        lines.push(format!("workload {} ({}): {}", of("name"), of("cgroup"), of("enforcement")));
        lines.extend(list(&workload["reasons"]).iter().map(|reason| format!("    {}", text(reason))));
    }
    lines.extend(list(&status["problems"]).iter().map(|problem| format!("problem: {}", text(problem))));
    damage(&mut lines, status);
    let unseen: Vec<_> = list(&status["unseen"]).iter().map(text).collect();
    lines.push(format!("not seen by any hook: {}: take CAP_NET_RAW from guarded workloads", unseen.join(", ")));
    lines.join("\n") + "\n"
}

/// What seals credentials, and whether it answers.
fn credentials(lines: &mut Vec<String>, credentials: &Value) {
    let Some(with) = credentials["sealed_with"].as_str() else { return };
    let state = match credentials["away"].as_str() {
        None => "it answers".to_owned(),
        Some(why) => format!("CANNOT BE USED: {why}"),
    };
    lines.push(format!("credentials: {}, sealed with {with}: {state}", credentials["credentials"]));
    if let Some(before) = credentials["before"].as_str() {
        lines.push(format!("credentials: opened with {before} as well, until `holdpoint credentials reseal` has run"));
    }
}

/// Who is behind a guard, and what the programs' being attached does not tell.
fn standing(lines: &mut Vec<String>, guard: &Value) {
    let path = text(&guard["path"]);
    let of = |part: &str| guard[part].as_str();
    if let Some(who) = of("who") {
        lines.push(format!("{path} is {who}"));
    }
    if of("why") == Some("unknown") {
        lines.push(format!("{path} is a pod that the API has not told of: guarded until it is known not to match"));
    }
    if guard["late"] == true {
        lines.push(format!("{path} was guarded LATE: connections that its processes had before are not seen"));
    }
    for (part, what) in [("unguardable", "UNGUARDABLE"), ("failed", "NOT GUARDED")] {
        of(part).into_iter().for_each(|why| lines.push(format!("{path} is {what}: {why}")));
    }
}

fn damage(lines: &mut Vec<String>, status: &Value) {
    let counts = status["repairs"].as_object().into_iter().flatten();
    let sum: u64 = counts.filter_map(|(_, count)| count.as_u64()).sum();
    let Some(what) = status["last_damage"]["what"].as_str() else { return };
    let ago = status["last_damage"]["seconds_ago"].as_f64().unwrap_or(0.0);
    let repaired = match status["last_damage"]["unrepaired"].as_str() {
        None => "repaired".to_owned(),
        Some(why) => format!("NOT REPAIRED: {why}"),
    };
    lines.push(format!("repairs since the start: {sum}; the last damage, {ago:.0} s ago: {what}: {repaired}"));
}

fn refused(lines: &mut Vec<String>, path: &str, counts: &Value) {
    for (reason, count) in counts.as_object().into_iter().flatten() {
        lines.push(format!("refused in {path}: {count} {}", words(reason)));
    }
}

/// What a reason of the kernel programs refuses.
fn words(reason: &str) -> &str {
    match reason {
        "rule" => "towards a destination that a rule refuses",
        "not_tcp" => "of UDP or the like towards an intercepted destination",
        "full" => "connections for which there was no room",
        "gateway_port" => "uses of the gateway's own port",
        "socket" => "raw, SCTP or other sockets",
        "unix" => "towards a UNIX socket on the refuse list",
        "packet" => "packets that no socket had sent, or one that somebody else made",
        "unanswered" => "intercepted connections that no gateway answered",
        other => other,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text without its quotes, or any other value as it is.
fn words_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_is_attached_what_was_refused_and_what_is_not_seen() {
        let guard = |path: &str, missing: &[&str], refused: Value| json!({ "cgroup": 7, "path": path, "programs": [], "missing": missing, "refused": refused });
        let status = json!({
            "node": "db-7",
            "version": "0.1.0",
            "healthy": false,
            "open_requests": 2,
            "record": { "Ok": "a1b2" },
            "credentials": { "sealed_with": "the key in /k", "before": "the key in /old", "away": "it is gone", "credentials": 3 },
            "kernel": { "Ok": [
                guard("/holdpoint", &[], json!({ "not_tcp": 3, "gateway_port": 1 })),
                guard("/ci", &["bind4", "bind6"], json!({})),
            ] },
            "guards": [
                { "path": "/kubepods/poda", "who": "ci/deploy", "why": "selected", "late": true, "unguardable": null, "failed": null },
                { "path": "/kubepods/podb", "who": null, "why": "unknown", "late": false, "unguardable": null, "failed": "no room" },
            ],
            "missing": ["ci/other"],
            "kubernetes": { "node": "db-7", "pods": 3, "away": "refused" },
            "refused": { "unanswered": 20 },
            "unix_sockets": { "Err": "Linux 6.7 or newer is needed" },
            "namespaces": [
                { "id": 4026531, "deaf": null, "open": null, "shared": true, "dropped": 9 },
                { "id": 4026532, "deaf": null, "open": "nftables is missing", "shared": false, "dropped": 0 },
            ],
            "unseen": ["AF_PACKET", "AF_VSOCK"],
            "workloads": [{ "name": "ci", "cgroup": "/ci/a", "enforcement": "Bypassable", "reasons": ["a hole"] }],
            "problems": ["/ci lacks bind4"],
            "repairs": { "link": 1, "pin": 2 },
            "last_damage": { "what": "the pin of RULES was removed", "seconds_ago": 3.2, "unrepaired": null },
        });
        assert_eq!(
            lines(&status),
            "node db-7, version 0.1.0: NOT HEALTHY\n\
             open requests: 2\n\
             record: a1b2\n\
             credentials: 3, sealed with the key in /k: CANNOT BE USED: it is gone\n\
             credentials: opened with the key in /old as well, until `holdpoint credentials reseal` has run\n\
             guarded: /holdpoint: every program\n\
             refused in /holdpoint: 1 uses of the gateway's own port\n\
             refused in /holdpoint: 3 of UDP or the like towards an intercepted destination\n\
             guarded: /ci: LACKS bind4, bind6\n\
             /kubepods/poda is ci/deploy\n\
             /kubepods/poda was guarded LATE: connections that its processes had before are not seen\n\
             /kubepods/podb is a pod that the API has not told of: guarded until it is known not to match\n\
             /kubepods/podb is NOT GUARDED: no room\n\
             NOT GUARDED: pod ci/other: it has no cgroup v2 where the kubelet's are looked for\n\
             kubernetes: 3 pods known of node db-7; API AWAY: refused\n\
             refused in guarded cgroups: 20 intercepted connections that no gateway answered\n\
             not guarded: UNIX sockets: Linux 6.7 or newer is needed\n\
             network namespace 4026531: shared with others: denied are sockets made in guarded cgroups, not those handed in\n\
             dropped in 4026531: 9 packets\n\
             network namespace 4026532: OPEN to sockets that the hooks do not see: nftables is missing\n\
             workload ci (/ci/a): Bypassable\n    a hole\n\
             problem: /ci lacks bind4\n\
             repairs since the start: 3; the last damage, 3 s ago: the pin of RULES was removed: repaired\n\
             not seen by any hook: AF_PACKET, AF_VSOCK: take CAP_NET_RAW from guarded workloads\n"
        );
    }
}
