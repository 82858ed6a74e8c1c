//! `ferromesh check`.

use serde_json::json;

use crate::Exit;
use crate::args::Check as CheckArgs;
use crate::check::{self, Check, Level};
use crate::failure::Failure;
use crate::output::{self, Colour};

/// Shows what was checked; fails if the mesh cannot work.
///
/// # Errors
/// If the cluster cannot be reached.
pub async fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    super::check_namespace(Some(&args.namespace))?;
    let cluster = args.cluster.connect().await.map_err(Failure::unreachable)?;
    let checks = check::run(&cluster, &args.namespace).await.map_err(Failure::unreachable)?;
    output::value(args.output, &json!(checks), |_| shown(&checks)).map_err(Failure::usage)?;
    Ok(if checks.iter().any(|check| check.level == Level::Error) { Exit::Failed } else { Exit::Ok })
}

/// A line each; what is not good with its remedy.
pub(super) fn shown(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.what.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for check in checks {
        let (word, colour) = match check.level {
            Level::Good => ("ok", Colour::Green),
            Level::Warning => ("warning", Colour::Yellow),
            Level::Error => ("error", Colour::Red),
        };
        let mark = output::paint(&format!("{word:<7}"), colour);
        let indent = " ".repeat(width + 11);
        text.push_str(&format!("{mark}  {:<width$}  {}\n", check.what, output::wrapped(&check.seen, &indent)));
        if !check.remedy.is_empty() {
            // Commands are not broken into lines: they are there to be copied.
            text.push_str(&format!("{indent}-> {}\n", check.remedy));
        }
    }
    text
}
