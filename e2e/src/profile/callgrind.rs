//! What callgrind writes, by function: instructions of its own, with all that it calls, and how often it was called.
//!
//! Format: Valgrind's "Callgrind Format Specification", as far as callgrind itself uses it.

use std::collections::HashMap;
use std::ops::AddAssign;

/// What a function cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Instructions of its own.
    pub own: f64,
    /// Instructions with those of what it calls.
    pub whole: f64,
    /// Calls to it.
    pub calls: f64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.own += other.own;
        self.whole += other.whole;
        self.calls += other.calls;
    }
}

/// Costs by function's name.
pub type Functions = HashMap<String, Cost>;

/// Reads one file of callgrind's; lines that say nothing of functions are passed over.
pub fn read(text: &str) -> Functions {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut functions = Functions::new();
    let mut current = String::new();
    let mut callee: Option<(String, f64)> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            current = full(name, &mut names);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = Some((full(name, &mut names), 0.0));
        } else if let Some(calls) = line.strip_prefix("calls=") {
            if let Some((_, count)) = &mut callee {
                *count = first_number(calls);
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split(' ').nth(1).map_or(0.0, first_number);
            match callee.take() {
                // The line after `calls=` holds what the calls cost as a whole.
                Some((name, calls)) => {
                    if name != current {
                        functions.entry(current.clone()).or_default().whole += cost;
                    }
                    functions.entry(name).or_default().calls += calls;
                }
                None => {
                    let of_function = functions.entry(current.clone()).or_default();
                    of_function.own += cost;
                    of_function.whole += cost;
                }
            }
        }
    }
    functions
}

/// A name is written once, as `(id) name`, and is `(id)` from then on.
fn full<'a>(name: &'a str, names: &mut HashMap<&'a str, &'a str>) -> String {
    let Some((id, rest)) = name.split_once(')') else { return name.to_owned() };
    match rest.trim_start() {
        "" => names.get(id).copied().unwrap_or_default().to_owned(),
        written => {
            names.insert(id, written);
            written.to_owned()
        }
    }
}

fn first_number(text: &str) -> f64 {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// What `more` cost beyond `fewer`, each divided by `by`: what start and end cost is in both.
pub fn difference(more: &Functions, fewer: &Functions, by: f64) -> Functions {
    let minus = |name: &String, cost: &Cost| {
        let before = fewer.get(name).copied().unwrap_or_default();
        Cost {
            own: (cost.own - before.own) / by,
            whole: (cost.whole - before.whole) / by,
            calls: (cost.calls - before.calls) / by,
        }
    };
    more.iter().map(|(name, cost)| (name.clone(), minus(name, cost))).collect()
}

/// Instructions of all functions together.
pub fn total(functions: &Functions) -> f64 {
    // Not `sum`, which gives -0 for nothing.
    functions.values().map(|cost| cost.own).fold(0.0, |sum, own| sum + own)
}

/// Calls that give memory: mimalloc's entries, and the C library's where that is the allocator.
pub fn allocations(functions: &Functions) -> f64 {
    const ENTRIES: [&str; 9] = [
        "mi_malloc",
        "mi_zalloc",
        "mi_malloc_aligned",
        "mi_zalloc_aligned",
        "mi_realloc_aligned",
        "mi_realloc",
        "malloc",
        "calloc",
        "realloc",
    ];
    let calls = functions.iter().filter(|(name, _)| ENTRIES.contains(&name.as_str())).map(|(_, cost)| cost.calls);
    calls.fold(0.0, |sum, calls| sum + calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1\nevents: Ir\n\nfl=(1) a.rs\nfn=(1) serve\n10 5\n+1 3\ncfn=(2) parse\ncalls=2 20\n* 40\nfi=(3) c.rs\n7 1\nfe=(1)\n\nfn=(2)\n20 30\n-1 10\ncfn=(2)\ncalls=1 20\n20 7\n\ntotals: 49\n";

    #[test]
    fn costs_are_read_by_function_with_what_they_call() {
        let functions = read(FILE);
        assert_eq!(functions["serve"], Cost { own: 9.0, whole: 49.0, calls: 0.0 });
        assert_eq!(functions["parse"], Cost { own: 40.0, whole: 40.0, calls: 3.0 }, "recursion counts once");
        assert_eq!(total(&functions), 49.0);
    }

    #[test]
    fn what_start_costs_cancels() {
        let (fewer, mut more) = (read(FILE), read(FILE));
        more.get_mut("parse").expect("it is there").own += 200.0;
        more.insert("late".into(), Cost { own: 100.0, whole: 100.0, calls: 10.0 });
        let each = difference(&more, &fewer, 100.0);
        assert_eq!((each["parse"].own, each["late"].calls, total(&each)), (2.0, 0.1, 3.0));
    }
}
