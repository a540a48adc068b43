//! Prints the results: tables in Markdown, and `figure` lines for other programs.

use std::{
    fmt::{self, Display, Formatter, Write},
    ops::RangeInclusive,
};

use crate::{
    behaviour::{B, Behaviour, Recovery},
    contender::Contender,
    cost::Costs,
};

/// The lock file of this build, from which the versions are taken.
const LOCK: &str = include_str!("../Cargo.lock");

/// The crates that the tables leave out, with the reasons.
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
         Per request with a cached token of 1 KB, net of the same client without the peer: medians over rounds in which the \
         contenders take turns. Allocations are those of a request with five extra headers and capacity for one more.\n\n\
         | | ns | ns, five extra headers | ns on each of two threads | allocations |\n\
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
        "## What happens without a cached token\n\n\
         The numbers count token requests. Contenders without a cache are left out, and a dash means that a column does not \
         apply.\n\n\
         - **50 concurrent**: 50 callers need the same token, which is not cached; the minimum and the maximum of ten tries.\n\
         - **Five timeouts**: five callers follow one another and wait 40 ms each, while the source takes 100 ms.\n\
         - **Revoked twice**: the tokens are revoked twice within a second. The status of the request after the first \
         revocation, of the request after the second, and of the next one; in brackets, the token requests and the requests \
         sent for each.\n\
         - **Another scope**: the scope of the token that was sent when B was required, after A, through one object.\n\n\
         | | 50 concurrent | five timeouts | revoked twice | another scope |\n\
         |---|--:|---|---|---|\n",
    );
    for (contender, behaviour) in contenders.iter().zip(behaviours) {
        if contender.cold.is_none() {
            continue;
        }
        writeln!(
            table,
            "| {} | {} | {} | {} | {} |",
            name(contender),
            OrDash(behaviour.concurrent.as_ref().map(range).as_ref()),
            OrDash(behaviour.timeouts.map(timeouts).as_ref()),
            OrDash(behaviour.revoked.as_ref().map(revoked).as_ref()),
            OrDash(behaviour.other_scope.as_deref().map(other_scope).as_ref()),
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

fn timeouts((requests, served): (u32, Option<usize>)) -> String {
    match served {
        Some(caller) => format!("{requests}, the {} caller gets a token", ordinal(caller)),
        None => format!("{requests}, no caller gets a token"),
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
    let mut notes = String::from("## Notes\n\n");
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
