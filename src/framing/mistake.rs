//! Mistakes of framing, with a way out for each.

use std::fmt;
use std::io;

use super::{Format, check_json};

/// Why a text holds no events as it is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// It is UTF-16 or UTF-32.
    WideText,
    /// It is compressed, and neither header nor file name announces it.
    Compressed(&'static str),
    /// No line is a JSON object; the whole is an array, an object over several lines, or neither.
    NoObject(Option<Format>),
    /// A document that is no JSON.
    NotJson(String),
    /// A document that is JSON, and no object.
    NotAnObject,
    /// No array, or one that ends early, or more than one.
    NoArray(&'static str),
    /// An element, by its number, that is no JSON.
    Element(u64, String),
}

/// How the text reached kappa, and so how to put it right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    Http,
    CommandLine,
}

impl Mistake {
    /// The mistake in a text of which no event is a JSON object.
    pub(super) fn of_text(format: Format, text: &[u8]) -> Self {
        match (format, text.trim_ascii_start().first()) {
            (Format::Document, _) => Self::NotAnObject,
            (Format::Array, _) => Self::NoObject(None),
            (Format::Lines, Some(b'[')) if check_json(text).is_ok() => {
                Self::NoObject(Some(Format::Array))
            }
            (Format::Lines, Some(b'{')) if check_json(text).is_ok() => {
                Self::NoObject(Some(Format::Document))
            }
            (Format::Lines, _) => Self::NoObject(None),
        }
    }

    /// The mistake in the first lines of a text, none of which is a JSON object.
    pub(crate) fn of_lines(text: &[u8]) -> Self {
        match text.trim_ascii() {
            b"[" => Self::NoObject(Some(Format::Array)),
            b"{" => Self::NoObject(Some(Format::Document)),
            _ => Self::of_text(Format::Lines, text),
        }
    }

    /// The mistake behind an error of a reader.
    pub(crate) fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What to do about it.
    pub(crate) fn hint(&self, means: Means) -> String {
        let http = means == Means::Http;
        match self {
            Self::WideText => "convert it, as in `iconv -f UTF-16 -t UTF-8 FILE`".to_owned(),
            Self::Compressed(with) => format!("send the header \"Content-Encoding: {with}\""),
            Self::NoObject(Some(_)) if http => {
                "send the header \"Content-Type: application/json\"".to_owned()
            }
            Self::NoObject(Some(Format::Array)) => "use --format array".to_owned(),
            Self::NoObject(Some(_)) => {
                "use --format document, or `jq -c . FILE` for many documents".to_owned()
            }
            Self::NoObject(None) => "an event is a JSON object; `jq -c . FILE` puts each JSON \
                                     document of a file on a line of its own"
                .to_owned(),
            Self::NotAnObject => "an event is a JSON object; events may also be the elements of \
                                  an array"
                .to_owned(),
            Self::NotJson(_) | Self::NoArray(_) | Self::Element(..) if http => {
                "application/json is one document or one array; send one event a line as \
                 application/x-ndjson"
                    .to_owned()
            }
            Self::NotJson(_) | Self::NoArray(_) | Self::Element(..) => {
                "mend the text, or use --format lines for one event a line".to_owned()
            }
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WideText => f.write_str("the text is UTF-16 or UTF-32, and must be UTF-8"),
            Self::Compressed(with) => write!(f, "the text is compressed with {with}"),
            Self::NoObject(Some(Format::Array)) => {
                f.write_str("the text is one JSON array, not one event a line")
            }
            Self::NoObject(Some(_)) => f.write_str(
                "the text is one JSON document over several lines, not one event a line",
            ),
            Self::NoObject(None) => f.write_str("the text holds no JSON object, so no event"),
            Self::NotJson(why) => write!(f, "the document is not JSON: {why}"),
            Self::NotAnObject => f.write_str("the document is no JSON object, so no event"),
            Self::NoArray(why) => write!(f, "the text is no JSON array: {why}"),
            Self::Element(number, why) => write!(f, "element {number} is not JSON: {why}"),
        }
    }
}

impl std::error::Error for Mistake {}

impl From<Mistake> for io::Error {
    fn from(mistake: Mistake) -> Self {
        Self::new(io::ErrorKind::InvalidData, mistake)
    }
}

/// The mistake behind an error of text in memory, which has no errors of its own.
impl From<io::Error> for Mistake {
    fn from(error: io::Error) -> Self {
        Self::behind(&error).cloned().unwrap_or_else(|| Self::NotJson(error.to_string()))
    }
}
