//! Colour, where somebody sees it.

use std::io::IsTerminal;

/// What a word means to whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Green,
    Yellow,
    Red,
}

impl Colour {
    fn code(self) -> u8 {
        match self {
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
        }
    }
}

/// The text for standard output: coloured on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn painted(text: &str, colour: Colour) -> String {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    painted_if(std::io::stdout().is_terminal() && !no_color, text, colour)
}

fn painted_if(is_wanted: bool, text: &str, colour: Colour) -> String {
    if is_wanted { format!("\u{1b}[{}m{text}\u{1b}[0m", colour.code()) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_put_around_the_word() {
        assert_eq!(painted_if(true, "fail", Colour::Red), "\u{1b}[31mfail\u{1b}[0m");
        assert_eq!(painted_if(false, "fail", Colour::Red), "fail");
    }
}
