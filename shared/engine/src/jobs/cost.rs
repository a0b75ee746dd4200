//! What calls cost the thread that the objects of a process share, for [`crate::breath`].

use tidegate_protocol::calls::jobs::Call;

use crate::company::Company;

/// What the calls may cost that are decided between two looks at sockets and timers where a tenant has the process to itself:
/// the ends of 128 attempts, which start as many, or 256 requests of a batch. What shares a turn shares its commit, and the
/// calls of executors and hubs that follow: with an eighth of it a shard does three fifths of the jobs.
pub const COST_ALONE_MAX: usize = 256;

/// The same where others are there: the ends of four attempts, which start as many, in a millisecond; or eight requests of a
/// batch, in a third of that. Beside batches of 500 requests, in processes that had just begun, a neighbour's p99
/// was 1.06 times that of one alone, and 1.3 times with 12; with 32 it was 1.4 to 1.8 times, and with what a tenant alone may
/// do more than twice. A shard does three quarters of the single jobs that it does with 12.
const COST_MAX: usize = 8;

/// What calls may cost that are decided between two looks.
#[must_use]
pub fn allowance(company: Company) -> usize {
    match company {
        Company::Alone => COST_ALONE_MAX,
        Company::Others => COST_MAX,
    }
}

/// What all calls may cost that are decided before a look which is waited for: four of them. An object that is called now
/// and then answers at once; one that is called all the time decides what comes between two looks in one turn. With 1,000
/// progress events a second, which keep the thread busy, that made the wait of most of them a third of what it was.
pub const COST_EARLY: usize = 8;

/// What a call costs, in half of what the end of an attempt takes. A request of a batch is written with others: most of what a
/// turn of three of them takes is the turn. Such turns took 5.8 % of the thread under a flood of 1,000 jobs a second in
/// batches; those of eight take 2.4 %.
#[must_use]
pub fn cost(call: &Call) -> usize {
    match call {
        Call::Enqueue(enqueue) if enqueue.job.batch.is_some() => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::batch_part_max;

    #[test]
    fn with_company_an_object_and_a_hub_do_less_at_a_time_but_never_nothing() {
        assert!(COST_EARLY <= allowance(Company::Others) && allowance(Company::Others) < allowance(Company::Alone));
        assert!(
            1 <= batch_part_max(Company::Others) && batch_part_max(Company::Others) < batch_part_max(Company::Alone)
        );
        for company in [Company::Alone, Company::Others] {
            let part = batch_part_max(company);
            assert!(part <= allowance(company), "a part of a batch, at 1 each, is one turn");
        }
    }
}
