//! Cuts texts into phrases: lines, sentences, and parts of long sentences.
//!
//! All of it is one pass: every loop moves forward, and looks ahead by at most [`MAX_CHARS`] characters or to the end of a
//! run of white space that it has not looked at before. The tests count the steps.

use std::collections::HashSet;
use std::iter;
use std::ops::Range;

/// Most words of a phrase. Longer sentences are cut, at commas where possible.
const MAX_WORDS: usize = 16;
/// Most characters of a phrase, for scripts that write no blanks between words.
const MAX_CHARS: usize = 160;

/// Iterates over the distinct phrases of a text, in their order. Each is trimmed, contains a letter or a digit, and has at
/// most 16 words and 160 characters. O(bytes of the text) for all of them; takes no more of the text than the caller asks for.
pub fn phrases(text: &str) -> impl Iterator<Item = &str> {
    let mut seen = HashSet::new();
    let sentences = pieces(text, 0..text.len(), ends_sentence);
    let parts = sentences.flat_map(|sentence| match is_short(&text[sentence.clone()]) {
        true => vec![sentence],
        false => parts_of_long(text, sentence),
    });
    let phrases = parts.map(|range| &text[range]).filter(|phrase| phrase.chars().any(char::is_alphanumeric));
    phrases.filter(move |phrase| seen.insert(*phrase))
}

/// Cuts a long sentence at its clauses, then by length.
fn parts_of_long(text: &str, sentence: Range<usize>) -> Vec<Range<usize>> {
    let clauses = pieces(text, sentence, ends_clause);
    joined(text, clauses).into_iter().flat_map(|part| windows(text, part)).collect()
}

fn is_short(text: &str) -> bool {
    // The characters first: that bounds the search for words.
    text.chars().inspect(|_| step()).nth(MAX_CHARS).is_none() && text.split_whitespace().nth(MAX_WORDS).is_none()
}

fn is_blank(c: char) -> bool {
    step();
    c.is_whitespace()
}

/// True if a sentence ends after `sign`, which `rest` follows.
fn ends_sentence(sign: char, rest: &str) -> bool {
    match sign {
        '\n' | '。' | '！' | '？' | '；' | '•' => true,
        ';' => rest.starts_with(is_blank),
        // Not in "e.g. nurses" or "3.5".
        '.' | '!' | '?' => rest.starts_with(is_blank) && !rest.trim_start_matches(is_blank).starts_with(char::is_lowercase),
        _ => false,
    }
}

/// True if a clause ends after `sign`, which `rest` follows.
fn ends_clause(sign: char, rest: &str) -> bool {
    match sign {
        '，' | '、' => true,
        ',' | ':' | ')' => rest.starts_with(is_blank),
        _ => false,
    }
}

/// Cuts a range of a text after each sign that ends a piece. Pieces are trimmed; empty ones are left out.
fn pieces(text: &str, range: Range<usize>, ends: fn(char, &str) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    let next = move || {
        if start == range.end {
            return None;
        }
        let rest = &text[start..range.end];
        let sign = rest.char_indices().find(|&(at, sign)| {
            step();
            ends(sign, &rest[at + sign.len_utf8()..])
        });
        let end = sign.map_or(range.end, |(at, sign)| start + at + sign.len_utf8());
        let piece = trimmed(text, start..end);
        start = end;
        Some(piece)
    };
    iter::from_fn(next).filter(|piece| !piece.is_empty())
}

/// Joins neighbours while they are short together.
fn joined(text: &str, parts: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for part in parts {
        match all.last_mut().filter(|last| is_short(&text[last.start..part.end])) {
            Some(last) => last.end = part.end,
            None => all.push(part),
        }
    }
    all
}

/// Cuts a trimmed range into parts that are short.
fn windows(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut rest = range;
    while !is_short(&text[rest.clone()]) {
        let cut = rest.start + end_of_window(&text[rest.clone()]);
        found.push(trimmed(text, rest.start..cut));
        rest = trimmed(text, cut..rest.end);
    }
    found.push(rest);
    found
}

