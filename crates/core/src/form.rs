//! What a form sends: `application/x-www-form-urlencoded`, as the URL standard has it.

/// The fields of a form, in the order in which they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Every body is some form: what is no UTF-8 is replaced, and a `%` that begins no byte stands for itself.
    pub fn parse(body: &[u8]) -> Form {
        Form(url::form_urlencoded::parse(body).into_owned().collect())
    }

    /// All fields.
    pub fn fields(&self) -> &[(String, String)] {
        &self.0
    }

    /// The first value of a field; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether there is such a field, empty or not.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// The same as [`text`](Form::text), without spaces around it; `None`: empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name).trim()).filter(|text| !text.is_empty())
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_form_is_read_as_it_was_filled_in(fields in vec(("[a-z_]{1,8}", ".{0,40}"), 0..8)) {
            let mut body = url::form_urlencoded::Serializer::new(String::new());
            let form = Form::parse(body.extend_pairs(&fields).finish().as_bytes());
            for (name, _) in &fields {
                let same = fields.iter().filter(|(key, _)| key == name);
                let filled: Vec<String> = same.map(|(_, value)| value.clone()).collect();
                prop_assert!(form.has(name));
                prop_assert_eq!(form.text(name), &filled[0]);
                prop_assert_eq!(form.given(name).unwrap_or_default(), filled[0].trim());
                prop_assert_eq!(form.all(name), filled);
            }
            prop_assert_eq!(form, Form(fields));
        }
    }

    #[test]
    fn what_no_browser_sends_is_some_form_all_the_same() {
        let fields = |body: &[u8]| Form::parse(body).0;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(fields(b""), []);
        assert_eq!(fields(b"&&=&"), [pair("", "")]);
        assert_eq!(fields(b"a&a=b=c"), [pair("a", ""), pair("a", "b=c")]);
        assert_eq!(fields(b"%41=%4&%=+%2b%zz"), [pair("A", "%4"), pair("%", " +%zz")]);
        assert_eq!(fields(b"a=\xff%ff%00"), [pair("a", "\u{fffd}\u{fffd}\0")]);
    }
}
