//! Prometheus metrics of a database at work, served over HTTP, and some of its
//! other figures.
//!
//! `cargo run --example metrics --features cli` scrapes itself once;
//! with an address behind it (`-- 127.0.0.1:9184`) it writes and reads on and
//! serves until it is ended.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use aidb::{Db, Event, EventListener, Options, metrics};
use tiny_http::{Header, Response, Server};

/// Prints the compactions.
struct Printer;

impl EventListener for Printer {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::CompactionEnd { output_level, tables, elapsed, error: None, .. } = event {
            println!("compaction into L{output_level}: {tables} tables in {elapsed:.0?}");
        }
    }
}

/// Overwrites and reads keys.
fn work(db: &Db, from: u32) -> aidb::Result<()> {
    for i in from..from + 20_000 {
        db.put(format!("key{:05}", i.wrapping_mul(0x9e37_79b9) % 50_000), vec![b'v'; 200])?;
        db.get(format!("key{:05}", i % 50_000))?;
    }
    Ok(())
}

/// Answers every request with the metrics, until the server is told to stop.
fn serve(db: &Db, server: &Server) {
    for request in server.incoming_requests() {
        let header = Header::from_bytes("Content-Type", metrics::CONTENT_TYPE);
        let answer = Response::from_string(metrics::encode(&db.stats()));
        // Whoever asked may be gone.
        let _ = request.respond(answer.with_header(header.expect("a constant header")));
    }
}

/// What Prometheus would do.
fn scrape(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The load, for ever or for one scrape.
fn run(db: &Db, address: &str, for_ever: bool) -> Result<(), Box<dyn Error>> {
    if for_ever {
        println!("serving http://{address}/metrics");
        for from in (0..).step_by(20_000) {
            work(db, from)?;
        }
    }
    work(db, 0)?;
    let page = scrape(address)?;
    page.lines().filter(|l| l.starts_with("aidb_operations_total")).for_each(|l| println!("{l}"));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options::default().write_buffer_bytes(2 << 20).listener(Arc::new(Printer));
    let db = Db::open(dir.path(), &options)?;
    let asked_for = std::env::args().nth(1);
    let address = asked_for.as_deref().unwrap_or("127.0.0.1:0");
    let server = Server::http(address).map_err(|e| format!("listen on {address}: {e}"))?;
    let address = server.server_addr().to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(&db, &server));
        let result = run(&db, &address, asked_for.is_some());
        server.unblock();
        result
    })?;

    let stats = db.stats();
    let get = &stats.operations.get;
    assert_eq!((get.count, stats.operations.write.count), (20_000, 20_000));
    println!(
        "gets: {} of {} timed, p99 {:?}",
        get.latency.count(),
        get.count,
        get.latency.percentile(99.0)
    );
    println!("{}", db.explain_get("key00042")?);
    Ok(())
}
