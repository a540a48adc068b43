//! Measures the cost of a hit, net of the same client without the peer. The contenders take turns, round by round, so that a
//! change of the machine's speed affects all of them.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use crate::{
    contender::{Batches, Contender},
    services::Requests,
};

const REQUESTS: u32 = 2_000;
const ROUNDS: usize = 501;
const REQUESTS_OF_TWO: u32 = 10_000;
const ROUNDS_OF_TWO: usize = 101;

/// The costs of a hit. Each list has one value per contender.
pub struct Costs {
    /// Nanoseconds on one thread, without extra headers and with five.
    pub bare: Vec<f64>,
    pub five_headers: Vec<f64>,
    /// Nanoseconds on each of two threads, without extra headers.
    pub two_threads: Vec<f64>,
    /// Allocations of a request with five extra headers.
    pub allocations: Vec<f64>,
}

pub fn measure(contenders: &[Contender]) -> Costs {
    let bare = Requests::with_headers(0);
    let five_headers = Requests::with_headers(5);
    Costs {
        bare: one_thread(contenders, &bare),
        five_headers: one_thread(contenders, &five_headers),
        two_threads: two_threads(contenders, &bare),
        allocations: contenders
            .iter()
            .map(|contender| {
                let of =
                    |batches| allocations(batches, &five_headers.clone().with_spare_capacity());
                of(&contender.with) - of(&contender.without)
            })
            .collect(),
    }
}

fn one_thread(contenders: &[Contender], requests: &Requests) -> Vec<f64> {
    let mut pairs: Vec<_> = contenders
        .iter()
        .map(|contender| ((contender.without)(), (contender.with)()))
        .collect();
    let mut nets = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for round in 0..=ROUNDS {
        for (net, (without, with)) in nets.iter_mut().zip(&mut pairs) {
            let time = |batch: &mut dyn FnMut(&Requests, u32)| {
                let start = Instant::now();
                batch(requests, REQUESTS);
                nanos(start.elapsed(), REQUESTS)
            };
            // The order alternates between rounds.
            let (without, with) = if round % 2 == 0 {
                let without = time(without);
                (without, time(with))
            } else {
                let with = time(with);
                (time(without), with)
            };
            // The first round warms up.
            if round > 0 {
                net.push(with - without);
            }
        }
    }
    nets.into_iter().map(median).collect()
}

fn two_threads(contenders: &[Contender], requests: &Requests) -> Vec<f64> {
    let mut nets = vec![Vec::with_capacity(ROUNDS_OF_TWO); contenders.len()];
    for _ in 0..ROUNDS_OF_TWO {
        for (net, contender) in nets.iter_mut().zip(contenders) {
            let time = |batches| time_on_two(batches, requests);
            net.push(time(&contender.with) - time(&contender.without));
        }
    }
    nets.into_iter().map(median).collect()
}

/// Returns the nanoseconds per request while two threads send requests.
fn time_on_two(batches: &Batches, requests: &Requests) -> f64 {
    let start_line = Barrier::new(2);
    let elapsed: Duration = thread::scope(|scope| {
        let threads = [batches(), batches()].map(|mut batch| {
            let start_line = &start_line;
            scope.spawn(move || {
                batch(requests, REQUESTS_OF_TWO / 10);
                start_line.wait();
                let start = Instant::now();
                batch(requests, REQUESTS_OF_TWO);
                start.elapsed()
            })
        });
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    nanos(elapsed / 2, REQUESTS_OF_TWO)
}

fn allocations(batches: &Batches, requests: &Requests) -> f64 {
    let mut batch = batches();
    batch(requests, 10);
    // The difference leaves out the allocations of the batch itself.
    let [few, many] = [1_000, 2_000]
        .map(|count| allocation_counter::measure(|| batch(requests, count)).count_total as f64);
    (many - few) / 1_000.0
}

fn nanos(elapsed: Duration, requests: u32) -> f64 {
    elapsed.as_nanos() as f64 / f64::from(requests)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
