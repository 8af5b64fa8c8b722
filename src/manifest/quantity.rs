//! Kubernetes' quantities (`500m`, `1.5Gi`, `1e3`): exact, rounded up, never through a float.

use thiserror::Error;

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum QuantityError {
    #[error(
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Form,
    #[error("{}: a unit has no B at its end: M is 10^6, Mi is 2^20", Self::Form)]
    Bytes,
    #[error("must be greater than or equal to 0")]
    Negative,
    #[error("must be less than 2^63")]
    TooLarge,
}

/// A number that is not negative, in thousandths and rounded up to them, as Kubernetes keeps it at the finest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity {
    milli: u128,
}

impl Quantity {
    /// Reads `number suffix`; the suffix is decimal (`m`, `k`, `M` …), binary (`Ki`, `Mi` …) or an exponent (`e3`).
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let of_bytes = suffix.strip_suffix(['B', 'b']).is_some_and(|unit| Scale::parse(unit).is_ok());
        let scale =
            Scale::parse(suffix).map_err(|error| if of_bytes { QuantityError::Bytes } else { error })?;
        let milli = scaled(number, scale)?;
        if negative && milli != 0 { Err(QuantityError::Negative) } else { Ok(Quantity { milli }) }
    }

    pub fn whole(units: u64) -> Quantity {
        Quantity { milli: u128::from(units) * 1000 }
    }

    pub fn milli(self) -> u64 {
        u64::try_from(self.milli).unwrap_or(u64::MAX)
    }

    /// Whole units, rounded up.
    pub fn units(self) -> u64 {
        u64::try_from(self.milli.div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

/// Largest first, and binary before decimal ones of the same length.
const UNITS: [(&str, u64); 13] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1000),
    ("", 1),
];

/// The shortest way to write a number of bytes exactly: `2Mi`, `500M`.
pub(crate) fn shortest(bytes: u64) -> String {
    let fitting = UNITS.iter().filter(|(_, size)| bytes.is_multiple_of(*size));
    let written = fitting.map(|(unit, size)| format!("{}{unit}", bytes / size));
    written.min_by_key(String::len).unwrap_or_default()
}

/// What a number is multiplied by, counted in thousandths.
#[derive(Clone, Copy)]
enum Scale {
    /// 10 to this power.
    Decimal(i32),
    /// 1000 times 2 to this power.
    Binary(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Result<Scale, QuantityError> {
        Ok(match suffix {
            "n" => Scale::Decimal(-6),
            "u" => Scale::Decimal(-3),
            "m" => Scale::Decimal(0),
            "" => Scale::Decimal(3),
            "k" => Scale::Decimal(6),
            "M" => Scale::Decimal(9),
            "G" => Scale::Decimal(12),
            "T" => Scale::Decimal(15),
            "P" => Scale::Decimal(18),
            "E" => Scale::Decimal(21),
            "Ki" => Scale::Binary(10),
            "Mi" => Scale::Binary(20),
            "Gi" => Scale::Binary(30),
            "Ti" => Scale::Binary(40),
            "Pi" => Scale::Binary(50),
            "Ei" => Scale::Binary(60),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Form)?;
                let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Form)?;
                Scale::Decimal(exponent.saturating_add(3))
            }
        })
    }
}

/// `number` (`12`, `1.5`, `.5`, `5.`) times `scale`, rounded up, in thousandths.
fn scaled(number: &str, scale: Scale) -> Result<u128, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(QuantityError::Form);
    }
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let mantissa: u128 = significant.parse().map_err(|_| QuantityError::TooLarge)?;
    let places = i32::try_from(fraction.len()).map_err(|_| QuantityError::Form)?;
    let (mantissa, power) = match scale {
        Scale::Decimal(power) => (Some(mantissa), power.saturating_sub(places)),
        Scale::Binary(bits) => (mantissa.checked_mul(1000 << bits), -places),
    };
    let mantissa = mantissa.ok_or(QuantityError::TooLarge)?;
    // Beyond 10^38 a u128 ends, in both directions.
    let ten = 10u128.checked_pow(power.unsigned_abs());
    let milli = match (power < 0, ten) {
        (true, ten) => ten.map_or(1, |ten| mantissa.div_ceil(ten)),
        (false, ten) => ten.and_then(|ten| mantissa.checked_mul(ten)).ok_or(QuantityError::TooLarge)?,
    };
    if milli > i64::MAX as u128 * 1000 { Err(QuantityError::TooLarge) } else { Ok(milli) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_as_kubernetes_reads_them() {
        let cases = [
            ("1", 1_000),
            ("0", 0),
            ("-0", 0),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("5.", 5_000),
            ("+2", 2_000),
            ("0.1m", 1),
            ("1n", 1),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("12e-1", 1_200),
            ("1E", 1_000_000_000_000_000_000_000),
            ("1e-999999999", 1),
        ];
        for (text, milli) in cases {
            assert_eq!(Quantity::parse(text), Ok(Quantity { milli }), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "m", ".", "1.2.3", "1 Gi", "1gi", "1KI", "--1", "1e", "Mi", "0x10", "1e1.5"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::Form), "{text}");
        }
        for text in ["8Ei", "1e99", "1e999999999", "99999999999999999999999999999999999999999", "9e18Ki"] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
        assert_eq!(Quantity::parse("-1"), Err(QuantityError::Negative));
    }

    #[test]
    fn bytes_are_written_in_the_largest_unit_that_is_exact() {
        for text in ["2Mi", "1Gi", "64Ki", "16Gi", "500M", "1G", "1T", "3", "1025", "1536Mi", "1Ei"] {
            assert_eq!(shortest(Quantity::parse(text).unwrap().units()), text);
        }
        assert_eq!(
            (shortest(0), shortest(1024 << 20), shortest(1000)),
            ("0".into(), "1Gi".into(), "1k".into())
        );
    }

    #[test]
    fn whole_units_are_rounded_up() {
        assert_eq!(Quantity::parse("1500m").map(Quantity::units), Ok(2));
    }
}
