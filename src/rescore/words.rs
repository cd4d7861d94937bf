//! Words made comparable: lower case, letters and digits, without the ones that say nothing.

use std::collections::BTreeSet;

/// Words too common to tell one title or skill from another.
const STOP_WORDS: [&str; 24] = [
    "a", "an", "and", "as", "at", "be", "by", "for", "from", "i", "in", "is", "of", "on", "or", "our", "that", "the", "this", "to", "we",
    "who", "with", "you",
];

/// The words of a text. `C++` and `C#` keep their signs.
pub fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '+' || c == '#'))
        .map(|word| word.to_lowercase())
        .filter(|word| !word.is_empty() && !STOP_WORDS.contains(&word.as_str()))
        .collect()
}

/// How much two sets of words have in common, 0 to 1 (Dice).
pub fn dice(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    2.0 * a.intersection(b).count() as f64 / (a.len() + b.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_without_case_and_filler() {
        assert_eq!(words("The C++ / SQL of a  Nurse"), BTreeSet::from(["c++", "nurse", "sql"].map(String::from)));
        assert_eq!(dice(&words("registered nurse"), &words("Nurse, night shift")), 0.4);
        assert_eq!(dice(&words(""), &words("nurse")), 0.0);
    }
}
