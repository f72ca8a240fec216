/// The candidate that is spelt most like `text`, if one is close enough to have been meant.
///
/// Close means at most a third of the letters typed wrong, left out, added or swapped.
pub(super) fn closest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = text.chars().count();
    if length == 0 || length > 128 {
        return None;
    }
    let limit = (length / 3).clamp(1, 4);
    let far = |candidate: &str| candidate.len().abs_diff(text.len()) > limit * 4;
    let near = candidates
        .into_iter()
        .filter(|it| *it != text && !far(it) && it.len() <= 512);
    let scored = near.map(|candidate| (distance(text, candidate), candidate));
    scored
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().map(|c| c.to_ascii_lowercase()).collect();
    let to: Vec<char> = to.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let at =
                |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&above, column) + usize::from(a != b);
            let mut best = replaced
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            let swapped = row > 0
                && column > 0
                && from.get(row - 1) == Some(b)
                && to.get(column - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_words() {
        let names = ["openai", "hms-api", "frontend", "report:read"];
        assert_eq!(closest("opneai", names), Some("openai"));
        assert_eq!(closest("fronted", names), Some("frontend"));
        assert_eq!(closest("reports:read", names), Some("report:read"));
        assert_eq!(closest("OpenAI", names), Some("openai"));
        assert_eq!(closest("postgres", names), None);
        assert_eq!(closest("", names), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
