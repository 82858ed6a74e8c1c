//! `ferromesh-init`: see `ferromesh-init --help`.

use std::process::ExitCode;

use clap::Parser;
use ferromesh_redirect::args::Args;
use ferromesh_redirect::{RedirectError, apply, remove, rules, verify};

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last line of a failed container's log is what `kubectl describe pod` shows.
            eprintln!("ferromesh-init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), RedirectError> {
    let plan = args.plan();
    if args.dry_run {
        print!("{}", rules::text(&rules::chains(&plan)));
        return Ok(());
    }
    if args.cleanup {
        return remove();
    }
    if !args.skip_rule_apply {
        apply(&plan)?;
        println!("ferromesh-init: traffic of this pod is redirected ({})", plan.summary());
    }
    if args.run_validation || !args.skip_rule_apply {
        for line in verify::verify(&plan)? {
            println!("ferromesh-init: {line}");
        }
    }
    Ok(())
}
