//! What every store promises, in terms of what its callers see.
//!
//! A backend runs the whole suite with one line, `store::conformance::suite!(its_backend)`, where `its_backend` makes a
//! [`Backend`] with nothing in it. Tests stand in folders by what they are about.

#![allow(clippy::unwrap_used)]

pub(crate) mod accepting;
pub(crate) mod queueing;
pub(crate) mod recording;
pub(crate) mod world;

use std::sync::Arc;

use async_trait::async_trait;

use super::Store;

/// Somewhere a store can be opened, and opened again after its process died.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
}

/// Runs every test of the suite on the backend that `$make` returns.
macro_rules! suite {
    ($make:path) => {
        $crate::store::conformance::tests_of!($make, accepting:
            an_accepted_event_and_its_deliveries_are_found_by_the_ids_returned,
            ids_increase_in_the_order_of_acceptance,
            an_idempotency_key_is_accepted_once_within_its_span,
            an_idempotency_key_repeated_within_one_call_is_accepted_once,
            an_external_id_is_accepted_once_while_history_is_kept,
            keys_and_external_ids_of_two_tenants_do_not_meet,
            parallel_acceptances_get_distinct_ids_and_lose_nothing,
            numbers_go_on_after_a_restart_even_when_the_clock_went_back,
            an_event_without_deliveries_is_kept,
            a_payload_is_given_back_byte_for_byte,
        );
        $crate::store::conformance::tests_of!($make, queueing:
            begin_parks_what_a_dead_process_held,
            begin_removes_temporary_webhooks_and_cancels_what_waited_for_them,
            refill_takes_what_is_due_longest_first,
            refill_in_order_stops_at_the_first_that_is_not_due,
            refill_by_key_keeps_back_only_what_follows_a_waiting_row_of_its_key,
            refill_by_key_gives_each_key_from_its_start_however_it_is_cut,
            a_retry_by_hand_frees_what_waited_behind_it,
            refill_obeys_rows_and_bytes_but_gives_at_least_one,
            refill_shares_one_event_among_its_deliveries,
            refill_never_gives_a_held_row_twice,
            released_deliveries_are_parked_and_uncounted,
            a_retry_by_hand_keeps_the_schedule,
            a_finished_delivery_can_be_tried_once_more,
            a_retry_of_what_is_due_or_held_changes_nothing,
            a_canceled_delivery_ends_and_cannot_be_canceled_again,
            pending_deliveries_of_a_webhook_are_canceled_in_bounded_steps,
            by_hand_reaches_only_into_its_scope,
        );
        $crate::store::conformance::tests_of!($make, recording:
            a_success_moves_the_delivery_to_history_with_its_attempt,
            a_retry_parks_the_delivery_and_keeps_the_attempt,
            every_attempt_of_a_delivery_is_kept_in_order,
            an_outcome_of_what_is_not_held_changes_nothing,
            one_lost_row_does_not_disturb_the_others_of_its_batch,
            a_delivery_canceled_without_an_attempt_says_why,
            a_release_counts_nothing,
            every_field_of_an_attempt_is_kept,
        );
    };
}

macro_rules! tests_of {
    ($make:path, $module:ident: $($test:ident),+ $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let world = $crate::store::conformance::world::World::new(Box::new($make())).await;
                    $crate::store::conformance::$module::$test(world).await;
                }
            )+
        }
    };
}

pub(crate) use {suite, tests_of};
