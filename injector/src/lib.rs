//! ferromesh-injector
