//! ferromesh-proxy
