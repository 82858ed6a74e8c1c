//! The chart that this program was built with.

use std::path::Path;

use anyhow::Context;

/// Name in the chart's folder, and content.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/chart.rs"));

/// Writes the chart into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    for (name, content) in FILES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, content))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_in_the_program_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for name in ["Chart.yaml", "values.yaml", "values.schema.json", "templates/_helpers.tpl", "files/crds.yaml"] {
            let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/ferromesh").join(name);
            assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), std::fs::read(own).unwrap(), "{name}");
        }
        assert!(!folder.path().join("ci").exists());
    }
}
