//! The names of the archive's objects.
//!
//! Parts, manifests and intermediates have folders of their own, so unfinished work is
//! found without listing the finals. A name that contains `.jsonl` belongs to a part or a final.
//! The mark in front of it names the format of the lines: `.annotated`, `.envelope`, or none for payloads.

use std::fmt;
use std::str::FromStr;

use super::{Compression, Incarnation, LineFormat, Window};

/// What all parts' names begin with.
pub(super) const PARTS: &str = "parts/";
/// What all manifests' names begin with.
pub(super) const MANIFESTS: &str = "manifests/";
/// What all intermediates' names begin with.
pub(super) const COMPOSING: &str = "composing/";
/// What all finals' names begin with.
pub(super) const EVENTS: &str = "events/";
/// What all indexes' names begin with. Finals and indexes do not share a folder, so that a folder
/// of finals that was lost is noticed.
pub(super) const INDEX: &str = "index/";

/// One part of a window: `parts/20260217T143000Z/k3f09x1m2z7q-000017-532.annotated.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartName {
    /// The window its lines belong to.
    pub window: Window,
    /// Who wrote it.
    pub incarnation: Incarnation,
    /// The writer's running number.
    pub number: u32,
    /// How many lines it has; `None` for a part of an older version, whose name does not hold it.
    pub lines: Option<u64>,
    /// What its lines hold.
    pub format: LineFormat,
    /// How it is compressed.
    pub compression: Compression,
}

/// One manifest: `manifests/20260217T143000Z/k3f09x1m2z7q-0.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestName {
    /// The window it belongs to.
    pub window: Window,
    /// Whose parts it lists.
    pub incarnation: Incarnation,
    /// Which manifest of this incarnation it is, from 0.
    pub turn: u32,
}

/// The index of a manifest's finals: `index/dt=2026-02-17/events-20260217T143000Z-k3f09x1m2z7q-0.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexName(pub ManifestName);

/// One final object:
/// `events/dt=2026-02-17/events-20260217T143000Z-k3f09x1m2z7q-0-00000-of-00002.annotated.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalName {
    /// The manifest it comes from.
    pub manifest: ManifestName,
    /// Its number within the manifest, from 0.
    pub index: u32,
    /// How many finals the manifest has.
    pub count: u32,
    /// What its lines hold.
    pub format: LineFormat,
    /// How it is compressed.
    pub compression: Compression,
}

/// The prefix of an incarnation's parts, manifests or intermediates.
pub(super) fn prefix_of(kind: &str, window: Window, incarnation: &Incarnation) -> String {
    format!("{kind}{window}/{incarnation}-")
}

/// The prefix of an incarnation's finals ([`EVENTS`]) or indexes ([`INDEX`]).
pub(super) fn prefix_by_day(kind: &str, window: Window, incarnation: &Incarnation) -> String {
    format!("{kind}dt={}/events-{window}-{incarnation}-", window.day())
}

/// The end of a part's or a final's name.
fn ending(format: LineFormat, compression: Compression) -> String {
    format!("{}.jsonl{}", format.mark(), compression.suffix())
}

/// Takes the end of a part's or a final's name off.
fn split_ending(name: &str) -> Option<(&str, LineFormat, Compression)> {
    let (stem, suffix) = name.split_once(".jsonl")?;
    let (stem, mark) = stem.split_at(stem.find('.').unwrap_or(stem.len()));
    Some((stem, LineFormat::from_mark(mark)?, Compression::from_suffix(suffix)?))
}

impl ManifestName {
    /// The prefix of its finals.
    pub(super) fn finals(&self) -> String {
        format!("{}{}-", prefix_by_day(EVENTS, self.window, &self.incarnation), self.turn)
    }

    /// The prefix of its intermediates.
    pub(super) fn intermediates(&self) -> String {
        format!("{}{}/", prefix_of(COMPOSING, self.window, &self.incarnation), self.turn)
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, incarnation, number, lines, format, compression } = self;
        write!(f, "{PARTS}{window}/{incarnation}-{number:06}")?;
        if let Some(lines) = lines {
            write!(f, "-{lines}")?;
        }
        f.write_str(&ending(*format, *compression))
    }
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, incarnation, turn } = self;
        write!(f, "{MANIFESTS}{window}/{incarnation}-{turn}.json")
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ManifestName { window, incarnation, turn }) = self;
        write!(f, "{}{turn}.json", prefix_by_day(INDEX, *window, incarnation))
    }
}

impl fmt::Display for FinalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { manifest, index, count, format, compression } = self;
        let ending = ending(*format, *compression);
        write!(f, "{}{index:05}-of-{count:05}{ending}", manifest.finals())
    }
}

/// The object is none of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of such an object")]
pub struct OtherName;

impl FromStr for PartName {
    type Err = OtherName;

    fn from_str(name: &str) -> Result<Self, OtherName> {
        let read = || {
            let (window, rest) = name.strip_prefix(PARTS)?.split_once('/')?;
            let (stem, format, compression) = split_ending(rest)?;
            let mut fields = stem.splitn(3, '-');
            Some(Self {
                window: window.parse().ok()?,
                incarnation: fields.next()?.parse().ok()?,
                number: fields.next()?.parse().ok()?,
                lines: fields.next().map(str::parse).transpose().ok()?,
                format,
                compression,
            })
        };
        exactly(name, read())
    }
}

