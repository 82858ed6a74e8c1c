//! ferromesh-e2e
