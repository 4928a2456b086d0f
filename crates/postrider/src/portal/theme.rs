//! The accent colour of the portal, in light and in dark: taken only if everything that is written in it can be read.

use std::fmt::Write as _;

use postrider_core::colour::{CONTRAST_MIN, Colour};

/// What the design system makes of one accent: its tokens of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Palette {
    accent: Colour,
    accent_strong: Colour,
    accent_soft: Colour,
    on_accent: Colour,
}

/// An accent for light pages and for dark ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accent {
    light: Palette,
    dark: Palette,
}

/// What pages are drawn on; `console.css` has the same values.
struct Grounds {
    /// `--ground`, `--surface`, `--raised`, `--sunken`.
    all: [Colour; 4],
    /// `--ink`.
    ink: Colour,
    /// What a strong accent tends to, and by how much.
    strong: (Colour, f64),
    /// How much of the accent is in a soft one.
    soft: f64,
}

const fn grey(red: u8, green: u8, blue: u8) -> Colour {
    Colour([red, green, blue])
}

const LIGHT: Grounds = Grounds {
    all: [grey(0xf6, 0xf7, 0xf9), Colour::WHITE, Colour::WHITE, grey(0xef, 0xf1, 0xf5)],
    ink: grey(0x17, 0x1a, 0x21),
    strong: (Colour::BLACK, 0.25),
    soft: 0.1,
};

const DARK: Grounds = Grounds {
    all: [grey(0x10, 0x12, 0x18), grey(0x18, 0x1b, 0x23), grey(0x20, 0x24, 0x2e), grey(0x12, 0x15, 0x1c)],
    ink: grey(0xec, 0xee, 0xf3),
    strong: (Colour::WHITE, 0.35),
    soft: 0.2,
};

/// Text on an accent that is bright.
const DARK_TEXT: Colour = grey(0x10, 0x13, 0x1f);
/// In how many steps a colour is moved until it can be read.
const STEPS: u32 = 20;

impl Palette {
    fn of(accent: Colour, grounds: &Grounds) -> Palette {
        let (end, share) = grounds.strong;
        let accent_strong = accent.mixed(end, share);
        let least = |text: Colour| text.contrast(accent).min(text.contrast(accent_strong));
        let on_accent = if least(Colour::WHITE) >= least(DARK_TEXT) { Colour::WHITE } else { DARK_TEXT };
        let accent_soft = grounds.all[1].mixed(accent, grounds.soft);
        Palette { accent, accent_strong, accent_soft, on_accent }
    }

    /// The first pair that cannot be read.
    fn unreadable(&self, grounds: &Grounds) -> Option<(Colour, Colour)> {
        let links = grounds.all.iter().map(|ground| (self.accent, *ground));
        let others = [
            (self.on_accent, self.accent),
            (self.on_accent, self.accent_strong),
            (self.accent_strong, self.accent_soft),
            (grounds.ink, self.accent_soft),
        ];
        links.chain(others).find(|(text, ground)| !text.is_readable_on(*ground))
    }

    fn checked(accent: Colour, grounds: &Grounds) -> Result<Palette, String> {
        let palette = Palette::of(accent, grounds);
        let Some((text, ground)) = palette.unreadable(grounds) else { return Ok(palette) };
        let contrast = (text.contrast(ground) * 10.0).floor() / 10.0;
        let mut message = format!(
            "{accent} cannot be read: {text} on {ground} has a contrast of {contrast} to 1, and WCAG AA asks for {CONTRAST_MIN}"
        );
        if let Some(near) = Palette::nearest(accent, grounds) {
            let _ = write!(message, "; {} would do", near.accent);
        }
        Err(message)
    }

    /// The readable one that is nearest to `accent` on the way to black or white.
    fn nearest(accent: Colour, grounds: &Grounds) -> Option<Palette> {
        let moved = (0..=STEPS).map(|step| accent.mixed(grounds.strong.0, f64::from(step) / f64::from(STEPS)));
        moved.map(|accent| Palette::of(accent, grounds)).find(|palette| palette.unreadable(grounds).is_none())
    }
}

