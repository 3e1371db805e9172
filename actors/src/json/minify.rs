//! JSON without white space and without repeated keys; all else stays as it was written.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::unquote;

/// Members up to which comparing every pair of keys beats hashing them.
const FEW_MEMBERS: usize = 12;

/// Rewrites the valid JSON `raw` without white space; of a repeated key the last member stays.
/// Numbers and strings keep their spelling.
pub(crate) fn minify(raw: &str) -> String {
    let mut minifier = Minifier {
        out: String::with_capacity(raw.len()),
        members: Vec::new(),
        open: Vec::new(),
        key_next: false,
    };
    let mut at = 0;
    while let Some(&byte) = raw.as_bytes().get(at) {
        let end = token_end(raw.as_bytes(), at);
        if !byte.is_ascii_whitespace() {
            minifier.token(byte, &raw[at..end]);
        }
        at = end;
    }
    // Of much white space the result is to keep nothing.
    if minifier.out.capacity() / 2 > minifier.out.len() {
        minifier.out.shrink_to_fit();
    }
    minifier.out
}

/// The JSON text `raw` with each number that no double holds written as zero, in the same number of
/// bytes, so that places in one are places in the other; `None` where it has no such number.
///
/// Such numbers are JSON, and readers that make doubles of numbers refuse them.
pub(crate) fn without_huge_numbers(raw: &str) -> Option<String> {
    let mut out = String::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(&byte) = raw.as_bytes().get(at) {
        let end = token_end(raw.as_bytes(), at);
        if (byte == b'-' || byte.is_ascii_digit()) && is_huge(&raw[at..end]) {
            out.push_str(&raw[copied..at]);
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', end - at - 2));
            copied = end;
        }
        at = end;
    }
    (copied > 0).then(|| out + &raw[copied..])
}

/// Whether the token is a JSON number that no double holds: the shortest is `1e309`.
fn is_huge(token: &str) -> bool {
    token.len() >= 5
        && token.parse::<f64>().is_ok_and(f64::is_infinite)
        && serde_json::from_str::<&serde_json::value::RawValue>(token).is_ok()
}

/// Where the token that begins at `start` ends: a string, a number or word, or a single byte.
fn token_end(raw: &[u8], start: usize) -> usize {
    let rest = &raw[start + 1..];
    let more = match raw[start] {
        b'"' => string_len(rest),
        b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' => 0,
        _ => rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
            .count(),
    };
    start + 1 + more
}

/// How far it is to the end of the string that `rest` is inside of, its closing quote included.
fn string_len(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    rest.len()
}

struct Minifier<'a> {
    out: String,
    /// The members of all open objects.
    members: Vec<Member<'a>>,
    /// For each open object where its members begin; `None` for an open array.
    open: Vec<Option<usize>>,
    /// Whether a string would be a key.
    key_next: bool,
}

struct Member<'a> {
    key: Cow<'a, str>,
    /// Where it begins in the output.
    start: usize,
}

impl<'a> Minifier<'a> {
    /// Takes one token; `first` is its first byte.
    fn token(&mut self, first: u8, text: &'a str) {
        match first {
            b'{' => {
                self.open.push(Some(self.members.len()));
                self.key_next = true;
            }
            b'[' => {
                self.open.push(None);
                self.key_next = false;
            }
            b'}' | b']' => {
                if let Some(Some(first)) = self.open.pop() {
                    self.close_object(first);
                }
            }
            b',' => self.key_next = matches!(self.open.last(), Some(Some(_))),
            b':' => self.key_next = false,
            b'"' if self.key_next => {
                let key = unquote(text).unwrap_or(Cow::Borrowed(text));
                self.members.push(Member { key, start: self.out.len() });
            }
            _ => {}
        }
        if text.len() == 1 {
            self.out.push(char::from(first));
        } else {
            self.out.push_str(text);
        }
    }

    /// Drops the members whose key comes again.
    fn close_object(&mut self, first: usize) {
        let members = &self.members[first..];
        if has_repeats(members) {
            let last: HashMap<&str, usize> =
                members.iter().enumerate().map(|(at, member)| (&*member.key, at)).collect();
            let kept: Vec<&str> = (0..members.len())
                .filter(|&at| last.get(&*members[at].key) == Some(&at))
                .map(|at| &self.out[self.span(members, at)])
                .collect();
            let kept = kept.join(",");
            self.out.truncate(members[0].start);
            self.out.push_str(&kept);
        }
        self.members.truncate(first);
    }

    /// Returns the place of a member of the closing object in the output.
    fn span(&self, members: &[Member<'_>], at: usize) -> Range<usize> {
        // One comma separates two members.
        let end = members.get(at + 1).map_or(self.out.len(), |next| next.start - 1);
        members[at].start..end
    }
}

fn has_repeats(members: &[Member<'_>]) -> bool {
    if members.len() <= FEW_MEMBERS {
        return members
            .iter()
            .enumerate()
            .any(|(at, member)| members[..at].iter().any(|earlier| earlier.key == member.key));
    }
    let mut seen = HashSet::with_capacity(members.len());
    !members.iter().all(|member| seen.insert(&*member.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_and_spelling_stays() {
        for (raw, text) in [
            ("{ }", "{}"),
            ("[ 1.50 , 1E+2 ,\n12345678901234567890123 ]", "[1.50,1E+2,12345678901234567890123]"),
            (
                r#"{ "a b" : " \" x\\" , "c" : [ null , true ] }"#,
                r#"{"a b":" \" x\\","c":[null,true]}"#,
            ),
            (r#"" { \u00e9 ""#, r#"" { \u00e9 ""#),
            ("-0.0", "-0.0"),
        ] {
            assert_eq!(minify(raw), text, "{raw}");
        }
    }

    #[test]
    fn of_a_repeated_key_the_last_member_stays() {
        for (raw, text) in [
            (r#"{"a": 1, "a": 2}"#, r#"{"a":2}"#),
            (r#"{"a": {"x": 1}, "b": 2, "a": {"y": 3, "y": 4}}"#, r#"{"b":2,"a":{"y":4}}"#),
            (r#"{"a": 1, "\u0061": 2, "c": ["a", "a"]}"#, r#"{"\u0061":2,"c":["a","a"]}"#),
            (r#"[{"a": 1, "a": [{}]}, {"a": 3}]"#, r#"[{"a":[{}]},{"a":3}]"#),
        ] {
            assert_eq!(minify(raw), text, "{raw}");
        }
    }

    #[test]
    fn repeats_are_found_among_many_members() {
        let members: Vec<String> = (0..40).map(|n| format!(r#""k{}" : {n}"#, n % 30)).collect();
        let minified = minify(&format!("{{{}}}", members.join(" , ")));
        let read: HashMap<String, u32> = serde_json::from_str(&minified).unwrap();
        assert_eq!((read.len(), read["k3"], read["k29"]), (30, 33, 29));
        assert_eq!(minified.matches("\"k3\"").count(), 1);
    }
}
