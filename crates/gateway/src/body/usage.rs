use countersign_core::config::Budget;
use countersign_core::pillars::audit::Admission;
use countersign_core::pillars::least_privilege::cost;
use countersign_core::pillars::least_privilege::priced_as;
use serde_json::Value;

/// Reads what a model's answer says it used, so that a budget gets back what was set aside too
/// much. An answer without it, or one broken off, keeps the reservation spent.
#[derive(Debug)]
pub(crate) struct Meter {
    budgets: Vec<Budget>,
    buffer: Vec<u8>,
    model: String,
    overflowed: bool,
    stream: bool,
    used: Option<(u64, u64)>,
}

/// The longest answer, and the longest line of a stream, that is read for its usage: 4 MiB.
const LONGEST: usize = 4 << 20;

impl Meter {
    /// For a call whose admission drew on a budget. `stream` says that the answer is an event
    /// stream.
    pub(crate) fn of(admission: &Admission, stream: bool) -> Option<Self> {
        let model = admission.hop().facts.model.clone()?;
        let known = &admission.snapshot().config().budgets;
        let reserved = admission.reserved().iter();
        let budgets: Vec<Budget> = reserved
            .filter_map(|it| known.get(it.demand.budget.as_str()).cloned())
            .collect();
        (!budgets.is_empty()).then_some(Self {
            budgets,
            buffer: Vec::new(),
            model,
            overflowed: false,
            stream,
            used: None,
        })
    }

    /// Takes the next bytes of the answer.
    pub(crate) fn next(&mut self, chunk: &[u8]) {
        if self.overflowed {
            return;
        }
        let searched = self.buffer.len();
        self.buffer.extend_from_slice(chunk);
        if self.stream {
            self.lines(searched);
        }
        if self.buffer.len() > LONGEST {
            self.overflowed = true;
            self.buffer = Vec::new();
        }
    }

    /// The tokens that were used, in and out, and what the prices call the model; once the answer
    /// is whole.
    pub(crate) fn tokens(&mut self) -> Option<(&str, u64, u64)> {
        let (input, output) = self.used()?;
        let mut names = self.budgets.iter();
        let name = names.find_map(|it| priced_as(it, &self.model))?;
        Some((name, input, output))
    }

    fn used(&mut self) -> Option<(u64, u64)> {
        if !self.stream && !self.overflowed && self.used.is_none() {
            let answer: Value = serde_json::from_slice(&self.buffer).ok()?;
            self.used = usage(&answer);
        }
        self.used.filter(|_| !self.overflowed)
    }

    /// What it really cost, in micro-dollars, once the answer is whole. Where several budgets
    /// price it differently, the dearest counts.
    pub(crate) fn cost(mut self) -> Option<u64> {
        let (input, output) = self.used()?;
        self.budgets
            .iter()
            .filter_map(|it| cost(it, &self.model, input, output))
            .max()
    }

    /// Takes the whole lines out of the buffer, none of which ends before `searched`. Each byte is
    /// searched and moved once, however small the chunks or the lines are.
    fn lines(&mut self, searched: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (mut start, mut from) = (0, searched);
        while let Some(found) =
            memchr::memchr2(b'\n', b'\r', buffer.get(from..).unwrap_or_default())
        {
            self.line(buffer.get(start..from + found).unwrap_or_default());
            from += found + 1;
            start = from;
        }
        buffer.drain(..start);
        self.buffer = buffer;
    }

    fn line(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else {
            return;
        };
        let event = serde_json::from_slice::<Value>(data.trim_ascii()).ok();
        if let Some(used) = event.as_ref().and_then(usage) {
            self.used = Some(used);
        }
    }
}