/// Returns the end of the first window of a trimmed text that is not short: after [`MAX_WORDS`] words, else at the last white
/// space within [`MAX_CHARS`] characters, else after so many characters.
fn end_of_window(text: &str) -> usize {
    let (mut n_words, mut is_in_word, mut last_blank) = (0, false, None);
    for (position, (at, c)) in text.char_indices().enumerate() {
        let ends_word = is_blank(c) && is_in_word;
        n_words += usize::from(ends_word);
        if n_words == MAX_WORDS {
            return at;
        }
        if position == MAX_CHARS {
            return last_blank.unwrap_or(at);
        }
        is_in_word = !c.is_whitespace();
        if !is_in_word {
            last_blank = Some(at);
        }
    }
    text.len()
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inside = text[range.clone()].trim_start_matches(is_blank);
    let start = range.end - inside.len();
    start..start + inside.trim_end_matches(is_blank).len()
}

/// Counts a character that is looked at, in tests.
#[inline]
fn step() {
    #[cfg(test)]
    tests::STEPS.set(tests::STEPS.get() + 1);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        pub static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    fn all(text: &str) -> Vec<&str> {
        phrases(text).collect()
    }

    /// Characters that are looked at to cut a text.
    fn n_steps(text: &str) -> usize {
        STEPS.set(0);
        phrases(text).for_each(drop);
        STEPS.get()
    }

    #[test]
    fn texts_are_cut_at_lines_sentences_and_clauses() {
        assert_eq!(
            all("Night nurse\nin Bonn. You care for patients, e.g. after surgery! Version 3.5 helps; SQL too.\n\n- \nNight nurse"),
            ["Night nurse", "in Bonn.", "You care for patients, e.g. after surgery!", "Version 3.5 helps;", "SQL too."]
        );
        let long = "The nurse plans and documents the care of patients, supports doctors during their rounds, trains new colleagues in \
                    hygiene and safety, and orders what the ward needs";
        assert_eq!(
            all(long),
            [
                "The nurse plans and documents the care of patients, supports doctors during their rounds,",
                "trains new colleagues in hygiene and safety, and orders what the ward needs"
            ]
        );
        assert_eq!(all("照顾病人。夜班！"), ["照顾病人。", "夜班！"]);
        assert_eq!(all(" ... \n"), [""; 0]);
        assert_eq!(all(&format!("a{}b", " ".repeat(1_000))), ["a", "b"]);
    }

    #[test]
    fn one_phrase_needs_no_more_than_its_part_of_the_text() {
        let text = "Night nurse. In Bonn. ".repeat(10_000);
        STEPS.set(0);
        assert_eq!(phrases(&text).next(), Some("Night nurse."));
        assert!(STEPS.get() < 200, "{}", STEPS.get());
    }

    /// A hundred times the text takes a hundred times the steps, whatever is repeated.
    #[test]
    fn the_work_is_linear_in_the_text() {
        let blanks = [" ", "\t", "\u{a0}", "\u{3000}", "\r", "\n", "\u{2028}", "\u{85}", "\u{b}", " \u{2009}", "\r\n"];
        let hostile = ["a", "a ", "aaaaaaaaa ", ".", ". ", ", ", "a, ", "a. ", "! a", ":) ", "，", "。", "•", "é́", "a\u{200b}", "; "];
        for unit in blanks.into_iter().chain(hostile) {
            for (before, after) in [("", ""), ("a", "b"), ("a. ", "b"), ("A, b", ". C"), (" ", ","), ("one two three four. ", "")] {
                let text = |n: usize| format!("{before}{}{after}", unit.repeat(n));
                let (few, many) = (n_steps(&text(1_000)), n_steps(&text(100_000)));
                let what = format!("{before:?} {unit:?} {after:?}: {few} steps, and {many} for a hundred times as much");
                assert!(many <= 105 * few + 1_000, "{what}");
                assert!(few <= 30 * text(1_000).len() + 1_000, "{what}");
            }
        }
        // Words far apart, and clauses far apart.
        for unit in ["a", "a,", "A."] {
            let text = format!("{unit}{}", " ".repeat(2_000)).repeat(100);
            assert!(n_steps(&text) <= 12 * text.len(), "{unit:?}");
        }
    }

    /// The segmentation as it was first written: plain and quadratic.
    mod plain {
        use super::super::{MAX_CHARS, MAX_WORDS, ends_clause, ends_sentence, trimmed};
        use std::ops::Range;

        fn is_short(text: &str) -> bool {
            text.split_whitespace().nth(MAX_WORDS).is_none() && text.chars().nth(MAX_CHARS).is_none()
        }

        pub fn phrases(text: &str) -> Vec<&str> {
            let mut found: Vec<&str> = Vec::new();
            for sentence in pieces(text, 0..text.len(), ends_sentence) {
                let mut parts = vec![sentence.clone()];
                if !is_short(&text[sentence.clone()]) {
                    let mut joined: Vec<Range<usize>> = Vec::new();
                    for part in pieces(text, sentence, ends_clause) {
                        match joined.last_mut().filter(|last| is_short(&text[last.start..part.end])) {
                            Some(last) => last.end = part.end,
                            None => joined.push(part),
                        }
                    }
                    parts = joined.into_iter().flat_map(|part| windows(text, part)).collect();
                }
                for phrase in parts.into_iter().map(|range| &text[range]) {
                    if phrase.chars().any(char::is_alphanumeric) && !found.contains(&phrase) {
                        found.push(phrase);
                    }
                }
            }
            found
        }

        fn pieces(text: &str, range: Range<usize>, ends: fn(char, &str) -> bool) -> Vec<Range<usize>> {
            let (mut found, mut start) = (Vec::new(), range.start);
            for (at, sign) in text[range.clone()].char_indices() {
                let behind = range.start + at + sign.len_utf8();
                if ends(sign, &text[behind..range.end]) {
                    found.push(trimmed(text, start..behind));
                    start = behind;
                }
            }
            found.push(trimmed(text, start..range.end));
            found.retain(|range| !range.is_empty());
            found
        }

        fn windows(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
            let (mut found, mut rest) = (Vec::new(), range);
            while !is_short(&text[rest.clone()]) {
                let inside = &text[rest.clone()];
                let by_chars = inside.char_indices().nth(MAX_CHARS).map_or(inside.len(), |(at, _)| at);
                let spaces = inside.match_indices(char::is_whitespace).map(|(at, _)| at);
                let mut ends = spaces.filter(|&at| !inside[..at].ends_with(char::is_whitespace));
                let by_words = ends.nth(MAX_WORDS - 1).unwrap_or(inside.len());
                let most = by_chars.min(by_words);
                let blank = || inside[..most].rfind(char::is_whitespace).filter(|&at| at > 0);
                let cut = if most == by_words { most } else { blank().unwrap_or(most) };
                found.push(trimmed(text, rest.start..rest.start + cut));
                rest = trimmed(text, rest.start + cut..rest.end);
            }
            found.push(rest);
            found
        }
    }

    const TEXTS: &str = "([a-zäß0-9]{0,12}[ ,.;:\n。]{0,2}){0,80}|([A-Za-z]{0,9}[ \t\u{a0}\n\u{2028}]{0,30}[,.!]?){0,60}|\\PC{0,400}";

    proptest! {
        #[test]
        fn phrases_are_short_parts_of_the_text_in_their_order(text in TEXTS) {
            let mut end = 0;
            for phrase in phrases(&text) {
                let start = phrase.as_ptr() as usize - text.as_ptr() as usize;
                prop_assert!(start >= end && start + phrase.len() <= text.len());
                end = start + phrase.len();
                prop_assert!(is_short(phrase) && phrase == phrase.trim() && phrase.chars().any(char::is_alphanumeric));
            }
        }

        #[test]
        fn one_pass_cuts_as_the_plain_way_does(text in TEXTS) {
            prop_assert_eq!(all(&text), plain::phrases(&text));
        }

        #[test]
        fn no_word_of_plain_text_is_lost(words in prop::collection::vec("[a-z]{1,30}", 1..100)) {
            let text = words.join(" ");
            let again: BTreeSet<&str> = phrases(&text).flat_map(|phrase| phrase.split(' ')).collect();
            let distinct: BTreeSet<&str> = words.iter().map(String::as_str).collect();
            prop_assert_eq!(again, distinct);
        }
    }
}
