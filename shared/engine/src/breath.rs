//! How much an object does before others of its process are heard.
//!
//! The platform's event loop looks at sockets and timers only when nothing else is ready. Parts in one process that call
//! each other, as a queue does in which the end of each job starts the next, can keep it from that for seconds: nobody else
//! is heard, and no timer fires, until a backlog is done. So an object does a bounded number of things, and holds back the
//! rest until it has waited for a timer: then the loop has looked.
//!
//! What comes while a look is waited for has a smaller allowance: under load, most of it waits for the look and then shares one
//! turn, which costs much less than a turn for each, while a thing that comes alone is done at once.
//!
//! What things cost is told, not timed: only the object that has so much to do waits, and the clock of an object may stand
//! still.
//!
//! A tenant who is alone in its process may do more between two looks than one with company ([`super::company`]): it keeps
//! nobody but itself waiting, and what shares a turn costs less.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<T> {
    /// In this order, and in one turn.
    pub now: Vec<T>,
    /// Whether the shell is to wait for a look, and to say so with [`Breath::looked`] once it has.
    pub look: bool,
}

/// What an object does between two looks at sockets and timers.
#[derive(Debug)]
pub struct Breath<T> {
    /// What may be done between two looks at most, in the unit of `cost`.
    most: usize,
    /// What may have been done at most for a thing to be done before a look that is waited for.
    early: usize,
    /// What a thing costs.
    cost: fn(&T) -> usize,
    /// What was done since the last look has cost.
    done: usize,
    /// What is held back until the next one, in the order in which it came.
    held: VecDeque<T>,
    /// Whether somebody waits for a look.
    looking: bool,
}

impl<T> Breath<T> {
    /// That of an object which has done nothing yet. Between two looks it does things that cost `most` in all, or a single
    /// one that costs more; and what comes while it waits for a look is done before that only as far as all that was done
    /// costs `early`.
    #[must_use]
    pub fn new(most: usize, early: usize, cost: fn(&T) -> usize) -> Self {
        Self {
            most,
            early,
            cost,
            done: 0,
            held: VecDeque::new(),
            looking: false,
        }
    }

    /// From now on, what is done between two looks costs `most` in all.
    pub fn allow(&mut self, most: usize) {
        self.most = most;
    }

    /// There is more to do. What does not fit before the next look is done after it, and nothing overtakes it.
    pub fn take(&mut self, things: Vec<T>) -> Step<T> {
        self.held.extend(things);
        self.step()
    }

    /// The loop has looked at sockets and timers.
    pub fn looked(&mut self) -> Step<T> {
        self.looking = false;
        self.done = 0;
        self.step()
    }

