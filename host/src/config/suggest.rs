//! Did you mean …? One measure of likeness for every name a person may mistype.

/// The name that `written` was probably meant to be, if any is near enough.
pub fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let written = written.to_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_lowercase()), name))
        // a third of the letters may be wrong: more is another word
        .filter(|(distance, name)| *distance <= (name.chars().count().max(written.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean `x`?`, or nothing.
pub fn did_you_mean<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    nearest(written, names).map(|name| format!("did you mean `{name}`?")).unwrap_or_default()
}

/// `` `a`, `b` and `c` ``.
pub fn listed<S: AsRef<str>>(names: &[S], and: &str) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} {and} {last}", init.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let names = ["user_id", "page", "max_record", "on"];
        for (written, expected) in [
            ("usr_id", Some("user_id")),
            ("User_Id", Some("user_id")),
            ("pgae", Some("page")),
            ("max_records", Some("max_record")),
            ("no", Some("on")),
            ("brokers", None),
        ] {
            assert_eq!(nearest(written, names), expected, "{written}");
        }
        assert_eq!(listed(&["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
