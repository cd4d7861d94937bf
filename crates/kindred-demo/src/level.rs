//! Seniority: what it is called, who has it, what it is paid.

use serde_json::{Value, json};

use super::families;
use super::occupation::Occupation;
use super::places::City;
use kindred_core::domain::Choice;

/// How far somebody has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Entry,
    Associate,
    Mid,
    Senior,
    Lead,
    Manager,
    Director,
}

impl Level {
    /// A level that an occupation can have.
    pub fn choose(occupation: &Occupation, choice: &mut Choice) -> Self {
        let name = occupation.name.to_lowercase();
        let has = |words: &[&str]| name.split([' ', ',', '-']).any(|w| words.contains(&w));
        if has(&["chief", "director", "president", "legislator", "rector"]) {
            Self::Director
        } else if has(&["manager", "supervisor", "superintendent", "head"]) {
            Self::Manager
        } else if has(&["assistant", "aide", "helper", "trainee"]) {
            *choice.pick(&[Self::Entry, Self::Entry, Self::Associate, Self::Mid])
        } else {
            *choice.pick(&[
                Self::Entry,
                Self::Associate,
                Self::Associate,
                Self::Mid,
                Self::Mid,
                Self::Mid,
                Self::Senior,
                Self::Senior,
                Self::Lead,
            ])
        }
    }

    /// The value of the field `seniority`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Associate => "associate",
            Self::Mid => "mid",
            Self::Senior => "senior",
            Self::Lead => "lead",
            Self::Manager => "manager",
            Self::Director => "director",
        }
    }

    /// A title as it is at this level: `"Senior Data Scientist"`.
    pub fn titled(self, title: &str, family: u8) -> String {
        // Ranks before a title are the custom where work is done at desks, benches and bedsides.
        const RANKLESS: [&str; 14] = [
            "musician",
            "athlete",
            "actor",
            "dancer",
            "singer",
            "clergy",
            "judge",
            "poet",
            "model",
            "umpire",
            "physician",
            "surgeon",
            "dentist",
            "legislator",
        ];
        let takes_rank = (11..=29).contains(&family)
            && title.split(' ').count() <= 4
            && !RANKLESS.iter().any(|word| title.to_lowercase().contains(word));
        let has_rank =
            ["Senior", "Junior", "Lead", "Assistant", "Chief", "Head", "First-Line", "Trainee"].iter().any(|rank| title.contains(rank));
        match self {
            Self::Entry if takes_rank && !has_rank => format!("Junior {title}"),
            Self::Senior if takes_rank && !has_rank => format!("Senior {title}"),
            Self::Lead if takes_rank && !has_rank => format!("Lead {title}"),
            _ => title.to_owned(),
        }
    }

    /// Years of experience at this level.
    pub fn years(self, choice: &mut Choice) -> u64 {
        let (least, range) = match self {
            Self::Entry => (1, 2),
            Self::Associate => (2, 3),
            Self::Mid => (4, 5),
            Self::Senior => (8, 8),
            Self::Lead => (9, 9),
            Self::Manager => (7, 12),
            Self::Director => (12, 14),
        };
        least + choice.below(range) as u64
    }

    fn pay_factor(self, family: u8) -> f64 {
        match self {
            Self::Entry => 0.76,
            Self::Associate => 0.88,
            Self::Mid => 1.0,
            Self::Senior => 1.24,
            Self::Lead => 1.36,
            // The family of managers is paid as managers already.
            Self::Manager => {
                if family == 11 {
                    1.0
                } else {
                    1.18
                }
            }
            Self::Director => 1.4,
        }
    }

    /// The pay range of a posting at this level in a city.
    pub fn salary(self, occupation: &Occupation, city: &City, choice: &mut Choice) -> Value {
        let (currency, per_dollar) = city.pay();
        let chance = 0.92 + 0.02 * choice.below(9) as f64;
        let family = families::get(occupation.family);
        let middle = family.pay * families::pay_factor(&occupation.title) * self.pay_factor(occupation.family) * chance * per_dollar;
        let by_hour = city.pays_by_hour() && family.pay < 45_000.0 && self.pay_factor(occupation.family) <= 1.0 && choice.chance(50);
        let (least, most) = (middle * 0.9, middle * (1.06 + 0.02 * choice.below(6) as f64));
        if by_hour {
            let hourly = |yearly: f64| (yearly / 2_080.0 * 2.0).round() / 2.0;
            json!({"min": hourly(least), "max": hourly(most), "currency": currency, "period": "hour"})
        } else {
            json!({"min": round(least), "max": round(most), "currency": currency, "period": "year"})
        }
    }
}

/// As pay is written: 62 312 → 62 500, 5 161 000 → 5 150 000.
fn round(pay: f64) -> u64 {
    let step = 5.0 * 10f64.powf((pay.log10().floor() - 2.0).max(0.0));
    ((pay / step).round() * step) as u64
}
