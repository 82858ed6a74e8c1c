//! ferromesh-cli