    fn step(&mut self) -> Step<T> {
        let most = if self.looking {
            self.early.min(self.most)
        } else {
            self.most
        };
        let mut now = Vec::new();
        while let Some(next) = self.held.front() {
            // Nothing costs nothing: a look would never come due.
            let done = self.done.saturating_add((self.cost)(next).max(1));
            if done > most && self.done > 0 {
                break;
            }
            self.done = done;
            now.extend(self.held.pop_front());
        }
        let look = self.done > 0 && !self.looking;
        self.looking |= look;
        Step { now, look }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn step<T: Clone>(now: &[T], look: bool) -> Step<T> {
        Step {
            now: now.to_vec(),
            look,
        }
    }

    #[test]
    fn what_does_not_fit_is_done_after_a_look_and_in_its_order() {
        let mut breath = Breath::new(3, 3, |_| 1);
        assert_eq!(breath.take(vec![1, 2]), step(&[1, 2], true));
        assert_eq!(breath.take(vec![3, 4]), step(&[3], false));
        assert_eq!(breath.take(vec![5, 6, 7]), step(&[], false));
        assert_eq!(breath.looked(), step(&[4, 5, 6], true));
        assert_eq!(breath.looked(), step(&[7], true));
        assert_eq!(
            breath.looked(),
            step(&[], false),
            "an object with nothing to do waits for nothing"
        );
        assert_eq!(breath.take(vec![8]), step(&[8], true));
    }

    #[test]
    fn what_costs_more_than_may_be_done_is_done_alone() {
        let mut breath = Breath::new(4, 4, |cost: &usize| *cost);
        assert_eq!(breath.take(vec![3, 2, 9, 1, 0, 0]), step(&[3], true));
        assert_eq!(breath.looked(), step(&[2], true));
        assert_eq!(breath.looked(), step(&[9], true));
        assert_eq!(breath.looked(), step(&[1, 0, 0], true));
        assert_eq!(breath.take(vec![2]), step(&[], false));
        assert_eq!(breath.looked(), step(&[2], true));
        assert_eq!(breath.looked(), step(&[], false));
    }

    #[test]
    fn what_comes_while_a_look_is_waited_for_shares_the_turn_after_it_but_for_the_first() {
        let mut breath = Breath::new(9, 2, |_| 1);
        assert_eq!(breath.take(vec![1]), step(&[1], true));
        assert_eq!(breath.take(vec![2]), step(&[2], false));
        assert_eq!(breath.take(vec![3]), step(&[], false));
        assert_eq!(breath.take(vec![4, 5]), step(&[], false));
        assert_eq!(breath.looked(), step(&[3, 4, 5], true));
        assert_eq!(breath.take(vec![6]), step(&[], false));
        assert_eq!(breath.looked(), step(&[6], true));
        assert_eq!(breath.looked(), step(&[], false));
        assert_eq!(
            breath.take(vec![7, 8, 9]),
            step(&[7, 8, 9], true),
            "what comes together is done together"
        );
    }

    #[test]
    fn an_allowance_that_changes_counts_from_the_next_thing_on() {
        let mut breath = Breath::new(4, 2, |_| 1);
        assert_eq!(breath.take(vec![1, 2, 3, 4, 5, 6, 7, 8, 9]), step(&[1, 2, 3, 4], true));
        breath.allow(2);
        assert_eq!(breath.looked(), step(&[5, 6], true));
        breath.allow(1);
        assert_eq!(
            breath.take(vec![]),
            step(&[], false),
            "a smaller one takes nothing back"
        );
        assert_eq!(breath.looked(), step(&[7], true));
        breath.allow(4);
        assert_eq!(breath.take(vec![10]), step(&[8], false));
        assert_eq!(breath.looked(), step(&[9, 10], true));
    }

    proptest! {
        /// Nothing is lost, doubled or overtaken; between two looks no more is done than is allowed; and whatever is held
        /// back has somebody who waits for the look that lets it go.
        #[test]
        fn nothing_is_lost_and_nobody_is_kept_out(
            early in 0..8usize,
            events in proptest::collection::vec((0..8usize, proptest::option::of(0..12usize)), 1..60),
        ) {
            let mut breath = Breath::new(7, early, |_| 1);
            let (mut given, mut done, mut since, mut looking) = (0, 0, 0, false);
            let mut events = events.into_iter();
            loop {
                let (most, event) = events.next().map_or((7, None), |(most, event)| (most, Some(event)));
                breath.allow(most);
                let step = match event {
                    Some(Some(count)) => {
                        let things = (given..given + count).collect();
                        given += count;
                        breath.take(things)
                    }
                    // A look comes only where one is waited for.
                    Some(None) if !looking => continue,
                    None if !looking => break,
                    Some(None) | None => {
                        (since, looking) = (0, false);
                        breath.looked()
                    }
                };
                since += step.now.len();
                prop_assert!(since <= most.max(1) || step.now.is_empty(), "{since} between two looks");
                for thing in step.now {
                    prop_assert_eq!(thing, done);
                    done += 1;
                }
                prop_assert!(!(step.look && looking), "one look is waited for at a time");
                looking |= step.look;
                prop_assert!(looking || done == given, "what is held back is forgotten");
            }
            prop_assert_eq!(done, given);
        }
    }
}
