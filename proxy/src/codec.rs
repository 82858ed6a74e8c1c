//! The codecs of HTTP, for both sides: bytes of a connection to heads and bodies, and the reverse.
//!
//! Who serves requests with them is in `http`, who sends requests in `upstream`.

pub mod h1;
pub mod h2;
