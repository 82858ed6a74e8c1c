//! ferromesh-core
