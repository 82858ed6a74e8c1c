//! What keeps traffic going: discovery, balancing, health, breakers, changes of configuration, drains, logs; each
//! through a running proxy, with real peers.

#[path = "support/dns.rs"]
mod dns_server;
#[path = "support/hosts.rs"]
mod hosts;
#[path = "support/peers.rs"]
mod peers;
#[path = "support/proxies.rs"]
mod proxies;

#[path = "resilience/balance.rs"]
mod balance;
#[path = "resilience/breakers.rs"]
mod breakers;
#[path = "resilience/dns.rs"]
mod dns;
#[path = "resilience/health.rs"]
mod health;
#[path = "resilience/outliers.rs"]
mod outliers;
