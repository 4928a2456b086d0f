//! The `Cookie` header of a request.

/// The value of the first cookie of that very name, out of the values of a request's `Cookie` headers.
///
/// `None` also if that value is empty, or has anything but letters, digits, `-` and `_`: no cookie of ours does, and a
/// second one of the same name, which is not ours either, is not asked instead.
pub fn find<'a>(headers: impl IntoIterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let pairs = headers.into_iter().flat_map(|header| header.split(';'));
    let mut named = pairs.filter_map(|pair| {
        let (key, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        (key == name).then_some(value)
    });
    named.next().filter(|value| !value.is_empty() && value.bytes().all(is_plain))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_very_name_counts_and_only_if_it_is_plain() {
        let table: [(&[&str], Option<&str>); 12] = [
            (&[], None),
            (&[""], None),
            (&["a=1"], Some("1")),
            (&["b=2; a=1"], Some("1")),
            (&["b=2", "a=1"], Some("1")),
            (&["a=1; a=2"], Some("1")),
            (&[";; \ta=1\t ;"], Some("1")),
            (&["a=; a=2"], None),
            (&["a=1=2; a=2"], None),
            (&["a =1"], None),
            (&["A=1; xa=2; ax=3"], None),
            (&["a=\"1\""], None),
        ];
        for (headers, value) in table {
            assert_eq!(find(headers.iter().copied(), "a"), value, "{headers:?}");
        }
    }
}
