//! The comparison lab: the same data and operations through AiDb and its peers.
//!
//! The engines to compare against arrive behind features; an ordinary build
//! compiles none of them.

fn main() {
    println!("aidb-perf: no workload is defined yet; see benches/ for the criterion benches");
}
