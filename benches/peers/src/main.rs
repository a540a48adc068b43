//! Measures tower-bearer and comparable crates in one run. The script `run` writes the output to `RESULTS.md`.

mod behaviour;
mod contender;
mod contenders;
mod cost;
mod endpoint;
mod issuer;
mod services;
mod table;

use contender::runtime;
use contenders::kube_client::{PLUGIN, run_plugin};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, url] = &arguments[..]
        && flag == PLUGIN
    {
        run_plugin(url);
        return;
    }
    let contenders = runtime().block_on(contenders::all());
    let behaviours: Vec<_> = contenders
        .iter()
        .map(|contender| runtime().block_on(behaviour::observe(contender)))
        .collect();
    let costs = cost::measure(&contenders);
    table::print(&contenders, &costs, &behaviours);
}
