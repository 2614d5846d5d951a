//! Numbers in messages to people.

/// `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 document`, `2,000 documents`: a number of things, of which `one` is the name of one.
pub fn count(number: impl TryInto<u64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"].map(String::from),
            [0, 999, 1000, 1_234_567].map(grouped)
        );
    }

    #[test]
    fn one_thing_is_no_things() {
        let documents = [0, 1, 2, 2_000].map(|number: u64| count(number, "document"));
        assert_eq!(documents, ["0 documents", "1 document", "2 documents", "2,000 documents"]);
        assert_eq!([count(1_usize, "more time"), count(1_u32, "byte")], ["1 more time", "1 byte"]);
    }
}
