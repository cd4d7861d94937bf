//! Words made comparable: lower case, letters and digits, singular, without the ones that say nothing.

use std::collections::BTreeSet;

/// Words too common to tell one title or skill from another.
const STOP_WORDS: [&str; 24] = [
    "a", "an", "and", "as", "at", "be", "by", "for", "from", "i", "in", "is", "of", "on", "or", "our", "that", "the", "this", "to", "we",
    "who", "with", "you",
];

/// Bytes of the longest of them: most words need not be looked for among them.
const LONGEST_STOP_WORD: usize = 4;

/// The words of a text. `C++` and `C#` keep their signs.
pub fn words(text: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    each_word(text, |word| {
        all.insert(word.to_owned());
    });
    all
}

fn each_word(text: &str, mut see: impl FnMut(&str)) {
    let mut word = String::new();
    for part in text.split(|c: char| !(c.is_alphanumeric() || c == '+' || c == '#')).filter(|part| !part.is_empty()) {
        word.clear();
        if part.is_ascii() {
            word.push_str(part);
            word.make_ascii_lowercase();
        } else {
            // As a whole: what some letters become depends on those around them.
            word.push_str(&part.to_lowercase());
        }
        if word.len() > LONGEST_STOP_WORD || !STOP_WORDS.contains(&word.as_str()) {
            see(singular(&word));
        }
    }
}

/// `patients` and `patient` are one word; `class`, `bus` and `C++` stay.
fn singular(word: &str) -> &str {
    let is_plural = word.len() > 3 && !["ss", "us", "is"].iter().any(|end| word.ends_with(end));
    word.strip_suffix('s').filter(|_| is_plural).unwrap_or(word)
}

/// The words of a text as sorted hashes: enough to ask whether a word stands in it, at four bytes each.
pub fn word_hashes(text: &str) -> Vec<u32> {
    let mut hashes = Vec::new();
    each_word(text, |word| hashes.push(word_hash(word)));
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// Whether sorted hashes have all words of a text, and it has any.
pub fn has_words(hashes: &[u32], text: &str) -> bool {
    let (mut has_any, mut has_all) = (false, true);
    each_word(text, |word| {
        has_any = true;
        has_all = has_all && hashes.binary_search(&word_hash(word)).is_ok();
    });
    has_any && has_all
}

/// Of one word, as [`words`] gives it. It is stored, so it must never change.
pub fn word_hash(word: &str) -> u32 {
    crc32fast::hash(word.as_bytes())
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
pub fn dice<T: Ord>(a: &[T], b: &[T]) -> f64 {
    if a.is_empty() || b.is_empty() { 0.0 } else { 2.0 * n_common(a, b) as f64 / (a.len() + b.len()) as f64 }
}

/// How many items two ascending sets have in common.
pub fn n_common<T: Ord>(a: &[T], b: &[T]) -> usize {
    let (mut rest, mut n) = (b, 0);
    for item in a {
        while let Some((first, behind)) = rest.split_first()
            && first <= item
        {
            n += usize::from(first == item);
            rest = behind;
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_compared_in_runs_of_three() {
        assert_eq!(trigrams("Nurse, a").len(), "^nu nur urs rse se$ ^a$".split(' ').count());
        assert_eq!(dice(&trigrams("NURSE"), &trigrams("nurse nurse")), 1.0);
        // ^nu nur urs rse se$ and ^nu nur urs rse ses es$: four are the same.
        assert_eq!(dice(&trigrams("nurse"), &trigrams("nurses")), 8.0 / 11.0);
        assert_eq!(dice(&trigrams("nurse"), &trigrams("")), 0.0);
    }

    #[test]
    fn words_are_compared_without_case_and_filler() {
        assert_eq!(words("The C++ / SQL of a  Nurse"), BTreeSet::from(["c++", "nurse", "sql"].map(String::from)));
        assert_eq!(words("Patients, classes and buses; glass"), BTreeSet::from(["patient", "classe", "buse", "glass"].map(String::from)));
        assert!(word_hashes("night nurses").contains(&word_hash("nurse")));
        assert!(STOP_WORDS.iter().all(|word| word.len() <= LONGEST_STOP_WORD));
        let text = word_hashes("SQL for the night nurse");
        assert!(has_words(&text, "Nurses, SQL") && !has_words(&text, "nurse SQL Rust") && !has_words(&text, "the"));
        assert_eq!(words("Straße ΟΔΟΣ"), BTreeSet::from(["straße", "οδος"].map(String::from)));
        assert_eq!(dice(&word_hashes("registered nurse"), &word_hashes("Nurse, night shift")), 0.4);
        assert_eq!(dice(&word_hashes(""), &word_hashes("nurse")), 0.0);
        assert_eq!((n_common(&[1, 3, 5, 9], &[2, 3, 4, 9]), n_common(&[1, 2], &[]), n_common(&[7], &[1, 7])), (2, 0, 1));
    }
}
