//! The bodies of this crate's fuzz targets (`fuzz/` runs them under libFuzzer, the test below over the same corpus).

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

pub use crate::serve::fuzz::discovery_request;
pub use crate::source::fuzz::objects;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn discovery_request() {
        replay("discovery_request", super::discovery_request);
    }

    #[test]
    fn objects() {
        replay("objects", super::objects);
    }
}
