//! The image that every node needs: the process that holds a pod's namespaces.

use std::path::PathBuf;

use anyhow::Context;

use super::daemons::PAUSE_IMAGE;
use super::layout::{Layout, Spec};
use crate::image::{Config, Content, Image};

/// Where it is, once [`write_pause`] has made it.
pub(super) fn pause_archive(layout: &Layout) -> PathBuf {
    layout.root().join("pause.tar")
}

/// Makes it.
///
/// # Errors
/// If the program is not built.
pub(super) fn write_pause(spec: &Spec, layout: &Layout) -> anyhow::Result<()> {
    let program = std::fs::read(spec.program("pause")?)?;
    let image = Image {
        name: PAUSE_IMAGE.into(),
        content: vec![Content::program("pause", program)],
        config: Config { entrypoint: vec!["/pause".into()], user: "65535:65535".into(), ..Config::default() },
    };
    let archive = pause_archive(layout);
    std::fs::write(&archive, image.archive()?).with_context(|| format!("writing {}", archive.display()))
}
