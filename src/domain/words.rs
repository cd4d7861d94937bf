//! Words made comparable: lower case, letters and digits, singular, without the ones that say nothing.

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
        .map(singular)
        .collect()
}

/// `patients` and `patient` are one word; `class`, `bus` and `C++` stay.
fn singular(mut word: String) -> String {
    if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us") && !word.ends_with("is") {
        word.pop();
    }
    word
}

/// The words of a text as sorted hashes: enough to ask whether a word stands in it, at four bytes each.
pub fn word_hashes(text: &str) -> Vec<u32> {
    let mut hashes: Vec<u32> = words(text).iter().map(|word| word_hash(word)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// Of one word, as [`words`] gives it. It is stored, so it must never change.
pub fn word_hash(word: &str) -> u32 {
    crc32fast::hash(word.as_bytes())
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
        assert_eq!(words("Patients, classes and buses; glass"), BTreeSet::from(["patient", "classe", "buse", "glass"].map(String::from)));
        assert!(word_hashes("night nurses").contains(&word_hash("nurse")));
        assert_eq!(dice(&words("registered nurse"), &words("Nurse, night shift")), 0.4);
        assert_eq!(dice(&words(""), &words("nurse")), 0.0);
    }
}
