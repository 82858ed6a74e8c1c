//! Bodies through the filter, and what is refused of its configuration.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use ferromesh_proto::Any;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::library::Library;
use super::{build, weaken};
use crate::body::{Body, BodyError, BodySource, Frame};
use crate::context::{Context, Local};
use crate::http::filters::{Build, HttpFilter};
use crate::http::serve::tests::stream;
use crate::message::{RequestHead, ResponseHead};

const E: &str = "type.googleapis.com/envoy.extensions";

fn filter(library: &str, more: &str) -> Result<Arc<dyn HttpFilter>, String> {
    let text = format!(
        "{{'@type': {E}.filters.http.compressor.v3.Compressor, compressor_library: {{name: l, typed_config: \
         {{'@type': {E}.compression.{library}}}}}{more}}}"
    );
    let config: Any = ferromesh_proto::json::from_yaml(&text).map_err(|error| error.to_string())?;
    crate::supported::check(&config).map_err(|error| error.to_string())?;
    let context = Context::new(Local::new(Default::default()));
    build(&Build { config: &config, name: "c", stat_prefix: "t", context: &context }).map_err(|error| error.to_string())
}

/// Frames that are there at once.
struct Frames(std::vec::IntoIter<Frame>);

impl BodySource for Frames {
    fn poll_frame(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        std::task::Poll::Ready(self.0.next().map(Ok))
    }
}

/// What comes out of a filter for a body: its head, each piece, and trailers.
async fn answered(
    filter: &dyn HttpFilter,
    accepts: &'static str,
    body: Body,
) -> (HeaderMap, Vec<Bytes>, Option<HeaderMap>) {
    let mut request = RequestHead { method: Method::GET, ..crate::route::table::tests::head("a.test", "/") };
    request.headers.insert("accept-encoding", HeaderValue::from_static(accepts));
    let (mut stream, mut body) = (stream("", request), body);
    filter.on_request(&mut stream, &mut Body::Empty);
    let mut head = ResponseHead { status: StatusCode::OK, headers: HeaderMap::new(), upgrade: None, names: None };
    if let Some(length) = body.remaining() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    filter.on_response(&mut stream, &mut head, &mut body);
    let (mut pieces, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.expect("a frame") {
            Frame::Data(data) => pieces.push(data),
            Frame::Trailers(map) => trailers = Some(map),
        }
    }
    (head.headers, pieces, trailers)
}

fn plain(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match encoding {
        "gzip" => flate2::bufread::MultiGzDecoder::new(bytes).read_to_end(&mut out),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out),
        _ => {
            let mut rest = bytes;
            while !rest.is_empty() {
                let mut frame = ruzstd::decoding::StreamingDecoder::new(&mut rest).expect("a frame");
                frame.read_to_end(&mut out).expect("all of it");
            }
            Ok(0)
        }
    }
    .expect("decodes");
    out
}

const LIBRARIES: [(&str, &str); 3] =
    [("gzip", "gzip.compressor.v3.Gzip"), ("br", "brotli.compressor.v3.Brotli"), ("zstd", "zstd.compressor.v3.Zstd")];

#[tokio::test]
async fn what_comes_out_is_what_went_in_whole_or_in_pieces_with_its_trailers() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    for (encoding, library) in LIBRARIES {
        let filter = filter(library, "").expect("a filter");
        let (head, pieces, _) = answered(&*filter, encoding, Body::Full(text.clone().into())).await;
        assert_eq!(head.get(CONTENT_ENCODING).map(HeaderValue::as_bytes), Some(encoding.as_bytes()));
        assert!(!head.contains_key(CONTENT_LENGTH));
        assert!(pieces.len() > 1, "{encoding}: a long body goes piece by piece");
        assert_eq!(plain(encoding, &pieces.concat()), text, "{encoding}");

        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", HeaderValue::from_static("1"));
        let mut frames: Vec<Frame> =
            text.chunks(70_001).map(|chunk| Frame::Data(Bytes::copy_from_slice(chunk))).collect();
        frames.push(Frame::Trailers(trailers.clone()));
        let (_, pieces, found) = answered(&*filter, encoding, Body::new(Frames(frames.into_iter()))).await;
        assert_eq!(plain(encoding, &pieces.concat()), text, "{encoding} with trailers");
        assert_eq!(found, Some(trailers));

        let (_, pieces, _) = answered(&*filter, encoding, Body::new(Frames(Vec::new().into_iter()))).await;
        assert!(!pieces.concat().is_empty() && plain(encoding, &pieces.concat()).is_empty(), "{encoding} of nothing");
    }
}

#[tokio::test]
async fn each_piece_can_be_read_before_the_next_one_comes() {
    for (encoding, library) in LIBRARIES {
        let mut encoder = match filter(library, "") {
            Ok(_) => Library::decode(&library_message(library)).expect("a library").encoder(),
            Err(error) => panic!("{error}"),
        };
        let out = encoder.push(b"the first event\n\n").expect("compressed");
        let mut read = vec![0; 17];
        let mut decoder: Box<dyn Read> = match encoding {
            "gzip" => Box::new(flate2::read::GzDecoder::new(out.as_slice())),
            "br" => Box::new(brotli::Decompressor::new(out.as_slice(), 4096)),
            _ => Box::new(ruzstd::decoding::StreamingDecoder::new(out.as_slice()).expect("a frame")),
        };
        decoder.read_exact(&mut read).expect("all of the piece");
        assert_eq!(read, b"the first event\n\n", "{encoding}");
    }
}

fn library_message(library: &str) -> ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig {
    ferromesh_proto::json::from_yaml(&format!("{{name: l, typed_config: {{'@type': {E}.compression.{library}}}}}"))
        .expect("good YAML")
}

#[test]
fn what_is_out_of_its_bounds_or_has_no_library_is_refused_by_name() {
    let codes = |codes: &str| format!(", response_direction_config: {{uncompressible_response_codes: [{codes}]}}");
    let gzip = "gzip.compressor.v3.Gzip";
    let cases: &[(&str, &str, &str)] = &[
        ("gzip.compressor.v3.Gzip, window_bits: 16", "", "window_bits: must be at most 15"),
        ("gzip.compressor.v3.Gzip, compression_strategy: RLE", "", "compression_strategy"),
        ("zstd.compressor.v3.Zstd, compression_level: 9", "", "compression_level"),
        ("brotli.compressor.v3.Brotli, quality: 12", "", "quality: must be at most 11"),
        (gzip, &codes("99"), "uncompressible_response_codes[0]"),
        (gzip, &codes("404, 404"), "there twice"),
    ];
    for (library, more, named) in cases {
        let error = filter(library, more).err().unwrap_or_else(|| panic!("{library}{more} is taken"));
        assert!(error.contains(named), "{library}{more}: {error}");
    }
}

#[test]
fn a_strong_entity_tag_goes_or_becomes_weak() {
    for (tag, kept, weak) in [("\"a\"", None, "W/\"a\""), ("W/\"a\"", Some("W/\"a\""), "W/\"a\"")] {
        for (weakens, expected) in [(false, kept), (true, Some(weak))] {
            let mut headers = HeaderMap::new();
            headers.insert("etag", HeaderValue::from_str(tag).expect("a value"));
            weaken(&mut headers, weakens);
            assert_eq!(headers.get("etag").and_then(|value| value.to_str().ok()), expected, "{tag} {weakens}");
        }
    }
}
