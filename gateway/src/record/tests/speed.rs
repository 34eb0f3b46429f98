//! What an append costs. `cargo test -p gateway --lib record::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

/// About 300 bytes as stored.
fn ordinary() -> Entry {
    allowed("SELECT id, name, price FROM public.orders WHERE customer_id = 4711 ORDER BY created_at DESC LIMIT 20")
}

#[test]
#[ignore = "a measurement: run it alone, with --nocapture"]
fn append_written() {
    let entry = ordinary();
    println!("entry of {} bytes", bytes_of(&entry).len() + HEADER);
    let mut buffer = Vec::new();
    let started = Instant::now();
    for _ in 0..100_000 {
        buffer.clear();
        encoding::encode(&entry, &mut buffer);
    }
    println!("encode alone: {:.2} µs", micros(started, 100_000));
    let mut head = Head::genesis(&[0; 32]);
    let started = Instant::now();
    for _ in 0..100_000 {
        head = head.next(&buffer);
    }
    println!("hash alone: {:.2} µs", micros(started, 100_000));
    for threads in [1, 2, 1, 2] {
        let dir = TempDir::new().expect("a temporary directory");
        let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
        let each = 200_000 / threads;
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|_| drop(recorder.append_written(entry.clone()).expect("written"))));
            }
        });
        println!("written, {threads} threads: {:.2} µs an append", micros(started, 200_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone, with --nocapture"]
async fn append_synced() {
    for waiters in [1, 4, 16, 64] {
        let dir = TempDir::new_in(std::env::var_os("HOLDPOINT_BENCH_DIR").unwrap_or("/var/tmp".into())).expect("a dir");
        let recorder = Recorder::open(dir.path(), &Options::default()).expect("opens");
        let started = Instant::now();
        let tasks: Vec<_> = (0..waiters)
            .map(|_| {
                let recorder = recorder.clone();
                tokio::spawn(async move {
                    let entry = ordinary();
                    for _ in 0..500 {
                        let _ = recorder.append(entry.clone(), Durability::Synced).await.expect("synced");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let each = micros(started, 500 * waiters);
        println!("synced, {waiters} waiters: {:.0} appends a second", 1e6 / each);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
fn micros(since: Instant, count: usize) -> f64 {
    since.elapsed().as_secs_f64() * 1e6 / count as f64
}
