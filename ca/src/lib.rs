//! ferromesh-ca
