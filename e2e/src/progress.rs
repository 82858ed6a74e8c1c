//! What a person sees while something takes its time.

use std::time::Instant;

/// Steps with the time since the beginning, on standard error; or nothing.
#[derive(Debug, Clone)]
pub struct Progress {
    begin: Instant,
    loud: bool,
}

impl Progress {
    /// Says each step.
    pub fn to_stderr() -> Self {
        Self { begin: Instant::now(), loud: true }
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Self { begin: Instant::now(), loud: false }
    }

    /// A step begins, or something is worth knowing.
    pub fn step(&self, what: &str) {
        if self.loud {
            eprintln!("{:7.1} s  {what}", self.begin.elapsed().as_secs_f64());
        }
    }
}
