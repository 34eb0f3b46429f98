//! Two hundred workloads, each in a network namespace of its own, appearing and vanishing under load.
//!
//! `HOLDPOINT_SCALE_SECONDS` is for how long: 15 by default, 60 for figures to quote. `HOLDPOINT_SCALE` is how many.

use std::{
    collections::VecDeque,
    fs,
    time::{Duration, Instant},
};

use tests::{Lab, Load, Net, Witness, eventually};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// One workload. Vanishes, and its namespace with it, when dropped.
struct Workload {
    load: Load,
    _net: Net,
}

/// Connections a second that each workload makes. Every one asks.
const RATE: u32 = 2;

/// More threads than a gateway has on two processors while it looks after hundreds of namespaces: workers of the runtime,
/// those that read about processes, the record's own, those that look at namespaces side by side.
const THREADS: u64 = 96;

#[test]
fn n5_two_hundred_namespaces_come_and_go_under_load() {
    let span = Duration::from_secs(number("HOLDPOINT_SCALE_SECONDS", 15));
    let count = number("HOLDPOINT_SCALE", 200);
    let (lab, witness) = (Lab::new("scale"), Witness::default());
    let port = witness.listen("host", None, 0);
    let resource = format!(
        "resource: shop\nprotocol: postgres\npostgres: {{ classify: text }}\nendpoints: [\"127.0.0.1:{port}\"]\ndefault: allow\n\
         approval: {{ from: [{{ user: root }}], timeout: 30s }}\n"
    );
    lab.policies(&resource, "");
    lab.start();
    let began = Instant::now();
    let mut born = 0;
    let mut appear = || {
        born += 1;
        let (name, net) = (format!("w{born}"), Net::make());
        witness.listen(&name, Some(&net), port);
        let load = Load::start_asking(&lab, &lab.bot(&name).inside(&net), &name, port, RATE);
        Workload { load, _net: net }
    };
    let mut alive: VecDeque<Workload> = (0..count).map(|_| appear()).collect();
    eprintln!("{count} workloads in {:.1} s", began.elapsed().as_secs_f64());
    eventually("every workload is served", Duration::from_secs(120), || {
        (witness.statements().values().flatten().collect::<std::collections::BTreeSet<_>>().len() as u64 >= count)
            .then_some(())
    });
    eprintln!("all of them are served after {:.1} s", began.elapsed().as_secs_f64());

    let pid = lab.gateway_pid();
    let (began, before, cpu) = (Instant::now(), witness.proxied(), cpu_time(pid));
    let mut samples = Vec::new();
    let mut next = Instant::now();
    let (mut answered, mut refused, mut cut) = (0, 0, 0);
    while began.elapsed() < span {
        // Two a second go, and two come.
        let mut gone = alive.pop_front().expect("there are many");
        let seen = gone.load.seen();
        answered += seen.answered;
        refused += seen.refused;
        cut += seen.cut.values().sum::<u64>();
        drop(gone);
        alive.push_back(appear());
        samples.push((began.elapsed(), field(pid, "VmRSS:"), field(pid, "Threads:")));
        next += Duration::from_millis(500);
        eventually("the next moment", Duration::from_secs(1), || (Instant::now() >= next).then_some(()));
    }
    let rate = (witness.proxied() - before) as f64 / began.elapsed().as_secs_f64();
    let busy = (cpu_time(pid) - cpu) / began.elapsed().as_secs_f64();
    let threads = samples.iter().map(|(_, _, threads)| *threads).max().expect("there are samples");
    let third = |from: u32| {
        let within = |at: &Duration| *at >= span / 3 * from && *at < span / 3 * (from + 1);
        let kib: Vec<_> = samples.iter().filter(|(at, ..)| within(at)).map(|(_, kib, _)| *kib).collect();
        kib.iter().sum::<u64>() / (kib.len() as u64).max(1)
    };
    let (middle, last) = (third(1), third(2));
    eprintln!(
        "{:.0} connections/s, {} workloads replaced; of those: {answered} answered, {refused} refused, {cut} cut; gateway: {:.0} % \
         of a processor, {threads} threads, {middle} KiB in the middle third, {last} KiB in the last",
        rate,
        samples.len(),
        busy * 100.0
    );
    drop(alive);
    lab.stop().ok();

    assert_eq!(witness.direct(), 0);
    assert!(answered > 0 && cut == 0, "{answered} answered, {cut} cut");
    // While memory still fills its buffers, a short run tells less.
    let room = if span >= Duration::from_secs(45) { 10 } else { 30 };
    assert!(last <= middle + middle * room / 100, "the gateway grows: {middle} KiB, then {last} KiB");
    assert!(threads <= THREADS, "{threads} threads");
    assert_nobody_was_taken_for_another(&lab, &witness);
}

/// Every statement says who sent it. It arrived once, in the namespace of its sender, and is recorded as the sender's.
fn assert_nobody_was_taken_for_another(lab: &Lab, witness: &Witness) {
    let statements = witness.statements();
    for (statement, places) in &statements {
        assert_eq!(places, &[sender(statement).to_owned()], "{statement}");
    }
    let record = lab.record();
    let mut operations = 0;
    for session in &record.sessions {
        let workload = session.summary["facts"]["workload"].as_str();
        let workload = workload.unwrap_or_else(|| panic!("a session without a workload: {}", session.summary));
        for event in session.events.iter().filter(|event| event.is("operation")) {
            let text = event.text("text");
            if text.contains("'gap ") {
                assert_eq!(sender(&text), workload, "{text}");
                operations += 1;
            }
        }
    }
    assert!(operations >= statements.len() && operations > 0, "{operations} recorded, {} arrived", statements.len());
    eprintln!("{operations} operations recorded, each as its own sender's");
}

/// The workload that a statement names.
fn sender(statement: &str) -> &str {
    statement.split('\'').nth(1).and_then(|text| text.split(' ').nth(1)).unwrap_or("nobody")
}

fn field(pid: nix::unistd::Pid, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the gateway lives");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a living process has it");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

/// Seconds of processor time so far.
fn cpu_time(pid: nix::unistd::Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the gateway lives");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number of ticks");
    // A tick is a hundredth of a second wherever Linux runs.
    (ticks(11) + ticks(12)) / 100.0
}
