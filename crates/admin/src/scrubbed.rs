//! What the scrub has done, for people: counts and times. Places are in the log and keys in no answer that needs no signature.

use std::fmt::Write as _;
use wire::records::{ScrubState, ScrubTally};

/// How many places are known to be bad: of the last whole pass, or of the one under way where that found more already.
pub(crate) fn findings(state: &ScrubState) -> u64 {
    let of = |tally: Option<&ScrubTally>| tally.map_or(0, |tally| tally.findings);
    let last = state.last.as_ref().and_then(|last| last.tally.as_ref());
    of(last).max(of(state.tally.as_ref()))
}

/// A line for the last pass that came to its end, and one for the pass under way as it was kept last.
pub(crate) fn page(state: &ScrubState) -> String {
    let mut page = String::new();
    let mut line = |what: String, tally: Option<&ScrubTally>| {
        let tally = tally.cloned().unwrap_or_default();
        let _infallible = writeln!(
            page,
            "{what}: {} bytes, {} needles, {} rows read, {} findings, {} skipped",
            tally.bytes, tally.needles, tally.rows, tally.findings, tally.skipped
        );
    };
    match &state.last {
        Some(last) => line(
            format!("last pass, {} to {} ms since 1970", last.begun_ms, last.ended_ms),
            last.tally.as_ref(),
        ),
        None => line("no pass has come to its end".to_owned(), None),
    }
    if state.begun_ms != 0 {
        line(format!("pass since {} ms", state.begun_ms), state.tally.as_ref());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::records::ScrubPass;

    // I8
    #[test]
    fn findings_of_a_whole_pass_stand_until_another_is_whole() {
        let tally = |findings| {
            Some(ScrubTally {
                findings,
                ..ScrubTally::default()
            })
        };
        let mut state = ScrubState::default();
        assert_eq!(findings(&state), 0);
        assert!(page(&state).contains("no pass"));
        state.last = Some(ScrubPass {
            tally: tally(2),
            begun_ms: 1,
            ended_ms: 9,
        });
        (state.begun_ms, state.tally) = (10, tally(0));
        assert_eq!(findings(&state), 2, "the pass under way has not been there yet");
        assert!(page(&state).contains("2 findings") && page(&state).contains("pass since 10 ms"));
        state.tally = tally(3);
        assert_eq!(findings(&state), 3);
    }
}
