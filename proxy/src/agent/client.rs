//! What a pod's hooks run in the proxy's image, which has no shell: `request` (preStop) and `wait` (postStart).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

/// Bytes of an answer, at most.
const ANSWER: u64 = 1 << 20;

/// Sends a request to the proxy of this pod: request --debug-port=15020 POST drain.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    /// Port: 15000 is the admin's, 15020 the status port.
    #[arg(long, default_value_t = 15000)]
    pub debug_port: u16,
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
}

/// Waits until the proxy of this pod is ready.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Longest time, in seconds.
    #[arg(long = "timeoutSeconds", visible_alias = "timeout-seconds", default_value_t = 60)]
    pub timeout_seconds: u64,
    /// Time between tries, in milliseconds.
    #[arg(long = "periodMillis", visible_alias = "period-millis", default_value_t = 500)]
    pub period_millis: u64,
    /// Longest time of one try, in milliseconds.
    #[arg(long = "requestTimeoutMillis", visible_alias = "request-timeout-millis", default_value_t = 500)]
    pub request_timeout_millis: u64,
    /// Where readiness is asked for.
    #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
    pub url: String,
}

/// Sends the request and prints the answer.
pub fn request(args: &RequestArgs) -> ExitCode {
    let path = format!("/{}", args.path.trim_start_matches('/'));
    match call(args.debug_port, &args.method.to_ascii_uppercase(), &path, Duration::from_secs(10)) {
        Ok((status, body)) => {
            print!("{body}");
            if (200..300).contains(&status) { ExitCode::SUCCESS } else { fail(&format!("{path}: {status}")) }
        }
        Err(error) => fail(&format!("127.0.0.1:{}: {error}", args.debug_port)),
    }
}

/// Waits.
pub fn wait(args: &WaitArgs) -> ExitCode {
    let rest = args.url.strip_prefix("http://localhost").or_else(|| args.url.strip_prefix("http://127.0.0.1"));
    let parts = rest.and_then(|rest| rest.strip_prefix(':')).and_then(|rest| rest.split_once('/'));
    let Some((port, path)) = parts.and_then(|(port, path)| Some((port.parse::<u16>().ok()?, format!("/{path}"))))
    else {
        return fail(&format!("--url {:?} is not http://localhost:<port>/<path>", args.url));
    };
    let timeout = Duration::from_millis(args.request_timeout_millis.max(1));
    let until = Instant::now() + Duration::from_secs(args.timeout_seconds);
    loop {
        let last = match call(port, "GET", &path, timeout) {
            Ok((200, _)) => return ExitCode::SUCCESS,
            Ok((status, body)) => format!("{status} {}", body.trim()),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return fail(&format!("not ready in {} s: {last}", args.timeout_seconds));
        }
        std::thread::sleep(Duration::from_millis(args.period_millis.max(1)));
    }
}

/// One exchange over HTTP/1.0, whose answers end with their connection.
fn call(port: u16, method: &str, path: &str, timeout: Duration) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
}

fn fail(why: &str) -> ExitCode {
    eprintln!("ferromesh-proxy: {why}");
    ExitCode::FAILURE
}
