//! Rows of jobs that the version before wrote.

use crate::database::vectors::are_still_read;

#[test]
fn rows_of_the_version_before_are_still_read() {
    are_still_read::<crate::jobs::batches::Batch>("jobs::batches::Batch");
    are_still_read::<crate::jobs::change::Control>("jobs::change::Control");
    are_still_read::<crate::jobs::history::Reported>("jobs::history::Reported");
    are_still_read::<crate::jobs::spread::Spread>("jobs::spread::Spread");
    are_still_read::<alloc::vec::Vec<crate::jobs::places::Given>>("Vec<jobs::places::Given>");
}