/// Tokens in and out of a chat completion, or of a response (whose last event carries it whole).
fn usage(answer: &Value) -> Option<(u64, u64)> {
    let usage = answer
        .get("usage")
        .or_else(|| answer.get("response")?.get("usage"))?;
    let count = |names: [&str; 2]| names.iter().find_map(|name| usage.get(*name)?.as_u64());
    let input = count(["prompt_tokens", "input_tokens"])?;
    let output = count(["completion_tokens", "output_tokens"])?;
    // Rejected predictions are billed as output but counted apart.
    let details = usage.get("completion_tokens_details");
    let rejected = details.and_then(|it| it.get("rejected_prediction_tokens")?.as_u64());
    let total = usage
        .get("total_tokens")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let counted = input.saturating_add(output);
    let beyond = if total > counted {
        0
    } else {
        rejected.unwrap_or(0)
    };
    Some((
        input,
        output
            .max(total.saturating_sub(input))
            .saturating_add(beyond),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::config::BudgetScope;
    use countersign_core::config::Place;
    use countersign_core::config::Price;
    use countersign_core::config::Window;
    use proptest::prelude::*;

    fn meter(stream: bool) -> Meter {
        let budget = Budget {
            place: Place::default(),
            limit_microusd: 1,
            window: Window::Day,
            per: BudgetScope::All,
            warn: None,
            prices: [(
                "gpt-*".to_owned(),
                Price {
                    input: 1_000_000,
                    output: 2_000_000,
                },
            )]
            .into(),
        };
        Meter {
            budgets: vec![budget],
            buffer: vec![],
            model: "gpt-4o".into(),
            overflowed: false,
            stream,
            used: None,
        }
    }

    #[test]
    fn a_whole_answer() {
        let mut meter = meter(false);
        for byte in br#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"# {
            meter.next(&[*byte]);
        }
        assert_eq!(meter.cost(), Some(20));
    }

    #[test]
    fn the_last_event_of_a_stream() {
        let text = "data: {\"usage\":null}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\
            \"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
        for size in [1, 7, 1000] {
            let mut meter = meter(true);
            text.as_bytes()
                .chunks(size)
                .for_each(|chunk| meter.next(chunk));
            assert_eq!(meter.cost(), Some(5), "{size}");
        }
        let mut meter = meter(true);
        meter.next(b"event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n");
        assert_eq!(meter.cost(), Some(5));
    }

    #[test]
    fn many_lines_and_many_chunks_cost_no_more_than_their_length() {
        let begin = std::time::Instant::now();
        let mut meter = meter(true);
        // One chunk of empty lines, then one line in chunks of a byte.
        meter.next(&vec![b'\n'; 2 << 20]);
        for _ in 0..(2 << 20) {
            meter.next(b"x");
        }
        meter.next(b"\ndata: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n");
        assert_eq!(meter.cost(), Some(5));
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    }

    proptest! {
        /// However an answer is cut into chunks, it says the same.
        #[test]
        fn chunks_make_no_difference(text in "((data: ?)?\\{?\"usage\":[{}a-z0-9\":,_]{0,20}|data: \\{\"usage\":\\{\"prompt_tokens\":[0-9]{1,3},\"completion_tokens\":[0-9]{1,25}\\}\\}|[\r\n]{1,3}){0,12}", stream: bool, size in 1_usize..40) {
            let (mut whole, mut parts) = (meter(stream), meter(stream));
            whole.next(text.as_bytes());
            text.as_bytes().chunks(size).for_each(|chunk| parts.next(chunk));
            prop_assert_eq!(whole.cost(), parts.cost());
        }

        #[test]
        fn never_panics(chunks: Vec<Vec<u8>>, stream: bool) {
            let mut meter = meter(stream);
            chunks.iter().for_each(|chunk| meter.next(chunk));
            let _ = meter.cost();
        }
    }

    #[test]
    fn what_is_not_said_stays_spent() {
        let mut broken = meter(false);
        broken.next(b"{\"usage\":{\"prompt_tokens\":1");
        assert_eq!(broken.cost(), None);
        let mut silent = meter(true);
        silent.next(b"data: {}\n\n");
        assert_eq!(silent.cost(), None);
        let mut negative = meter(false);
        negative.next(br#"{"usage":{"prompt_tokens":-1,"completion_tokens":0}}"#);
        assert_eq!(negative.cost(), None);
    }
}
