//! ferromesh-dashboard
