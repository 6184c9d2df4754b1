//! A number of a scenario, or the set that a run draws it from; and the sections that are made of such numbers.

use std::fmt;

use eraft::random::Draws;
use serde::{Deserialize, Serialize};
use toml::de::DeValue;

/// A number that a scenario sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Setting<T> {
    /// Always this.
    Fixed(T),
    /// Uniform between the two, both included.
    Range(T, T),
    /// One of these.
    Choices(Vec<T>),
}

impl<T: Number> Setting<T> {
    /// The value for the draw (`site`, `number`, `ordinal`). Which draws others make does not matter.
    pub fn draw(&self, draws: &Draws, site: &str, number: u64, ordinal: u64) -> T {
        let mut draw = draws.draw(site, number, ordinal);
        match self {
            Setting::Fixed(value) => *value,
            Setting::Range(low, high) => T::between(&mut draw, *low, *high),
            Setting::Choices(values) => *draw.pick(values).expect("a list of choices is never empty"),
        }
    }

    /// The smallest value that can be drawn.
    pub fn low(&self) -> T {
        self.extreme(|left, right| left < right)
    }

    /// The largest value that can be drawn.
    pub fn high(&self) -> T {
        self.extreme(|left, right| left > right)
    }

    fn extreme(&self, wins: impl Fn(T, T) -> bool) -> T {
        let of_two = |left, right| if wins(right, left) { right } else { left };
        match self {
            Setting::Fixed(value) => *value,
            Setting::Range(low, high) => of_two(*low, *high),
            Setting::Choices(values) => {
                values.iter().copied().reduce(of_two).expect("a list of choices is never empty")
            }
        }
    }
}

/// What a setting may hold.
pub trait Number: Copy + PartialOrd + fmt::Display {
    /// For messages.
    const KIND: &'static str;
    /// The value as a number of this kind.
    fn read(value: &DeValue<'_>) -> Option<Self>;
    /// Uniform between the two.
    fn between(draw: &mut eraft::random::Draw, low: Self, high: Self) -> Self;
}

impl Number for u64 {
    const KIND: &'static str = "a whole number";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let integer = value.as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn between(draw: &mut eraft::random::Draw, low: Self, high: Self) -> Self {
        draw.between(low, high)
    }
}

impl Number for f64 {
    const KIND: &'static str = "a number";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            _ => None,
        }
    }

    fn between(draw: &mut eraft::random::Draw, low: Self, high: Self) -> Self {
        let uniform = (draw.bits() >> 11) as f64 / (1u64 << 53) as f64;
        // Six digits: people can read them, and every JSON reader gives them back exactly.
        (((low + (high - low) * uniform) * 1e6).round() / 1e6).clamp(low, high)
    }
}

/// Declares a section: the resolved struct, the struct of its settings, how it is read, and how it is drawn. Each
/// option names its type, default and bounds once.
macro_rules! section {
    (
        $(#[$doc:meta])*
        $name:ident, $settings:ident, $path:literal {
            $( $(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr, $low:expr => $high:expr; )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        // An artifact that is older than an option has its default.
        #[serde(default)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        #[doc = concat!("What the section `", $path, "` of a scenario says.")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $settings {
            $( $(#[$field_doc])* pub $field: $crate::scenario::setting::Setting<$type>, )*
        }

        impl $settings {
            /// The keys of this section.
            pub const KEYS: &'static [&'static str] = &[$( stringify!($field) ),*];

            pub(in crate::scenario) fn read(
                section: &$crate::scenario::reader::Section<'_>,
            ) -> Result<Self, $crate::scenario::reader::ScenarioError> {
                Ok(Self {
                    $( $field: section
                        .setting(stringify!($field), $low..=$high)?
                        .unwrap_or($crate::scenario::setting::Setting::Fixed($default)), )*
                })
            }

            /// The numbers of one run.
            pub fn draw(&self, draws: &eraft::random::Draws) -> $name {
                $name {
                    $( $field: self.$field.draw(draws, concat!($path, ".", stringify!($field)), 0, 0), )*
                }
            }
        }
    };
}

pub(super) use section;