impl FromStr for ManifestName {
    type Err = OtherName;

    fn from_str(name: &str) -> Result<Self, OtherName> {
        let read = || {
            let (window, rest) = name.strip_prefix(MANIFESTS)?.split_once('/')?;
            let (incarnation, turn) = rest.strip_suffix(".json")?.split_once('-')?;
            Some(Self {
                window: window.parse().ok()?,
                incarnation: incarnation.parse().ok()?,
                turn: turn.parse().ok()?,
            })
        };
        exactly(name, read())
    }
}

impl FromStr for IndexName {
    type Err = OtherName;

    fn from_str(name: &str) -> Result<Self, OtherName> {
        let read = || {
            let (_, rest) = name.strip_prefix(INDEX)?.split_once("/events-")?;
            let mut fields = rest.strip_suffix(".json")?.splitn(3, '-');
            Some(Self(ManifestName {
                window: fields.next()?.parse().ok()?,
                incarnation: fields.next()?.parse().ok()?,
                turn: fields.next()?.parse().ok()?,
            }))
        };
        exactly(name, read())
    }
}

impl FromStr for FinalName {
    type Err = OtherName;

    fn from_str(name: &str) -> Result<Self, OtherName> {
        let read = || {
            let (_, rest) = name.strip_prefix(EVENTS)?.split_once("/events-")?;
            let (stem, format, compression) = split_ending(rest)?;
            let mut fields = stem.splitn(6, '-');
            let manifest = ManifestName {
                window: fields.next()?.parse().ok()?,
                incarnation: fields.next()?.parse().ok()?,
                turn: fields.next()?.parse().ok()?,
            };
            let index = fields.next()?.parse().ok()?;
            let count = fields.nth(1)?.parse().ok()?;
            Some(Self { manifest, index, count, format, compression })
        };
        exactly(name, read())
    }
}

/// Accepts a parsed name only if it is formatted as the same text: no extra zeros, no day that does not exist.
fn exactly<N: fmt::Display>(name: &str, read: Option<N>) -> Result<N, OtherName> {
    read.filter(|parsed| parsed.to_string() == name).ok_or(OtherName)
}

/// Window and incarnation of a part, a manifest or an intermediate.
pub(super) fn owner(name: &str) -> Option<(Window, Incarnation)> {
    let rest = [PARTS, MANIFESTS, COMPOSING].iter().find_map(|kind| name.strip_prefix(kind))?;
    let (window, rest) = rest.split_once('/')?;
    let (incarnation, _) = rest.split_once('-')?;
    Some((window.parse().ok()?, incarnation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> ManifestName {
        ManifestName {
            window: "20260217T143000Z".parse().unwrap(),
            incarnation: "k3f09x1m2z7q".parse().unwrap(),
            turn: 3,
        }
    }

    #[test]
    fn names_are_written_as_documented_and_read_back() {
        let manifest = manifest();
        let index = IndexName(manifest.clone());
        let part = PartName {
            window: manifest.window,
            incarnation: manifest.incarnation.clone(),
            number: 17,
            lines: Some(532),
            format: LineFormat::Annotated,
            compression: Compression::Gzip,
        };
        let old = PartName {
            lines: None,
            format: LineFormat::Payload,
            compression: Compression::None,
            ..part.clone()
        };
        let last = FinalName {
            manifest: manifest.clone(),
            index: 1,
            count: 2,
            format: LineFormat::Envelope,
            compression: Compression::Zstd,
        };
        let names = [
            manifest.to_string(),
            part.to_string(),
            old.to_string(),
            last.to_string(),
            index.to_string(),
        ];
        assert_eq!(
            names,
            [
                "manifests/20260217T143000Z/k3f09x1m2z7q-3.json",
                "parts/20260217T143000Z/k3f09x1m2z7q-000017-532.annotated.jsonl.gz",
                "parts/20260217T143000Z/k3f09x1m2z7q-000017.jsonl",
                "events/dt=2026-02-17/events-20260217T143000Z-k3f09x1m2z7q-3-00001-of-00002.envelope.jsonl.zst",
                "index/dt=2026-02-17/events-20260217T143000Z-k3f09x1m2z7q-3.json",
            ]
        );
        assert_eq!(names[0].parse(), Ok(manifest));
        assert_eq!(names[1].parse(), Ok(part));
        assert_eq!(names[2].parse(), Ok(old));
        assert_eq!(names[3].parse(), Ok(last));
        assert_eq!(names[4].parse(), Ok(index));
    }

    #[test]
    fn foreign_objects_are_recognised() {
        assert!(
            "parts/20260217T143000Z/k3f09x1m2z7q-000017.jsonl.bz2".parse::<PartName>().is_err()
        );
        let other_format = "parts/20260217T143000Z/k3f09x1m2z7q-000017.avro.jsonl";
        assert!(other_format.parse::<PartName>().is_err());
        assert!("manifests/20260217T143000Z/k3f09x1m2z7q-03.json".parse::<ManifestName>().is_err());
        let other_day =
            "events/dt=2026-02-18/events-20260217T143000Z-k3f09x1m2z7q-3-00001-of-00002.jsonl";
        assert!(other_day.parse::<FinalName>().is_err());
        assert_eq!(owner("events/README"), None);
    }
}
