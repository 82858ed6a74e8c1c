//! ferromesh-controller
