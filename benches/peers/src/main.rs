//! tower-bearer and its peers, measured side by side in one run. `run` beside this package makes `RESULTS.md` of it.

mod behaviour;
mod contender;
mod contenders;
mod cost;
mod endpoint;
mod issuer;
mod services;
mod table;

use contender::runtime;
use contenders::kube_client::{PLUGIN, be_plugin};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, url] = &arguments[..]
        && flag == PLUGIN
    {
        be_plugin(url);
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
