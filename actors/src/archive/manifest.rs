//! The manifest of a turn: the finals to compose, and the parts of each.

use serde::{Deserialize, Serialize};

use super::{Compression, FinalName, Incarnation, LineFormat, ManifestName, PartName, Window};
use crate::port::{ObjectInfo, ObjectRef};

/// How much a manifest takes at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A final is closed before it grows over this; a part larger than this makes one alone.
    pub final_bytes: u64,
    /// Greatest number of parts in one manifest. Further parts go into the next turn.
    pub parts: usize,
}

impl Limits {
    /// A final is as large as tools still load in one piece, and a manifest, at some 150 bytes for
    /// each part, as large as a part.
    pub const DEFAULT: Self = Self { final_bytes: 1 << 30, parts: 32 * 32 * 32 };
}

/// One part in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The part's name.
    pub name: String,
    /// The version that is meant.
    pub generation: i64,
    /// Its size in bytes.
    pub size: u64,
    /// Its CRC-32C.
    pub crc32c: u32,
}

impl Source {
    /// What to name when composing or deleting it.
    #[must_use]
    pub fn object(&self) -> ObjectRef {
        ObjectRef { name: self.name.clone(), generation: self.generation }
    }

    /// How many lines it has, if its name holds it.
    fn lines(&self) -> Option<u64> {
        self.name.parse::<PartName>().ok()?.lines
    }
}

/// One final object, and the parts it is composed of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {
    /// The final's name.
    pub name: String,
    /// Its size once composed, in bytes.
    pub size: u64,
    /// Its CRC-32C once composed, combined from those of its parts.
    pub crc32c: u32,
    /// How many lines it has; `None` if the name of one of its parts does not hold its lines.
    #[serde(default)]
    pub lines: Option<u64>,
    /// Its parts, in their order.
    pub parts: Vec<Source>,
}

impl Final {
    /// Returns whether `info` is this final, by size and checksum.
    pub(super) fn is(&self, info: &ObjectInfo) -> bool {
        info.name == self.name
            && info.size == self.size
            && info.crc32c.is_none_or(|crc32c| crc32c == self.crc32c)
    }
}

/// One turn of sealing: which parts of an incarnation become which finals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The window.
    pub window: Window,
    /// Whose parts.
    pub incarnation: Incarnation,
    /// Which manifest of this incarnation, from 0.
    pub turn: u32,
    /// The line format of parts and finals. Manifests of older versions have no such field: their
    /// parts have no format mark in their names.
    #[serde(default)]
    pub format: LineFormat,
    /// How parts and finals are compressed.
    pub compression: Compression,
    /// The finals, in the order of their names. Every part is in one of them.
    pub finals: Vec<Final>,
}

impl Manifest {
    /// Spreads `parts`, in their order, over as few finals as `final_bytes` allows.
    pub(super) fn plan(
        name: ManifestName,
        (format, compression): (LineFormat, Compression),
        parts: Vec<Source>,
        final_bytes: u64,
    ) -> Self {
        let mut finals: Vec<Final> = Vec::new();
        for part in parts {
            match finals.last_mut() {
                Some(open) if open.size + part.size <= final_bytes => open.add(part),
                _ => finals.push(Final::of(part)),
            }
        }
        let count = to_u32(finals.len());
        for (index, planned) in finals.iter_mut().enumerate() {
            let (manifest, index) = (name.clone(), to_u32(index));
            planned.name = FinalName { manifest, index, count, format, compression }.to_string();
        }
        let ManifestName { window, incarnation, turn } = name;
        Self { window, incarnation, turn, format, compression, finals }
    }

    /// Returns the name of its object.
    #[must_use]
    pub fn name(&self) -> ManifestName {
        let Self { window, incarnation, turn, .. } = self;
        ManifestName { window: *window, incarnation: incarnation.clone(), turn: *turn }
    }
}

impl Final {
    fn of(part: Source) -> Self {
        let (size, crc32c, lines) = (part.size, part.crc32c, part.lines());
        Self { name: String::new(), size, crc32c, lines, parts: vec![part] }
    }

    fn add(&mut self, part: Source) {
        self.size += part.size;
        let length = usize::try_from(part.size).unwrap_or(usize::MAX);
        self.crc32c = crc32c::crc32c_combine(self.crc32c, part.crc32c, length);
        self.lines = self.lines.zip(part.lines()).map(|(lines, more)| lines + more);
        self.parts.push(part);
    }
}

/// A manifest in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The contents.
    pub manifest: Manifest,
    /// The exact version of its object.
    pub object: ObjectRef,
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u32, body: &[u8]) -> Source {
        let name = format!("parts/20260217T143000Z/k3f09x1m2z7q-{number:06}-{}.jsonl", number + 1);
        let (size, crc32c) = (body.len() as u64, crc32c::crc32c(body));
        Source { name, generation: 1, size, crc32c }
    }

    fn plan(bodies: &[&[u8]], final_bytes: u64) -> Manifest {
        let name = ManifestName {
            window: "20260217T143000Z".parse().unwrap(),
            incarnation: "k3f09x1m2z7q".parse().unwrap(),
            turn: 0,
        };
        let parts = (0..).zip(bodies).map(|(number, body)| part(number, body)).collect();
        Manifest::plan(name, (LineFormat::Annotated, Compression::None), parts, final_bytes)
    }

    #[test]
    fn a_final_is_closed_before_it_grows_over_its_limit() {
        let manifest = plan(&[b"aa", b"bb", b"c", b"dddddd", b"e"], 5);
        let sizes: Vec<_> = manifest.finals.iter().map(|planned| planned.size).collect();
        assert_eq!(sizes, [5, 6, 1]);
        assert!(manifest.finals[2].name.ends_with("-0-00002-of-00003.annotated.jsonl"));
    }

    #[test]
    fn a_final_has_the_lines_of_its_parts_if_all_names_hold_them() {
        let mut manifest = plan(&[b"a", b"b", b"c", b"d"], 2);
        let lines = |manifest: &Manifest| -> Vec<_> {
            manifest.finals.iter().map(|planned| planned.lines).collect()
        };
        assert_eq!(lines(&manifest), [Some(3), Some(7)]);
        let mut parts: Vec<_> =
            manifest.finals.drain(..).flat_map(|planned| planned.parts).collect();
        parts[1].name = "parts/20260217T143000Z/k3f09x1m2z7q-000001.jsonl".to_owned();
        let form = (LineFormat::Payload, Compression::None);
        assert_eq!(lines(&Manifest::plan(manifest.name(), form, parts, 2)), [None, Some(7)]);
    }

    #[test]
    fn a_manifest_without_format_and_lines_is_one_of_payloads() {
        let mut json = serde_json::to_value(plan(&[b"one\n"], 4)).unwrap();
        json.as_object_mut().unwrap().remove("format").unwrap();
        json["finals"][0].as_object_mut().unwrap().remove("lines").unwrap();
        let manifest: Manifest = serde_json::from_value(json).unwrap();
        assert_eq!((manifest.format, manifest.finals[0].lines), (LineFormat::Payload, None));
    }

    #[test]
    fn the_expected_checksum_is_that_of_the_joined_parts() {
        let manifest = plan(&[b"one\n", b"two\n", b"three\n"], 100);
        assert_eq!(manifest.finals[0].crc32c, crc32c::crc32c(b"one\ntwo\nthree\n"));
    }

    #[test]
    fn a_manifest_is_read_back_from_its_json() {
        let manifest = plan(&[b"one\n", b"two\n"], 4);
        let json = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(serde_json::from_slice::<Manifest>(&json).unwrap(), manifest);
    }
}
