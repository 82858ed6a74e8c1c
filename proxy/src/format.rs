//! Envoy's command operators (`%REQ(X)%`, `%START_TIME%`, ...) for access logs and header rules.
