//! Every protocol that the proxy carries, with real peers, through one proxy and through a pair with mTLS between them.

#[path = "support/config.rs"]
mod config;
#[path = "support/echo.rs"]
mod echo;
#[path = "support/frames.rs"]
mod frames;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/pki.rs"]
mod pki;
#[path = "support/wire.rs"]
mod wire;

#[path = "protocols/causes.rs"]
mod causes;
#[path = "protocols/floods.rs"]
mod floods;
#[path = "protocols/grpc.rs"]
mod grpc;
#[path = "protocols/hostile.rs"]
mod hostile;
#[path = "protocols/http1.rs"]
mod http1;
#[path = "protocols/http2.rs"]
mod http2;
#[path = "protocols/listeners.rs"]
mod listeners;
#[path = "protocols/redirects.rs"]
mod redirects;
#[path = "protocols/slow.rs"]
mod slow;
#[path = "protocols/sockets.rs"]
mod sockets;
#[path = "protocols/tcp.rs"]
mod tcp;
#[path = "protocols/tcp_metrics.rs"]
mod tcp_metrics;
#[path = "protocols/timeouts.rs"]
mod timeouts;
#[path = "protocols/upstream_tls.rs"]
mod upstream_tls;
#[path = "protocols/websocket.rs"]
mod websocket;
