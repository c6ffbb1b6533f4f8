//! Decides how long a range is left alone between two polls, by what an answer costs.

use std::time::Duration;

/// Sets the rest behind the smallest answer: about twice what a request without an answer costs
/// the two sides.
const LEAST: Duration = Duration::from_micros(500);
/// Sets the rest for each byte of an answer, in nanoseconds: a server reads and writes, and a
/// client reads, a byte in some four, so that the two are at work for a third of the time.
const EACH_BYTE: u64 = 8;
/// Limits the rest, and so how late a change of a very large range is seen.
const MOST: Duration = Duration::from_secs(2);
/// Limits the rest of a range whose polls are answered although nothing in it changes. The server
/// does so for names that are missing, at each change beside them.
const MOST_FOR_NOTHING: Duration = Duration::from_millis(25);
/// Tells an answer that waited for something: nothing was asked for in vain for this long.
const LATE: Duration = Duration::from_millis(100);

/// The pauses between the polls of one range. They grow with what an answer costs, and with
/// answers that tell nothing.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Counts the answers in a row that came soon and told nothing.
    in_vain: u32,
}

impl Rest {
    /// Returns how long to rest behind an answer of so many bytes, which came so late, and was
    /// told within that time. A range that changes all the time keeps neither side busy for more
    /// than about a third of the time, however large it is; a small one is read again at once.
    pub(super) fn behind(
        &mut self,
        waited: Duration,
        bytes: usize,
        telling: Duration,
        has_news: bool,
    ) -> Duration {
        let is_in_vain = !has_news && waited < LATE;
        self.in_vain = if is_in_vain { self.in_vain + 1 } else { 0 };
        let cost = LEAST + Duration::from_nanos(EACH_BYTE.saturating_mul(bytes as u64));
        let rest = cost.max(telling * 2).min(MOST);
        match self.in_vain {
            0 => rest,
            times => rest.max((LEAST * (1 << times.min(8))).min(MOST_FOR_NOTHING)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[test]
    fn a_rest_is_as_long_as_an_answer_is_dear() {
        let mut rest = Rest::default();
        let mut behind = |bytes, telling| rest.behind(SOON, bytes, telling, true);
        assert!(behind(300, Duration::ZERO) < Duration::from_millis(1), "one key");
        assert!(behind(100 * 550, Duration::ZERO) < Duration::from_millis(1), "a hundred keys");
        let large = behind(10_000 * 550, Duration::ZERO);
        assert!(large > 2 * Duration::from_millis(13 + 8), "what ten thousand keys were seen to cost");
        assert_eq!(behind(300, Duration::from_millis(70)), Duration::from_millis(140));
        assert_eq!(behind(usize::MAX, Duration::ZERO), MOST);
    }

    #[test]
    fn answers_in_vain_come_less_and_less_often() {
        let mut rest = Rest::default();
        let rests: Vec<_> = (0..20).map(|_| rest.behind(SOON, 0, Duration::ZERO, false)).collect();
        assert!(rests.is_sorted() && rests[1] > rests[0], "{rests:?}");
        assert_eq!(rests.last(), Some(&MOST_FOR_NOTHING));
        assert_eq!(rest.behind(SOON, 0, Duration::ZERO, true), LEAST, "a change");
        for _ in 0..2 {
            assert_eq!(rest.behind(Duration::from_secs(10), 0, Duration::ZERO, false), LEAST, "a wait");
        }
    }
}
