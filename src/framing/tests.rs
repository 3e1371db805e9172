use proptest::prelude::*;

use super::*;

fn events(format: Format, text: &[u8], most: u64) -> io::Result<Vec<Line>> {
    let mut events = Events::new(format, text, most, 64);
    std::iter::from_fn(|| events.next().transpose()).collect()
}

fn payloads(format: Format, text: &str) -> Vec<String> {
    let shown = |line| match line {
        Line::Event { payload, .. } => String::from_utf8(payload.to_vec()).unwrap(),
        Line::TooLong { number } => format!("{number} is too long"),
    };
    events(format, text.as_bytes(), 20).unwrap().into_iter().map(shown).collect()
}

fn mistake(format: Format, text: &str) -> Mistake {
    survey(format, &Bytes::copy_from_slice(text.as_bytes()), 1_000, |_| ()).unwrap_err()
}

#[test]
fn a_document_is_one_event_as_it_is() {
    let text = "{\n  \"a\": [1,\n 2]\n}";
    assert_eq!(payloads(Format::Document, text), [text]);
    assert_eq!(payloads(Format::Document, " \n"), [""; 0]);
    assert_eq!(payloads(Format::Document, &"x".repeat(21)), ["1 is too long"]);
    for text in ["{} {}", "{\"a\":1}\n{\"a\":2}", "{\"a\":", "nonsense"] {
        let error = events(Format::Document, text.as_bytes(), 100).unwrap_err();
        assert!(matches!(Mistake::behind(&error), Some(Mistake::NotJson(_))), "{text}: {error}");
    }
}

#[test]
fn each_element_of_an_array_is_an_event_as_it_is() {
    for text in ["[]", " [ \n ] ", ""] {
        assert_eq!(payloads(Format::Array, text), [""; 0], "{text}");
    }
    let text = " [ {\"a\":\"],[}{\\\"\"} ,\n[1,[2]], 1e400,null ]\n";
    let elements = ["{\"a\":\"],[}{\\\"\"}", "[1,[2]]", "1e400", "null"];
    assert_eq!(payloads(Format::Array, text), elements);
    let long = format!("[{{}},\"{}\",{{}}]", "x".repeat(19));
    assert_eq!(payloads(Format::Array, &long), ["{}", "2 is too long", "{}"]);
}

