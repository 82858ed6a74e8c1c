//! `ferromesh analyze`: a folder, file or standard input, read as the controller reads it.

use std::io::Read;

use anyhow::{Context, anyhow};
use ferromesh_controller::analyze::{self, Finding};
use ferromesh_controller::index::{Index, Kind, Problem, Severity, View};
use ferromesh_controller::source::{Folder, FolderOptions, Source};
use ferromesh_controller::translate::Translator;
use serde_json::json;

use crate::Exit;
use crate::args::Analyze;
use crate::failure::Failure;
use crate::output::{self, Colour};

/// Shows what is wrong; fails if anything is an error.
///
/// # Errors
/// If the input cannot be read.
pub async fn run(args: &Analyze) -> Result<Exit, Failure> {
    super::check_namespace(Some(&args.namespace))?;
    let view = read(args).await.map_err(Failure::usage)?;
    let findings = analyze::analyze(&view, &Translator::new().facts(&view));
    let mut problems = view.problems.as_ref().clone();
    if args.folder.as_os_str() == "-" {
        // The file that it was kept in is nobody's business.
        problems.iter_mut().for_each(|problem| problem.file = "(standard input)".into());
    }
    let problems = problems.as_slice();
    if problems.is_empty() && Kind::ALL.iter().all(|kind| view.objects(*kind).is_empty()) {
        return Err(Failure::usage(anyhow!("-f {}: holds no object to look at", args.folder.display())));
    }
    let value = json!({ "findings": findings, "problems": problems });
    output::value(args.output, &value, |_| shown(&findings, problems)).map_err(Failure::usage)?;
    let wrong = findings.iter().any(|finding| finding.severity == Severity::Error)
        || problems.iter().any(|problem| problem.severity == Severity::Error);
    Ok(if wrong { Exit::Failed } else { Exit::Ok })
}

async fn read(args: &Analyze) -> anyhow::Result<View> {
    let stdin;
    let path = if args.folder.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        stdin = tempfile::Builder::new().prefix("stdin-").suffix(".yaml").tempfile()?;
        std::fs::write(stdin.path(), text)?;
        stdin.path().to_owned()
    } else {
        args.folder.clone()
    };
    let options = FolderOptions {
        default_namespace: args.namespace.clone(),
        namespace_by_folder: true,
        ..FolderOptions::default()
    };
    let source = Box::new(Folder::new(path, options)?);
    let (events, mut received) = tokio::sync::mpsc::channel(256);
    let reading = tokio::spawn(source.run(events));
    let mut index = Index::new(Default::default());
    loop {
        let event = received.recv().await.ok_or_else(|| anyhow!("the folder could not be read"))?;
        if index.apply([event]).synced > 0 {
            break;
        }
    }
    reading.abort();
    Ok(index.view().clone())
}

fn shown(findings: &[Finding], problems: &[Problem]) -> String {
    if findings.is_empty() && problems.is_empty() {
        return format!("{} nothing found\n", output::paint("ok", Colour::Green));
    }
    let mut shown = String::new();
    for problem in problems {
        shown.push_str(&output::wrapped(&problem.to_string(), "    "));
        shown.push('\n');
    }
    for finding in findings {
        let colour = match finding.severity {
            Severity::Error => Colour::Red,
            Severity::Warning => Colour::Yellow,
            Severity::Info => Colour::Grey,
        };
        let severity = output::paint(&finding.severity.to_string(), colour);
        let what = format!("{severity} [{}] {}: {}", finding.code, finding.object, finding.message);
        shown.push_str(&output::wrapped(&what, "    "));
        shown.push('\n');
        if !finding.remedy.is_empty() {
            shown.push_str(&format!("    {}\n", output::wrapped(&format!("-> {}", finding.remedy), "       ")));
        }
    }
    shown
}
