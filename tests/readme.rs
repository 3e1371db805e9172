//! The README quotes texts of logs, status and commands: each is one that the code has.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

/// The sources below a folder, as one text.
fn sources(folder: &Path) -> String {
    let mut entries: Vec<_> = folder.read_dir().unwrap().map(|it| it.unwrap().path()).collect();
    entries.sort();
    let text = |path: &Path| match path.is_dir() {
        true => sources(path),
        false if path.extension().is_some_and(|it| it == "rs" || it == "toml") => {
            std::fs::read_to_string(path).unwrap()
        }
        false => String::new(),
    };
    entries.iter().map(|path| text(path)).collect()
}

/// The text with each space, line break and continuation as one space.
fn flat(text: &str) -> String {
    text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_text_quoted_in_the_chapter_for_faults_is_one_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, chapter) = readme.split_once("\n## When something is wrong\n").unwrap();
    let (chapter, _) = chapter.split_once("\n## ").unwrap();
    assert!(chapter.lines().count() <= 60, "{} lines", chapter.lines().count());
    let sources = ["src", "actors/src", "config"].map(|folder| flat(&sources(&root.join(folder))));
    let mut quoted = 0;
    for row in chapter.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cell = row.split(" | ").next().unwrap();
        // `…` replaces names and numbers.
        for text in cell.split('`').skip(1).step_by(2).flat_map(|span| span.split('…')) {
            let text = text.trim_matches([' ', ':', ',']);
            let is_there = text.is_empty() || sources.iter().any(|all| all.contains(text));
            assert!(is_there, "no source has {text:?}, quoted in {row}");
            quoted += usize::from(!text.is_empty());
        }
    }
    assert!(quoted > 25, "{quoted} texts");
}
