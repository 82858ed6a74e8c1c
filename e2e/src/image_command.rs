//! `ferromesh-e2e image …`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use crate::cluster::Cluster;
use crate::image::build::{self, Plan};
use crate::image::catalog::{IMAGES, VERSION};
use crate::progress::Progress;
use crate::tools;

/// What to do with images.
#[derive(Subcommand)]
pub enum ImageCommand {
    /// Build images from the workspace: static programs and nothing else, an archive and a bill of materials each.
    #[command(
        after_help = "Examples:\n  ferromesh-e2e image build                              all, as they are shipped\n  \
                      ferromesh-e2e image build --profile dev --load proxy     quickly, into the nodes of the cluster"
    )]
    Build {
        /// Only these: proxy, controller, ca, injector, cni, dashboard, demo.
        images: Vec<String>,
        /// Cargo's profile: dist is what is shipped; release and dev build faster.
        #[arg(long, default_value = "dist")]
        profile: String,
        /// Cargo's target folder for images.
        #[arg(long, env = "FERROMESH_IMAGE_TARGET", default_value = "target/image")]
        target_dir: PathBuf,
        /// Where the archives go.
        #[arg(long)]
        output: Option<PathBuf>,
        /// Tag of the images; the version beside it is always in their annotations.
        #[arg(long, default_value = "latest")]
        tag: String,
        /// Give them to the nodes of a cluster.
        #[arg(long)]
        load: bool,
        /// The cluster's name.
        #[arg(long, default_value = crate::cluster::command::DEFAULT_NAME)]
        name: String,
    },
    /// Which images there are.
    List,
}

/// Does it.
///
/// # Errors
/// With what to do about it.
pub fn run(command: ImageCommand) -> anyhow::Result<()> {
    match command {
        ImageCommand::List => {
            for image in IMAGES {
                println!(
                    "{:<12} {:<24} {VERSION}  user {:<12} {}",
                    image.short, image.repository, image.user, image.title
                );
            }
            Ok(())
        }
        ImageCommand::Build { images, profile, target_dir, output, tag, load, name } => {
            // A cluster that is not there should be known before the build.
            let cluster = load.then(|| Cluster::open(&name)).transpose()?;
            let output = match output {
                Some(folder) => folder,
                None => tools::cache()?.join("images").join(&profile),
            };
            let target = std::path::absolute(&target_dir).context("the target folder")?;
            let progress = Progress::to_stderr();
            let plan = Plan { only: images, profile, target, output, tag };
            let built = build::build(&plan, &progress)?;
            for image in &built {
                let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
                let (packed, unpacked) = (mib(image.packed), mib(image.unpacked));
                println!(
                    "{:<32} {packed:6.1} MiB, unpacked {unpacked:6.1} MiB  {}",
                    image.name,
                    image.archive.display()
                );
            }
            if let Some(cluster) = cluster {
                for image in &built {
                    progress.step(&format!("loading {}", image.name));
                    cluster.load_image(&image.archive)?;
                }
            }
            Ok(())
        }
    }
}
