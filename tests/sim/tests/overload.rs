//! Graceful overload: thousands of queueings at once, and what may not be felt of them.

use windlass_sim::{Crowd, overload};

const CROWD: Crowd = Crowd { full: 4_000, refused: 300, good: 300, backlog_max: 200, held_max: 10_000 };

#[test]
fn a_namespace_without_room_and_pods_that_are_refused_delay_nobody_else() {
    // Found here: launches that waited for quota filled the backlog, and nothing else was taken in any more.
    let alone = overload(1, Crowd { full: 0, refused: 0, ..CROWD });
    let busy = overload(1, CROWD);
    assert_eq!((&alone.broken, &busy.broken), (&None, &None));
    assert_eq!((alone.good_ended, busy.good_ended, busy.refused_ended), (300, 300, 300), "{busy:?}");
    // One second of passes and claims for 4,300 others; not one second for each of them.
    assert!(busy.longest_wait_ms < alone.longest_wait_ms + 5_000, "{alone:?} {busy:?}");
    // Once there is room, the rest goes as well.
    assert_eq!((alone.left, busy.left), (0, 0), "{busy:?}");
}

#[test]
fn what_waits_for_room_is_bounded_and_the_rest_stays_in_the_database() {
    let busy = overload(2, Crowd { held_max: 1_000, good: 0, refused: 0, ..CROWD });
    assert_eq!(busy.broken, None);
    // Waiting, being claimed in one batch, and having its turn.
    assert!((1_200..1_400).contains(&busy.launches_held), "{busy:?}");
    assert!(busy.items_held < 1_000, "{busy:?}");
    assert_eq!(busy.left, 0, "{busy:?}");
}
