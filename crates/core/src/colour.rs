//! Colours as operators write them, and whether text in one can be read on another.

use std::fmt;
use std::str::FromStr;

/// A colour of sRGB: red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

/// The least contrast of text (WCAG 2.2, criterion 1.4.3, level AA).
pub const CONTRAST_MIN: f64 = 4.5;

impl Colour {
    pub const BLACK: Colour = Colour([0; 3]);
    pub const WHITE: Colour = Colour([255; 3]);

    /// `share` (0 to 1) of `other` in this one.
    #[must_use]
    pub fn mixed(self, other: Colour, share: f64) -> Colour {
        let mut mixed = self.0;
        for (one, two) in mixed.iter_mut().zip(other.0) {
            let value = f64::from(*one).mul_add(1.0 - share, f64::from(two) * share);
            // Within 0 to 255, since both are.
            *one = value.round() as u8;
        }
        Colour(mixed)
    }

    /// How bright it is, from 0 to 1 (WCAG 2.2, relative luminance).
    pub fn luminance(self) -> f64 {
        let linear = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126_f64.mul_add(red, 0.7152_f64.mul_add(green, 0.0722 * blue))
    }

    /// From 1 (the same) to 21 (black and white).
    pub fn contrast(self, other: Colour) -> f64 {
        let (one, two) = (self.luminance(), other.luminance());
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }

    /// Whether text in one can be read on the other.
    pub fn is_readable_on(self, other: Colour) -> bool {
        self.contrast(other) >= CONTRAST_MIN
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// A text that is no colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a colour such as #3451d1")]
pub struct NoColour;

impl FromStr for Colour {
    type Err = NoColour;

    fn from_str(text: &str) -> Result<Colour, NoColour> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6).ok_or(NoColour)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoColour);
        }
        let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| NoColour);
        Ok(Colour([part(0)?, part(2)?, part(4)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour(text: &str) -> Colour {
        text.parse().unwrap()
    }

    #[test]
    fn a_colour_is_read_as_it_is_written() {
        assert_eq!(colour("#3451d1"), Colour([0x34, 0x51, 0xd1]));
        assert_eq!(colour("#FFaa00").to_string(), "#ffaa00");
        for text in ["", "3451d1", "#345", "#3451d", "#3451d1f", "#3451dg", "red", "#+451d1", "#34é1d", "#fff;}a{b"] {
            assert_eq!(text.parse::<Colour>(), Err(NoColour), "{text}");
        }
    }

    /// The pairs are the usual ones to check such a formula with.
    #[test]
    fn contrast_is_that_of_the_standard() {
        let close = |one: f64, two: f64| assert!((one - two).abs() < 0.01, "{one} {two}");
        close(Colour::BLACK.contrast(Colour::WHITE), 21.0);
        close(Colour::WHITE.contrast(Colour::WHITE), 1.0);
        close(colour("#777777").contrast(Colour::WHITE), 4.48);
        close(Colour::WHITE.contrast(colour("#767676")), 4.54);
        assert!(colour("#767676").is_readable_on(Colour::WHITE));
        assert!(!colour("#777777").is_readable_on(Colour::WHITE));
    }

    #[test]
    fn mixing_goes_from_one_to_the_other() {
        assert_eq!(Colour::BLACK.mixed(Colour::WHITE, 0.0), Colour::BLACK);
        assert_eq!(Colour::BLACK.mixed(Colour::WHITE, 1.0), Colour::WHITE);
        assert_eq!(Colour::BLACK.mixed(Colour::WHITE, 0.5), Colour([128; 3]));
    }
}
