//! The process around a proxy: arguments in, exit code out; signals end it in order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ferromesh_core::args::{LogArgs, LogFormat};
use ferromesh_core::runtime::signals::Signals;
use ferromesh_core::telemetry;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::agent::{self, ProxyArgs};
use crate::app::{Options, Proxy, SetLogLevel};
use crate::args::{Args, Command};
use crate::bootstrap;
use crate::hot_restart::{self, Asked, Predecessor};
use crate::identity::{self, Pem, TokenSource};
use crate::tls::SecretStore;

/// The bootstrap cannot be used.
const BAD_BOOTSTRAP: u8 = 1;
/// Wrong arguments.
const BAD_ARGUMENTS: u8 = 2;
/// Could not run.
const FAILED: u8 = 3;

/// Runs the daemon to its end.
pub fn run(args: &Args) -> ExitCode {
    match &args.command {
        Some(Command::Wait(wait)) => return agent::wait(wait),
        Some(Command::Request(request)) => return agent::request(request),
        Some(Command::Proxy(_)) | None => {}
    }
    crate::linux::without_huge_pages();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &format!("no async runtime: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let log = log_args(args);
        let telemetry = match telemetry::init(&log, &args.otlp, "ferromesh-proxy") {
            Ok(telemetry) => telemetry,
            Err(error) => return fail(BAD_ARGUMENTS, &error.to_string()),
        };
        let log = telemetry.log().clone();
        let set_level = move |level: Option<&str>| {
            level.map_or(Ok(()), |level| log.set_level(level)).map_err(|error| error.to_string())?;
            Ok(log.level())
        };
        if let Some(Command::Proxy(pod)) = &args.command {
            let code = in_pod(pod, Arc::new(set_level)).await;
            telemetry.shutdown();
            return code;
        }
        let code = match (&args.sds_only, &args.config_path) {
            (Some(socket), None) => sds_only(args, socket).await,
            (Some(_), Some(_)) => fail(BAD_ARGUMENTS, "--sds-only runs no proxy: give it or -c FILE, not both"),
            (None, Some(path)) => proxy(args, path, Arc::new(set_level)).await,
            (None, None) => fail(BAD_ARGUMENTS, "-c FILE is missing"),
        };
        telemetry.shutdown();
        code
    })
}

/// In a pod the level of the log is said as pilot-agent says it.
fn log_args(args: &Args) -> LogArgs {
    match &args.command {
        Some(Command::Proxy(pod)) => {
            let log_format = if pod.log_as_json { LogFormat::Json } else { args.log.log_format };
            LogArgs { log_level: pod.log_level(), log_format }
        }
        _ => args.log.clone(),
    }
}

