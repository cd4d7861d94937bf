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

/// The runs of three letters of a text's words, in lower case, beginnings and ends of words marked: each once, packed into a number,
/// ascending. A word of one letter is one run.
pub fn trigrams(text: &str) -> Vec<u64> {
    let mut all = Vec::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let (mut before, mut last) = (0, u64::from('^'));
        let mut add = |letter: char| {
            if before != 0 {
                all.push(before << 42 | last << 21 | u64::from(letter));
            }
            (before, last) = (last, u64::from(letter));
        };
        for letter in word.chars() {
            // Most letters are, and need no table.
            if letter.is_ascii() { add(letter.to_ascii_lowercase()) } else { letter.to_lowercase().for_each(&mut add) }
        }
        add('$');
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// How much two ascending sets have in common, 0 to 1 (Dice).
pub fn dice_of_sorted(a: &[u64], b: &[u64]) -> f64 {
    let (mut rest, mut n_common) = (b, 0usize);
    for item in a {
        let smaller = rest.partition_point(|other| other < item);
        rest = &rest[smaller..];
        n_common += usize::from(rest.first() == Some(item));
    }
    if a.is_empty() || b.is_empty() { 0.0 } else { 2.0 * n_common as f64 / (a.len() + b.len()) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_compared_in_runs_of_three() {
        assert_eq!(trigrams("Nurse, a").len(), "^nu nur urs rse se$ ^a$".split(' ').count());
        assert_eq!(dice_of_sorted(&trigrams("NURSE"), &trigrams("nurse nurse")), 1.0);
        // ^nu nur urs rse se$ and ^nu nur urs rse ses es$: four are the same.
        assert_eq!(dice_of_sorted(&trigrams("nurse"), &trigrams("nurses")), 8.0 / 11.0);
        assert_eq!(dice_of_sorted(&trigrams("nurse"), &trigrams("")), 0.0);
    }

    #[test]
    fn words_are_compared_without_case_and_filler() {
        assert_eq!(words("The C++ / SQL of a  Nurse"), BTreeSet::from(["c++", "nurse", "sql"].map(String::from)));
        assert_eq!(words("Patients, classes and buses; glass"), BTreeSet::from(["patient", "classe", "buse", "glass"].map(String::from)));
        assert!(word_hashes("night nurses").contains(&word_hash("nurse")));
        assert_eq!(dice(&words("registered nurse"), &words("Nurse, night shift")), 0.4);
        assert_eq!(dice(&words(""), &words("nurse")), 0.0);
    }
}
