//! What keeps traffic going: discovery, balancing, health, breakers, changes of configuration, drains, logs; each
//! through a running proxy, with real peers.

#[path = "support/ads.rs"]
mod ads;
#[path = "support/as_envoy.rs"]
mod as_envoy;
#[path = "support/dns.rs"]
mod dns_server;
#[path = "support/hosts.rs"]
mod hosts;
#[path = "support/load.rs"]
mod load;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/pki.rs"]
mod pki;
#[path = "support/plane.rs"]
mod plane;
#[path = "support/process.rs"]
mod process;
#[path = "support/proxies.rs"]
mod proxies;
#[path = "support/wire.rs"]
mod wire;

#[path = "resilience/admin.rs"]
mod admin;
#[path = "resilience/balance.rs"]
mod balance;
#[path = "resilience/breakers.rs"]
mod breakers;
#[path = "resilience/changes.rs"]
mod changes;
#[path = "resilience/dns.rs"]
mod dns;
#[path = "resilience/drains.rs"]
mod drains;
#[path = "resilience/failover.rs"]
mod failover;
#[path = "resilience/fetching.rs"]
mod fetching;
#[path = "resilience/gauges.rs"]
mod gauges;
#[path = "resilience/health.rs"]
mod health;
#[path = "resilience/key_usage.rs"]
mod key_usage;
#[path = "resilience/leaving.rs"]
mod leaving;
#[path = "resilience/logs.rs"]
mod logs;
#[path = "resilience/metrics.rs"]
mod metrics;
#[path = "resilience/original_dst.rs"]
mod original_dst;
#[path = "resilience/outliers.rs"]
mod outliers;
#[path = "resilience/overload.rs"]
mod overload;
#[path = "resilience/pools.rs"]
mod pools;
#[path = "resilience/restarts.rs"]
mod restarts;
#[path = "resilience/said_health.rs"]
mod said_health;
#[path = "resilience/service.rs"]
mod service;
#[path = "resilience/subsets.rs"]
mod subsets;
