//! Builds a list of conditions.

use ferromesh_api::{Condition, Time};

/// Conditions of one object, in order.
pub(super) struct Set<'a> {
    generation: Option<i64>,
    now: &'a Time,
    previous: &'a [Condition],
    conditions: Vec<Condition>,
}

impl<'a> Set<'a> {
    pub(super) fn new(generation: Option<i64>, now: &'a Time, previous: &'a [Condition]) -> Self {
        Self { generation, now, previous, conditions: Vec::new() }
    }

    /// Adds a condition. Its time is that of the last change of its `status`.
    pub(super) fn add(&mut self, type_: &str, status: bool, reason: &str, message: impl Into<String>) {
        let status = if status { "True" } else { "False" };
        let same = self.previous.iter().find(|old| old.type_ == type_ && old.status == status);
        self.conditions.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.into(),
            observed_generation: self.generation,
            last_transition_time: same.map_or_else(|| self.now.clone(), |old| old.last_transition_time.clone()),
        });
    }

    pub(super) fn done(self) -> Vec<Condition> {
        self.conditions
    }
}
