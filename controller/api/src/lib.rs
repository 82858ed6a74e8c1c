//! ferromesh-api
