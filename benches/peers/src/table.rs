//! The tables, in Markdown, and the figures for whoever reads them by machine.

use std::{
    fmt::{self, Display, Formatter, Write},
    ops::RangeInclusive,
};

use crate::{
    behaviour::{B, Behaviour, Recovery},
    contender::Contender,
    cost::Costs,
};

/// The lock file that this was built with: it knows the versions.
const LOCK: &str = include_str!("../Cargo.lock");

/// What the field has and this table has not, and why.
const ABSENT: &str = include_str!("absent.md");

pub fn print(contenders: &[Contender], costs: &Costs, behaviours: &[Behaviour]) {
    println!("{}", costs_table(contenders, costs));
    println!("{}", behaviours_table(contenders, behaviours));
    println!("{}", notes(contenders));
    println!("{ABSENT}");
    print_figures(contenders, costs);
}

fn costs_table(contenders: &[Contender], costs: &Costs) -> String {
    let mut table = String::from(
        "## What a hit costs\n\n\
         Per request with a token of 1 KB at hand, net of the same client without the peer; medians over rounds in which the \
         contenders take turns. Allocations are those of a request with five further headers and room for one more.\n\n\
         | | ns | ns, five further headers | ns on each of two threads | allocations |\n\
         |---|--:|--:|--:|--:|\n",
    );
    for (i, contender) in contenders.iter().enumerate() {
        writeln!(
            table,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            name(contender),
            costs.bare[i],
            costs.five_headers[i],
            costs.two_threads[i],
            costs.allocations[i]
        )
        .unwrap();
    }
    table
}

fn behaviours_table(contenders: &[Contender], behaviours: &[Behaviour]) -> String {
    let mut table = String::from(
        "## What happens without a token at hand\n\n\
         How often the source was asked. Those that have no cache are left out; a dash stands where a question does not \
         apply.\n\n\
         - **50 at once**: callers who need the same token, of which there is none yet; the least and the most of ten tries.\n\
         - **Five impatient**: callers who come one after another and wait 40 ms each, for a source that takes 100 ms.\n\
         - **Revoked twice**: within a second. What came back for the request after the first revocation, for the one after \
         the second, and for the next one; in brackets, token requests and requests sent for each.\n\
         - **Another scope**: whose token was sent to scope B, after scope A, through one object.\n\n\
         | | 50 at once | five impatient | revoked twice | another scope |\n\
         |---|--:|---|---|---|\n",
    );
    for (contender, seen) in contenders.iter().zip(behaviours) {
        if contender.cold.is_none() {
            continue;
        }
        writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            name(contender),
            OrDash(seen.stampede.as_ref().map(range).as_ref()),
            OrDash(seen.impatient.map(impatient).as_ref()),
            OrDash(seen.revoked.as_ref().map(revoked).as_ref()),
            OrDash(seen.other_scope.as_deref().map(other_scope).as_ref()),
        )
        .unwrap();
    }
    table
}

fn range(range: &RangeInclusive<u32>) -> String {
    match (range.start(), range.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

fn impatient((requests, served): (u32, Option<usize>)) -> String {
    match served {
        Some(caller) => format!("{requests}, the {} caller has a token", ordinal(caller)),
        None => format!("{requests}, none has a token"),
    }
}

fn ordinal(n: usize) -> &'static str {
    ["first", "second", "third", "fourth", "fifth"][n - 1]
}

fn revoked(all: &[Recovery; 3]) -> String {
    all.iter()
        .map(|it| format!("{} ({}, {})", it.status.as_u16(), it.fetches, it.sends))
        .collect::<Vec<_>>()
        .join(", ")
}

fn other_scope(scope: &str) -> &'static str {
    if scope == B { "B's" } else { "**A's**" }
}

fn notes(contenders: &[Contender]) -> String {
    let mut notes = String::from("## To read the lines\n\n");
    for contender in contenders {
        writeln!(notes, "- {}: {}.", name(contender), contender.note).unwrap();
    }
    notes
}

fn print_figures(contenders: &[Contender], costs: &Costs) {
    for (i, contender) in contenders.iter().enumerate() {
        let name: String = format!("{}_{}", contender.package, contender.what)
            .chars()
            .filter_map(|c| match c {
                '-' | ' ' => Some('_'),
                c => (c.is_ascii_alphanumeric() || c == '_').then_some(c),
            })
            .collect();
        for (kind, values) in [
            ("bare_ns", &costs.bare),
            ("5_headers_ns", &costs.five_headers),
            ("two_threads_ns", &costs.two_threads),
            ("allocs", &costs.allocations),
        ] {
            println!("figure peers_{name}_{kind} {:.3}", values[i]);
        }
    }
}

fn name(contender: &Contender) -> String {
    format!(
        "{} {}, {}",
        contender.package,
        version(contender.package),
        contender.what
    )
}

fn version(package: &str) -> &'static str {
    let named = format!("name = \"{package}\"\nversion = \"");
    // Some peer may bring an older one: the newest comes last.
    let (_, rest) = LOCK.rsplit_once(&named).expect("it is in the lock file");
    rest.split('"').next().unwrap_or_default()
}

/// A value, or a dash.
struct OrDash<'a, T>(Option<&'a T>);

impl<T: Display> Display for OrDash<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("–"),
        }
    }
}
