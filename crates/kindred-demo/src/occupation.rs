//! What both taxonomies come to: an occupation that postings and members can be composed from.

use super::words;

/// One occupation with its words in the forms that sentences need.
#[derive(Debug, Clone)]
pub struct Occupation {
    /// Unique and stable: all choices depend on it.
    pub key: String,
    /// As a headline: `"Advertising Manager"`.
    pub title: String,
    /// Inside a sentence: `"advertising manager"`.
    pub name: String,
    /// Inside a sentence, where the source names it: `"advertising managers"`.
    pub plural: Option<String>,
    /// Other titles of the same occupation.
    pub alternatives: Vec<String>,
    /// At least one, the most telling first.
    pub duties: Vec<Duty>,
    /// The skills that fit, best first.
    pub skills: Vec<Skill>,
    /// Whether the source itself lists the skills.
    pub lists_skills: bool,
    /// The two leading digits of the Standard Occupational Classification.
    pub family: u8,
    /// Title and description, to compare with skills and other occupations.
    pub text: String,
}

/// Something that is done in an occupation.
#[derive(Debug, Clone, PartialEq)]
pub struct Duty {
    /// A verb phrase in its base form, without a full stop: `"plan advertising campaigns"`.
    pub phrase: String,
    /// Says "they" or "their" of those who do it, so only a plural subject fits.
    pub speaks_of_them: bool,
}

/// A skill, as people list it.
#[derive(Debug, Clone, PartialEq)]
pub struct Skill {
    pub label: String,
    /// First sentence of its description; may be empty.
    pub text: String,
    /// Begins with a verb ("manage staff"), rather than naming a field of knowledge.
    pub is_verb: bool,
}

impl Duty {
    /// As it reads with nothing before it: `"also plan tours"` → `"plan tours"`.
    pub fn standing_first(self) -> Self {
        let starts_with_also = self.phrase.starts_with("also ") || self.phrase.split(' ').nth(1) == Some("also");
        if starts_with_also { Self { phrase: self.phrase.replacen("also ", "", 1), ..self } } else { self }
    }

    /// `"You will plan tours"`; none when the phrase speaks of several people.
    pub fn for_you(&self) -> Option<String> {
        if self.speaks_of_them {
            return None;
        }
        Some(match self.split() {
            (Some("are"), rest) => format!("You will be {rest}"),
            (Some("will"), rest) => format!("You will {rest}"),
            (Some("may" | "can"), _) => format!("You {}", self.phrase),
            _ => format!("You will {}", self.phrase),
        })
    }

    /// `"plan tours"`, as it follows "to"; none when it would not be a plain order.
    pub fn infinitive(&self) -> Option<&str> {
        (!self.speaks_of_them && self.split().0.is_none()).then_some(self.phrase.as_str())
    }

    /// `"Plan tours"`, as it stands in a list of past work.
    pub fn note(&self) -> Option<String> {
        const LONE: [&str; 7] = ["responsible", "in charge", "involved", "concerned", "qualified", "trained", "specialised"];
        if self.speaks_of_them {
            return None;
        }
        let rest = match self.split() {
            (Some("are"), rest) if LONE.iter().any(|start| rest.starts_with(start)) => rest,
            (Some("are"), _) => return None,
            (_, rest) => rest,
        };
        let rest =
            ["also ", "usually ", "typically ", "often ", "mainly ", "then "].iter().find_map(|a| rest.strip_prefix(a)).unwrap_or(rest);
        if rest.starts_with("are ") || rest.contains(" and are ") {
            return None;
        }
        Some(words::upper_first(rest))
    }

    /// The helping verb at the start, if there is one, and the rest.
    fn split(&self) -> (Option<&str>, &str) {
        match self.phrase.split_once(' ') {
            Some((verb @ ("may" | "can" | "are" | "will"), rest)) => (Some(verb), rest),
            _ => (None, &self.phrase),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duties_take_the_form_their_sentence_needs() {
        let duty = |phrase: &str, speaks_of_them| Duty { phrase: phrase.to_owned(), speaks_of_them };
        let plain = duty("plan tours", false);
        assert_eq!(plain.for_you().unwrap(), "You will plan tours");
        assert_eq!(plain.infinitive(), Some("plan tours"));
        assert_eq!(plain.note().unwrap(), "Plan tours");
        let being = duty("are responsible for tours", false);
        assert_eq!((being.for_you().unwrap(), being.infinitive()), ("You will be responsible for tours".to_owned(), None));
        assert_eq!(being.note().unwrap(), "Responsible for tours");
        assert_eq!(duty("may also drive", false).for_you().unwrap(), "You may also drive");
        assert_eq!(duty("may also drive", false).note().unwrap(), "Drive");
        assert_eq!(duty("may also drive", false).standing_first().phrase, "may drive");
        assert_eq!(duty("use their eyes", true).for_you(), None);
    }
}
