//! A change of configuration each second, decided by the seed; each leaves an upstream that serves.

use super::pair::{ANSWER, Pair};
use super::random::Random;
use super::{configuration as config, row, watch};
use crate::rows::Row;

/// Clusters beside those that are used, at most.
const IDLE: u64 = 8;

pub(super) struct Changes {
    random: Random,
    made: u64,
    refused: u64,
}

impl Changes {
    pub(super) fn new(random: Random) -> Self {
        Self { random, made: 0, refused: 0 }
    }

    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Makes one, and waits until the proxy has answered it.
    pub(super) fn next(&mut self, pair: &Pair) -> anyhow::Result<()> {
        self.made += 1;
        let [first, second] = pair.upstreams;
        match self.random.below(5) {
            0 => pair.server().ads.push([config::endpoints(&[(first, 1)])], ANSWER),
            1 => pair.server().ads.push([config::endpoints(&[(second, 1)])], ANSWER),
            2 => {
                let weights = [(first, 1 + self.random.below(9)), (second, 1 + self.random.below(9))];
                pair.server().ads.push([config::endpoints(&weights)], ANSWER)
            }
            3 => {
                let idle = config::idle_cluster(self.random.below(IDLE), first, 1 + self.random.below(9));
                pair.client().ads.push([config::routes(self.made), idle], ANSWER)?;
                // A later refusal that is wanted would hide this one.
                let refused = pair.client().ads.refused();
                match refused.filter(|why| !why.contains(config::REFUSED)) {
                    Some(why) => anyhow::bail!("change {} was refused: {why}", self.made),
                    None => Ok(()),
                }
            }
            _ => {
                self.refused += 1;
                pair.client().ads.push([config::refused()], ANSWER)
            }
        }
    }

    /// That changes were taken and refused as they should, and that the last one is what is served.
    pub(super) fn rows(&mut self, pair: &Pair) -> anyhow::Result<Vec<Row>> {
        let [client, server] = [pair.client(), pair.server()].map(|side| side.ads.refused());
        let is_ours = client.as_ref().is_some_and(|why| why.contains(config::REFUSED));
        let right = server.is_none() && is_ours == (self.refused > 0) && (is_ours || client.is_none());
        let seen = format!("{} changes, {} to be refused; {client:?} {server:?}", self.made, self.refused);
        let changed = row("changes are taken, and the wrong one refused", right, seen);
        self.made += 1;
        pair.client().ads.push([config::routes(self.made)], ANSWER)?;
        let answer = watch::get(pair.address, "/change")?;
        let is_last = answer.ends_with(&format!("change {}", self.made));
        let seen = answer.lines().last().unwrap_or_default().to_owned();
        Ok(vec![changed, row("the last change is served", is_last, seen)])
    }
}
