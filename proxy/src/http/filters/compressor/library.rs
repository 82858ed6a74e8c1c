//! The compressors' libraries: what their messages say, and streams of bytes through them.

use std::io::Write;

use brotli::enc::BrotliEncoderParams;
use brotli::enc::backward_references::BrotliEncoderMode;
use ferromesh_proto::envoy::config::core::v3::TypedExtensionConfig;
use ferromesh_proto::envoy::extensions::compression::brotli::compressor::v3 as brotli_proto;
use ferromesh_proto::envoy::extensions::compression::gzip::compressor::v3 as gzip_proto;
use ferromesh_proto::envoy::extensions::compression::zstd::compressor::v3 as zstd_proto;
use ferromesh_proto::json;
use flate2::{Compress, Compression, FlushCompress, Status};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::config::{At, ConfigError, required, unpack};

/// A configured library.
#[derive(Debug, Clone, Copy)]
pub(super) enum Library {
    /// Level and window.
    Gzip(Compression, u8),
    /// Quality, window and mode, and whether literals have no contexts.
    Brotli { quality: u32, window: u32, mode: brotli_proto::brotli::EncoderMode, plain: bool },
    /// It has one level.
    Zstd,
}

impl Library {
    /// Decodes `compressor_library`.
    ///
    /// # Errors
    /// Names the library that is not implemented, or the field that is out of its bounds.
    pub(super) fn decode(message: &TypedExtensionConfig) -> Result<Self, ConfigError> {
        let any = required(message.typed_config.as_ref(), "typed_config")?;
        let any =
            json::resolve_typed_struct(any).map_err(|error| ConfigError::new("typed_config", error.to_string()))?;
        let decoded = match any.type_name() {
            "envoy.extensions.compression.gzip.compressor.v3.Gzip" => unpack(&any).and_then(|gzip| Self::gzip(&gzip)),
            "envoy.extensions.compression.brotli.compressor.v3.Brotli" => {
                unpack(&any).and_then(|brotli| Self::brotli(&brotli))
            }
            "envoy.extensions.compression.zstd.compressor.v3.Zstd" => {
                unpack::<zstd_proto::Zstd>(&any).map(|_| Self::Zstd)
            }
            _ => Err(ConfigError::new("", format!("compressor library {:?} is not implemented", any.type_url))),
        };
        decoded.at("typed_config")
    }

    fn gzip(message: &gzip_proto::Gzip) -> Result<Self, ConfigError> {
        let window = within(message.window_bits, "window_bits", 9, 15)?.unwrap_or(12);
        let level = match message.compression_level {
            0 => Compression::default(),
            level @ 1..=9 => Compression::new(level.unsigned_abs()),
            _ => return Err(ConfigError::new("compression_level", "must be one of its names")),
        };
        Ok(Self::Gzip(level, u8::try_from(window).unwrap_or(12)))
    }

    fn brotli(message: &brotli_proto::Brotli) -> Result<Self, ConfigError> {
        Ok(Self::Brotli {
            quality: within(message.quality, "quality", 0, 11)?.unwrap_or(3),
            window: within(message.window_bits, "window_bits", 10, 24)?.unwrap_or(18),
            mode: brotli_proto::brotli::EncoderMode::try_from(message.encoder_mode)
                .map_err(|_| ConfigError::new("encoder_mode", "must be one of its names"))?,
            plain: message.disable_literal_context_modeling,
        })
    }

    /// The content coding.
    pub(super) fn encoding(&self) -> &'static str {
        match self {
            Self::Gzip(..) => "gzip",
            Self::Brotli { .. } => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Its part of metrics' names.
    pub(super) fn stat_name(&self) -> &'static str {
        match self {
            Self::Gzip(..) => "gzip",
            Self::Brotli { .. } => "brotli",
            Self::Zstd => "zstd",
        }
    }

    /// An encoder for one body.
    pub(super) fn encoder(&self) -> Encoder {
        match *self {
            Self::Gzip(level, window) => Encoder::Gzip(Box::new(Compress::new_gzip(level, window))),
            Self::Brotli { quality, window, mode, plain } => {
                use brotli_proto::brotli::EncoderMode;
                let params = BrotliEncoderParams {
                    quality: quality.cast_signed(),
                    lgwin: window.cast_signed(),
                    mode: match mode {
                        EncoderMode::Default | EncoderMode::Generic => BrotliEncoderMode::BROTLI_MODE_GENERIC,
                        EncoderMode::Text => BrotliEncoderMode::BROTLI_MODE_TEXT,
                        EncoderMode::Font => BrotliEncoderMode::BROTLI_MODE_FONT,
                    },
                    disable_literal_context_modeling: i32::from(plain),
                    ..BrotliEncoderParams::default()
                };
                Encoder::Brotli(Box::new(brotli::CompressorWriter::with_params(Vec::new(), BUFFER, &params)))
            }
            Self::Zstd => Encoder::Zstd,
        }
    }
}

fn within(value: Option<u32>, field: &str, least: u32, most: u32) -> Result<Option<u32>, ConfigError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(ConfigError::new(field, format!("must be from {least} to {most}")))
        }
        value => Ok(value),
    }
}

/// Bytes by which output grows.
const BUFFER: usize = 4096;

/// One body's way through a library.
pub(super) enum Encoder {
    Gzip(Box<Compress>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// Each piece is a frame of its own; frames that follow each other are one body (RFC 8878, 3).
    Zstd,
}

impl Encoder {
    /// Compresses a piece, all of which comes out.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<u8>, std::io::Error> {
        match self {
            Self::Gzip(compress) => deflate(compress, piece, FlushCompress::Sync),
            Self::Brotli(writer) => {
                writer.write_all(piece)?;
                writer.flush()?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Zstd => Ok(compress_to_vec(piece, CompressionLevel::Fastest)),
        }
    }

    /// Compresses the last piece (may be empty), and ends.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn finish(mut self, piece: &[u8]) -> Result<Vec<u8>, std::io::Error> {
        match &mut self {
            Self::Gzip(compress) => return deflate(compress, piece, FlushCompress::Finish),
            Self::Brotli(writer) => writer.write_all(piece)?,
            // An empty body is one empty frame, which is no harm after others.
            Self::Zstd => return Ok(compress_to_vec(piece, CompressionLevel::Fastest)),
        }
        let Self::Brotli(writer) = self else { return Ok(Vec::new()) };
        Ok(writer.into_inner())
    }
}

fn deflate(compress: &mut Compress, piece: &[u8], flush: FlushCompress) -> Result<Vec<u8>, std::io::Error> {
    let (mut out, begun) = (Vec::with_capacity(piece.len() / 4 + 64), compress.total_in());
    loop {
        let done = usize::try_from(compress.total_in() - begun).unwrap_or(usize::MAX);
        let rest = piece.get(done..).unwrap_or_default();
        let status = compress.compress_vec(rest, &mut out, flush)?;
        let has_room = out.len() < out.capacity();
        let is_taken = compress.total_in() - begun == piece.len() as u64;
        match flush {
            FlushCompress::Finish if status == Status::StreamEnd => return Ok(out),
            FlushCompress::Finish => {}
            _ if is_taken && has_room => return Ok(out),
            _ => {}
        }
        out.reserve(BUFFER);
    }
}