#[test]
fn a_text_that_is_no_array_is_refused() {
    for text in ["{}", "[{}", "[{}] {}", "[{}][{}]"] {
        let error = events(Format::Array, text.as_bytes(), 100).unwrap_err();
        assert!(matches!(Mistake::behind(&error), Some(Mistake::NoArray(_))), "{text}: {error}");
    }
    for text in ["[,]", "[{},]", "[{} {}]", "[{a:1}]", "[{}}]", "[[}]", "[\"\\x\"]"] {
        let error = events(Format::Array, text.as_bytes(), 100).unwrap_err();
        assert!(matches!(Mistake::behind(&error), Some(Mistake::Element(..))), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn an_array_is_cut_as_a_json_parser_cuts_it(text in "[\\[\\]{},:\"\\\\a1 \n]{0,24}") {
        let text = format!("[{text}]");
        let cut = events(Format::Array, text.as_bytes(), 1_000);
        match serde_json::from_str::<Vec<Box<RawValue>>>(&text) {
            Ok(elements) => {
                let elements: Vec<_> = elements.iter().map(|raw| raw.get().to_owned()).collect();
                let cut: Vec<_> = cut.unwrap().into_iter().map(|line| match line {
                    Line::Event { payload, .. } => String::from_utf8(payload.to_vec()).unwrap(),
                    Line::TooLong { .. } => panic!("too long"),
                }).collect();
                prop_assert_eq!(cut, elements);
            }
            Err(_) => prop_assert!(cut.is_err(), "{} is no JSON", text),
        }
    }
}

#[test]
fn a_text_is_an_object_if_a_parser_takes_it_with_any_numbers() {
    for text in ["{}", " {\"a\":1e400}\r", "{\"a\":-123456789012345678901234567890.5E+999}"] {
        assert!(is_object(text.as_bytes()), "{text}");
    }
    for text in ["[]", "1", "{", "{}{}", "{\"a\":01}", "{'a':1}", "", "\u{feff}{}"] {
        assert!(!is_object(text.as_bytes()), "{text}");
    }
    assert!(!is_object(b"{\"a\":\"\xff\"}"), "no UTF-8");
}

#[test]
fn a_text_without_an_event_is_a_mistake_of_framing() {
    let pretty = serde_json::to_string_pretty(&serde_json::json!({ "a": 1, "b": [2] })).unwrap();
    let spread = Mistake::NoObject(Some(Format::Document));
    assert_eq!(mistake(Format::Lines, &pretty), spread);
    let array = Mistake::NoObject(Some(Format::Array));
    assert_eq!(mistake(Format::Lines, "[{\"a\":1}]"), array);
    assert_eq!(
        mistake(Format::Lines, "[\n{\"a\":1},\n{\"a\":2}\n]\n"),
        array,
        "one line is an object"
    );
    assert_eq!(mistake(Format::Lines, "nonsense\nmore"), Mistake::NoObject(None));
    assert_eq!(mistake(Format::Document, "12"), Mistake::NotAnObject);
    assert_eq!(mistake(Format::Array, "[1,2]"), Mistake::NoObject(None));
    for means in [Means::Http, Means::CommandLine] {
        assert!(!spread.hint(means).is_empty());
    }
}

#[test]
fn lines_beside_events_are_counted_and_reported() {
    let text = "{\"a\":1}\nnonsense\n\n[]\n{}\n";
    let mut reported = Vec::new();
    let found = survey(Format::Lines, &Bytes::from(text), 1_000, |line| match line {
        Line::Event { number, .. } | Line::TooLong { number } => reported.push(*number),
    });
    assert_eq!(found.unwrap(), Survey { events: 4, no_objects: 2, too_long: 0 });
    assert_eq!(reported, [2, 4]);
}

fn sniffed(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    Sniffed::new(io::Cursor::new(text.to_vec())).read_to_end(&mut read).map(|_| read)
}

#[test]
fn compressed_texts_are_read_and_marks_are_left_out() {
    use kappa_actors::archive::Compression::{Gzip, Zstd};
    for text in [&b"{\"a\":1}\n{}"[..], b"", b"{", b"{}"] {
        assert_eq!(sniffed(text).unwrap(), text);
        let marked = [b"\xef\xbb\xbf", text].concat();
        assert_eq!(sniffed(&marked).unwrap(), text);
        for compression in [Gzip, Zstd] {
            let twice = [compression.encode(marked.clone()), compression.encode(b"\n{}".to_vec())];
            let twice = twice.map(Result::unwrap).concat();
            assert_eq!(sniffed(&twice).unwrap(), [text, b"\n{}"].concat(), "{compression:?}");
            sniffed(&twice[..twice.len() - 3]).unwrap_err();
        }
    }
}

#[test]
fn wide_texts_are_refused_compressed_or_not() {
    use kappa_actors::archive::Compression::Gzip;
    for wide in
        [b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}", &b"{\0}\0"[..], b"\0{\0}", b"\xff\xfe\0\0{\0\0\0"]
    {
        for text in [wide.to_vec(), Gzip.encode(wide.to_vec()).unwrap()] {
            let error = sniffed(&text).unwrap_err();
            assert_eq!(Mistake::behind(&error), Some(&Mistake::WideText), "{wide:?}");
        }
        assert_eq!(check_start(wide), Err(Mistake::WideText));
    }
    let compressed = Gzip.encode(b"{}".to_vec()).unwrap();
    assert_eq!(check_start(&compressed), Err(Mistake::Compressed("gzip")));
}

#[test]
fn a_hint_names_what_mends_it() {
    let hints =
        |mistake: &Mistake| [Means::Http, Means::CommandLine].map(|means| mistake.hint(means));
    let [http, here] = hints(&Mistake::NoObject(Some(Format::Array)));
    assert!(http.contains("application/json") && here.contains("--format array"), "{http} {here}");
    let [http, here] = hints(&Mistake::WideText);
    assert!(http.contains("iconv") && here.contains("iconv"), "{http} {here}");
}