/// The proxy of a pod.
async fn in_pod(args: &ProxyArgs, set_log_level: SetLogLevel) -> ExitCode {
    match agent::run(args, Some(set_log_level)).await {
        Ok(code) => code,
        Err(error @ agent::AgentError::Variable { .. }) => fail(BAD_ARGUMENTS, &error.to_string()),
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

async fn proxy(args: &Args, path: &Path, set_log_level: SetLogLevel) -> ExitCode {
    let bootstrap = match bootstrap::load(path) {
        Ok(bootstrap) => bootstrap,
        Err(error) => return fail(BAD_BOOTSTRAP, &error.to_string()),
    };
    if args.validate {
        return match crate::app::validate(&bootstrap) {
            Ok(()) => {
                println!("configuration '{}' OK", path.display());
                ExitCode::SUCCESS
            }
            Err(error) => fail(BAD_BOOTSTRAP, &error.to_string()),
        };
    }
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &format!("signals: {error}")),
    };
    crate::linux::raise_descriptor_limit();
    let mut predecessor = match args.hot_restart_path.as_deref().map(Predecessor::find).transpose() {
        Ok(found) => found.flatten(),
        Err(error) => return fail(FAILED, &format!("hot restart: {error}")),
    };
    let inherited = predecessor.as_mut().map(|old| std::mem::take(&mut old.sockets)).unwrap_or_default();
    let drain_time = Duration::from_secs(args.drain_time_s);
    let options = Options {
        concurrency: args.workers(),
        identity: identity(args),
        set_log_level: Some(set_log_level),
        drain_time,
        restart: args.hot_restart_path.is_some().then(|| Arc::new(Mutex::new(inherited))),
        names: None,
    };
    let proxy = match Proxy::start(bootstrap, options) {
        Ok(proxy) => proxy,
        Err(error) => return fail(BAD_BOOTSTRAP, &error.to_string()),
    };
    if let (Some(path), Some(address)) = (&args.admin_address_path, proxy.admin_addr())
        && let Err(error) = std::fs::write(path, address.to_string())
    {
        return fail(FAILED, &format!("--admin-address-path {}: {error}", path.display()));
    }
    let (mut reopen, mut hang_up) = match (signal(SignalKind::user_defined1()), signal(SignalKind::hangup())) {
        (Ok(reopen), Ok(hang_up)) => (reopen, hang_up),
        (Err(error), _) | (_, Err(error)) => return fail(FAILED, &format!("signals: {error}")),
    };
    let (successors, mut asked) = mpsc::channel(1);
    let mut taking_over =
        std::pin::pin!(take_over(proxy.readiness(), predecessor, args.hot_restart_path.clone(), successors));
    let mut taken_over = args.hot_restart_path.is_none();
    loop {
        tokio::select! {
            () = proxy.ended() => return ExitCode::SUCCESS,
            result = &mut taking_over, if !taken_over => match result {
                Ok(()) => taken_over = true,
                Err(error) => return fail(FAILED, &format!("hot restart: {error}")),
            },
            Some(asked) = asked.recv() => proxy.restart(asked).await,
            _ = reopen.recv() => proxy.reopen_logs(),
            _ = hang_up.recv() => tracing::warn!("SIGHUP is ignored: configuration comes by xDS"),
            _ = signals.next() => break,
        }
    }
    proxy.drain();
    let logs = proxy.context().access_logs.clone();
    let ending = proxy.shutdown();
    tokio::pin!(ending);
    loop {
        tokio::select! {
            () = &mut ending => break,
            // Logs are written until the end.
            _ = reopen.recv() => logs.reopen(),
            _ = hang_up.recv() => {}
            _ = signals.next() => {
                tracing::warn!("second signal: ending without waiting for connections");
                break;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Once ready, lets the process before this one end, and waits for the next.
async fn take_over(
    mut ready: watch::Receiver<bool>,
    predecessor: Option<Predecessor>,
    path: Option<PathBuf>,
    successors: mpsc::Sender<Asked>,
) -> std::io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    if ready.wait_for(|ready| *ready).await.is_err() {
        // The proxy has ended first.
        return Ok(());
    }
    if let Some(predecessor) = predecessor {
        // It answers when it has stopped accepting; meanwhile nothing else may wait.
        let relieved = tokio::task::spawn_blocking(move || predecessor.relieve()).await;
        if let Ok(Err(error)) = relieved {
            tracing::warn!(%error, "the process before this one is gone");
        }
    }
    hot_restart::serve(&path, successors)
}

/// Keeps the workload's certificate fresh and serves it by SDS, until a signal.
async fn sds_only(args: &Args, socket: &Path) -> ExitCode {
    let Some(config) = identity(args) else {
        return fail(BAD_ARGUMENTS, "--sds-only needs --ca-address and --ca-root");
    };
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &format!("signals: {error}")),
    };
    let secrets = Arc::<SecretStore>::default();
    let renewal = identity::start(config, secrets.clone());
    let code = tokio::select! {
        served = identity::serve_sds(socket, secrets) => match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &format!("SDS socket {}: {error}", socket.display())),
        },
        _ = signals.next() => ExitCode::SUCCESS,
    };
    renewal.abort();
    code
}

/// Where the workload's certificate comes from, if the arguments name a CA.
fn identity(args: &Args) -> Option<identity::Config> {
    let (ca_address, root) = (args.ca_address.clone()?, args.ca_root.clone()?);
    Some(identity::Config {
        ca_address,
        ca_server_name: args.ca_server_name.clone(),
        ca_root: Pem::File(root),
        token: TokenSource::File(args.token_file.clone()),
        id: None,
        lifetime: None,
    })
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("ferromesh-proxy: {why}");
    ExitCode::from(code)
}
