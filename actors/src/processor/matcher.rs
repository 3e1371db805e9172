//! Which processors take an event, by its type.

/// The pattern that takes what nothing else took.
pub(super) const REST: &str = "*";

/// Sends event types to processors, which go by their index.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Each processor's prefixes.
    prefixes: Vec<Vec<String>>,
    /// Processors that take the types without a matching prefix.
    rest: Vec<usize>,
}

impl Matcher {
    /// A matcher over each processor's patterns, in the processors' order.
    pub fn new<'a>(processors: impl IntoIterator<Item = &'a [String]>) -> Self {
        let mut matcher = Self::default();
        for (index, patterns) in processors.into_iter().enumerate() {
            if patterns.iter().any(|pattern| pattern == REST) {
                matcher.rest.push(index);
            }
            matcher
                .prefixes
                .push(patterns.iter().filter(|pattern| *pattern != REST).cloned().collect());
        }
        matcher
    }

    /// Puts into `ways` the processors that take this type, in ascending order; none where nothing
    /// does. Case counts.
    ///
    /// Costs a comparison for each prefix, however many types there are.
    pub fn ways(&self, event_type: &str, ways: &mut Vec<usize>) {
        ways.clear();
        let takes = |prefixes: &[String]| prefixes.iter().any(|one| event_type.starts_with(one));
        ways.extend((0..self.prefixes.len()).filter(|&index| takes(&self.prefixes[index])));
        if ways.is_empty() {
            ways.extend_from_slice(&self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(processors: &[&[&str]], event_type: &str) -> Vec<usize> {
        let patterns: Vec<Vec<String>> =
            processors.iter().map(|all| all.iter().map(ToString::to_string).collect()).collect();
        let mut ways = vec![99];
        Matcher::new(patterns.iter().map(Vec::as_slice)).ways(event_type, &mut ways);
        ways
    }

    #[test]
    fn a_type_goes_to_every_processor_with_a_prefix_of_it() {
        let processors: &[&[&str]] =
            &[&["order."], &["user.", "order.placed"], &["*"], &["order.", "order.p"]];
        assert_eq!(ways(processors, "order.placed"), [0, 1, 3]);
        assert_eq!(ways(processors, "order.cancelled"), [0, 3]);
        assert_eq!(ways(processors, "user.created"), [1]);
    }

    #[test]
    fn the_rest_goes_to_the_star_and_without_one_nowhere() {
        let processors: &[&[&str]] = &[&["order."], &["*"], &["user.", "*"]];
        for unknown in ["Order.placed", "order", "zzz", "*"] {
            assert_eq!(ways(processors, unknown), [1, 2], "{unknown}");
        }
        assert_eq!(ways(processors, "user.created"), [2]);
        assert!(ways(&[&["order."]], "user.created").is_empty());
    }
}