impl Accent {
    /// An accent for light pages; that for dark ones is made from it.
    ///
    /// # Errors
    /// Says what could not be read, and which colour near it can.
    pub fn of(accent: Colour) -> Result<Accent, String> {
        let light = Palette::checked(accent, &LIGHT)?;
        let dark = Palette::nearest(accent, &DARK).ok_or("has no form that can be read on dark pages")?;
        Ok(Accent { light, dark })
    }

    /// Sets that for dark pages.
    ///
    /// # Errors
    /// As [`Accent::of`].
    pub fn darken(&mut self, accent: Colour) -> Result<(), String> {
        self.dark = Palette::checked(accent, &DARK)?;
        Ok(())
    }

    /// The stylesheet that goes over that of the design system.
    pub fn stylesheet(&self) -> String {
        let (light, dark) = (&self.light, &self.dark);
        let tokens = [
            ("--accent", light.accent, dark.accent),
            ("--accent-strong", light.accent_strong, dark.accent_strong),
            ("--accent-soft", light.accent_soft, dark.accent_soft),
            ("--on-accent", light.on_accent, dark.on_accent),
        ];
        let tokens = tokens.map(|(name, light, dark)| format!("  {name}: light-dark({light}, {dark});\n"));
        format!(":root {{\n{}}}\n", tokens.concat())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn colour(text: &str) -> Colour {
        text.parse().unwrap()
    }

    #[test]
    fn the_grounds_are_those_of_the_design_system() {
        let css = include_str!("../../assets/console.css");
        let names = ["--ground", "--surface", "--raised", "--sunken", "--ink"];
        let of = |grounds: Grounds| grounds.all.into_iter().chain([grounds.ink]);
        for ((name, light), dark) in names.into_iter().zip(of(LIGHT)).zip(of(DARK)) {
            let token = format!("{name}: light-dark({light}, {dark});");
            assert!(css.contains(&token), "{token}");
        }
    }

    #[test]
    fn what_is_taken_can_be_read_everywhere_in_both_themes() {
        for text in ["#3451d1", "#0b6b3a", "#8a1c7c", "#b3261e", "#000000", "#7a4b00", "#5b5b5b"] {
            let accent = Accent::of(colour(text)).unwrap();
            for (palette, grounds) in [(accent.light, LIGHT), (accent.dark, DARK)] {
                assert_eq!(palette.unreadable(&grounds), None, "{text}");
            }
            assert_eq!(accent.light.accent, colour(text));
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_a_colour_that_can() {
        for text in ["#ffcc00", "#ffffff", "#8ea2ff", "#00b894"] {
            let message = Accent::of(colour(text)).unwrap_err();
            assert!(message.contains("WCAG AA asks for 4.5"), "{message}");
            let (_, near) = message.rsplit_once("; ").unwrap();
            let near = near.strip_suffix(" would do").unwrap();
            assert!(Accent::of(colour(near)).is_ok(), "{message}");
        }
        let mut accent = Accent::of(colour("#3451d1")).unwrap();
        assert!(accent.darken(colour("#3451d1")).is_err());
        accent.darken(colour("#8ea2ff")).unwrap();
        assert_eq!(accent.dark.accent, colour("#8ea2ff"));
    }

    #[test]
    fn the_stylesheet_sets_our_tokens_and_nothing_else() {
        let css = Accent::of(colour("#0b6b3a")).unwrap().stylesheet();
        let names: std::collections::BTreeSet<_> =
            css.match_indices("--").map(|(at, _)| css[at..].split(':').next().unwrap()).collect();
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["--accent", "--accent-soft", "--accent-strong", "--on-accent"]
        );
        assert!(css.contains("--accent: light-dark(#0b6b3a, #"), "{css}");
    }
}
