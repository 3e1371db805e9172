//! Files to import: local ones, or objects of a bucket, named by patterns.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use kappa_actors::archive::{FinalName, PartName};
use kappa_actors::port::{ArchiveStore, ByteStream, StoreError};
use kappa_actors::replay::{FileSource, ImportFile};
use tokio::io::AsyncReadExt as _;

use super::ReplayError;
use crate::settings::Settings;

/// What names of objects in a bucket begin with.
const BUCKET: &str = "gs://";
/// Bytes of a local file that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Makes local paths in `patterns` absolute, so that a replay can be resumed in another folder.
pub(super) fn absolute(patterns: &[String]) -> anyhow::Result<Vec<String>> {
    let here = std::env::current_dir()?;
    let absolute = |pattern: &String| {
        if pattern.starts_with(BUCKET) || Path::new(pattern).is_absolute() {
            return pattern.clone();
        }
        let here = glob::Pattern::escape(&here.to_string_lossy());
        format!("{here}/{pattern}")
    };
    Ok(patterns.iter().map(absolute).collect())
}

/// Where the files are read, and all that match the patterns, each once.
pub(super) async fn find(
    settings: &Settings,
    patterns: &[String],
) -> Result<(Arc<dyn FileSource>, Vec<ImportFile>), ReplayError> {
    let mut files: Vec<ImportFile> = Vec::new();
    let mut source = Files { buckets: Vec::new() };
    for pattern in patterns {
        let found = match pattern.strip_prefix(BUCKET) {
            Some(rest) => in_bucket(settings, rest, &mut source).await?,
            None => local(pattern)?,
        };
        if found.is_empty() {
            return Err(ReplayError::refused(
                format!("no file matches {pattern}"),
                "quote the pattern, and check it with `ls`",
            ));
        }
        files.extend(found);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup();
    files.iter().try_for_each(check_foreign)?;
    Ok((Arc::new(source), files))
}

/// An object of kappa's own archive has positions that an import would lose.
fn check_foreign(file: &ImportFile) -> Result<(), ReplayError> {
    let mut tail = file.name.rsplit('/');
    let name = tail.next().unwrap_or_default();
    let folder = tail.next().unwrap_or_default();
    let is_own = format!("events/{folder}/{name}").parse::<FinalName>().is_ok()
        || format!("parts/{folder}/{name}").parse::<PartName>().is_ok();
    if !is_own {
        return Ok(());
    }
    Err(ReplayError::refused(
        format!(
            "{} is a file of kappa's own archive: an import would lose its positions",
            file.name
        ),
        "use --source archive with the data folder or bucket of that archive",
    ))
}

fn local(pattern: &str) -> Result<Vec<ImportFile>, ReplayError> {
    let paths = glob::glob(pattern).map_err(|error| {
        ReplayError::refused(format!("{pattern}: {error}"), "use *, ?, ** and [a-z]")
    })?;
    let mut files = Vec::new();
    for path in paths {
        let path: PathBuf = path.map_err(anyhow::Error::from)?;
        let about = std::fs::metadata(&path)
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        if about.is_file() {
            files.push(ImportFile { name: path.display().to_string(), size: about.len() });
        }
    }
    Ok(files)
}

#[cfg(feature = "gcp")]
async fn in_bucket(
    settings: &Settings,
    rest: &str,
    source: &mut Files,
) -> Result<Vec<ImportFile>, ReplayError> {
    use crate::backend::gcs::{GcsArchive, GcsOptions};
    let Some((bucket, pattern)) = rest.split_once('/') else {
        return Err(ReplayError::refused(
            format!("{BUCKET}{rest} names no object"),
            "use gs://BUCKET/PATTERN",
        ));
    };
    let matcher = glob::Pattern::new(pattern).map_err(|error| {
        ReplayError::refused(format!("{pattern}: {error}"), "use *, ?, ** and [a-z]")
    })?;
    let options = crate::wiring::cloud::gcs_options(settings)?;
    let options = GcsOptions { bucket: bucket.to_owned(), prefix: String::new(), ..options };
    let store: Arc<dyn ArchiveStore> =
        Arc::new(GcsArchive::connect(options).await.map_err(anyhow::Error::from)?);
    let fixed = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let listed = store.list(&pattern[..fixed]).await.map_err(anyhow::Error::from)?;
    // As in a shell: * does not cross a folder.
    let exact = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let found = listed.into_iter().filter(|object| matcher.matches_with(&object.name, exact));
    let prefix = format!("{BUCKET}{bucket}/");
    let files = found
        .map(|object| ImportFile { name: format!("{prefix}{}", object.name), size: object.size })
        .collect();
    source.buckets.push((prefix, store));
    Ok(files)
}

#[cfg(not(feature = "gcp"))]
async fn in_bucket(
    _: &Settings,
    rest: &str,
    _: &mut Files,
) -> Result<Vec<ImportFile>, ReplayError> {
    let reason = format!("{BUCKET}{rest}: this build has no Cloud Storage");
    Err(ReplayError::refused(reason, "copy the files to this machine"))
}

/// Local files, and buckets by the prefix of their files' names.
struct Files {
    buckets: Vec<(String, Arc<dyn ArchiveStore>)>,
}

#[async_trait]
impl FileSource for Files {
    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        for (prefix, store) in &self.buckets {
            if let Some(object) = name.strip_prefix(prefix) {
                return store.read(object).await;
            }
        }
        let refused = |error: std::io::Error| StoreError::Refused(error.to_string());
        let file = tokio::fs::File::open(name).await.map_err(refused)?;
        let chunks = futures::stream::try_unfold(file, |mut file| async move {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = file.read(&mut chunk).await;
            let read = read.map_err(|error| StoreError::Refused(error.to_string()))?;
            chunk.truncate(read);
            Ok((read > 0).then(|| (Bytes::from(chunk), file)))
        });
        Ok(chunks.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> ImportFile {
        ImportFile { name: name.to_owned(), size: 1 }
    }

    #[test]
    fn files_of_kappas_own_archive_are_refused_under_any_folder() {
        let own =
            "events/dt=2026-02-17/events-20260217T143000Z-k3f09x1m2z7q-0-00000-of-00002.jsonl";
        let part = "parts/20260217T143000Z/k3f09x1m2z7q-000017.jsonl";
        for name in [own, part] {
            let refused = check_foreign(&file(&format!("/copy/of/{name}"))).unwrap_err();
            assert!(refused.to_string().contains("kappa's own archive"), "{refused}");
        }
        check_foreign(&file("/data/events-2026-01-01.jsonl")).unwrap();
    }

    #[test]
    fn a_pattern_without_a_match_is_an_error_and_folders_do_not_match() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a.jsonl")).unwrap();
        std::fs::write(dir.path().join("b.jsonl"), "x").unwrap();
        let found = local(&format!("{}/*.jsonl", dir.path().display())).unwrap();
        assert_eq!(found.len(), 1);
        assert!(local(&format!("{}/*.json", dir.path().display())).unwrap().is_empty());
    }
}
