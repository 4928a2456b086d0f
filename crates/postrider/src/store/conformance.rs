//! What every store promises, in terms of what its callers see.
//!
//! A backend runs the whole suite with one line, `store::conformance::suite!(its_backend)`, where `its_backend` makes a
//! [`Backend`] with nothing in it. Tests stand in folders by what they are about.

#![allow(clippy::unwrap_used)]

pub(crate) mod accepting;
pub(crate) mod accounts;
pub(crate) mod configuring;
pub(crate) mod gateway;
pub(crate) mod listing;
pub(crate) mod queueing;
pub(crate) mod receiving;
pub(crate) mod recording;
pub(crate) mod replaying;
pub(crate) mod statistics;
pub(crate) mod sweeping;
pub(crate) mod world;

use std::sync::Arc;

use async_trait::async_trait;

use super::Store;

/// Somewhere a store can be opened, and opened again after its process died.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
}

/// Tests of what is built on the store run on SQLite, and once more with `POSTRIDER_TEST_STORE=postgres`.
pub(crate) fn chosen() -> Box<dyn Backend> {
    match std::env::var("POSTRIDER_TEST_STORE").as_deref() {
        Ok("postgres") => Box::new(super::postgres::tests::Database::new()),
        Ok(other) => panic!("POSTRIDER_TEST_STORE={other}: only `postgres` is known"),
        Err(_) => Box::new(super::sqlite::tests::backend()),
    }
}

/// Runs every test of the suite on the backend that `$make` returns.
macro_rules! suite {
    ($(#[$attribute:meta])* $make:path) => {
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, accepting:
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
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, queueing:
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
            what_is_done_by_hand_is_audited_and_nothing_else,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, recording:
            a_success_moves_the_delivery_to_history_with_its_attempt,
            a_retry_parks_the_delivery_and_keeps_the_attempt,
            every_attempt_of_a_delivery_is_kept_in_order,
            an_outcome_of_what_is_not_held_changes_nothing,
            one_lost_row_does_not_disturb_the_others_of_its_batch,
            of_two_ends_of_one_delivery_the_first_is_recorded,
            a_delivery_canceled_without_an_attempt_says_why,
            a_release_counts_nothing,
            every_field_of_an_attempt_is_kept,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, listing:
            deliveries_are_listed_newest_first_pending_and_finished_together,
            every_filter_of_deliveries_gives_exactly_what_matches,
            every_filter_of_events_gives_exactly_what_matches,
            paging_neither_misses_nor_repeats_while_rows_arrive_and_finish,
            another_tenant_sees_nothing,
            deliveries_of_an_event_include_its_replays,
            an_event_is_found_by_the_publishers_own_id,
            an_id_with_other_random_bits_is_not_found,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, replaying:
            one_event_is_replayed_to_the_webhooks_named,
            an_original_replay_matches_finished_deliveries_in_its_window,
            a_bounded_count_looks_at_so_much_and_says_whether_that_was_all,
            a_current_replay_matches_events,
            a_replay_walks_every_match_once_while_others_arrive,
            steps_move_cursor_and_counters_and_survive_a_restart,
            a_canceled_replay_takes_no_further_step,
            replays_are_seen_only_in_their_scope,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, statistics:
            statistics_count_what_ended_in_the_window,
            statistics_are_told_for_webhook_tenant_and_platform,
            percentiles_are_within_the_promised_error,
            each_bucket_has_percentiles_of_its_own,
            webhooks_are_summed_up_apart_and_only_their_tenants,
            a_pulse_is_another_after_an_event_and_after_an_outcome,
            health_follows_the_order_of_attempts,
            tests_count_neither_in_statistics_nor_in_health,
            pending_is_counted_exactly,
            statistics_survive_a_restart,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, sweeping:
            days_past_retention_are_dropped,
            a_pending_delivery_holds_its_day,
            a_replayed_delivery_holds_the_day_of_its_event,
            a_sweep_is_bounded_and_says_what_remains,
            statistics_outlive_history,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, receiving:
            a_received_request_is_kept_with_the_event_it_becomes,
            a_body_that_is_no_json_is_given_back_byte_for_byte,
            only_received_events_have_a_raw_body,
            a_raw_body_counts_when_a_lane_is_refilled,
            a_replay_of_a_received_event_has_its_raw_body,
            what_does_not_enter_is_kept_without_an_event,
            numbers_go_on_after_requests_that_were_kept_alone,
            a_repeat_is_kept_and_names_the_first_event,
            a_repeat_leaves_its_batch_and_other_tenants_alone,
            what_does_not_enter_neither_is_a_repeat_nor_makes_one,
            parallel_repeats_become_one_event_and_are_all_kept,
            a_kept_request_is_released_once,
            a_release_by_hand_keeps_the_verdict,
            a_release_of_what_has_entered_is_a_repeat,
            a_release_of_an_event_that_came_otherwise_names_that_one,
            a_release_reaches_only_what_its_tenant_has,
            parallel_releases_make_one_event,
            every_filter_of_received_requests_gives_exactly_what_matches,
            another_tenant_sees_no_received_request,
            a_page_of_received_requests_ends_at_its_bytes,
            failed_requests_are_walked_oldest_first_until_they_are_released,
            failed_requests_come_in_bounded_pieces,
            received_requests_go_with_their_day,
            a_sweep_of_many_received_requests_is_bounded,
            received_requests_of_a_deleted_tenant_stay_until_their_day_goes,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, gateway:
            objects_are_kept_as_they_were_put,
            a_name_is_taken_whatever_its_case_until_it_is_deleted,
            a_deleted_object_is_gone_with_its_use,
            a_tenants_objects_go_with_it,
            no_window_has_more_fires_than_allowed,
            a_delivery_that_asks_again_is_told_the_same,
            fires_at_once_are_counted_exactly,
            fires_that_no_longer_count_are_swept,
            a_firing_is_known_by_an_id_that_nobody_outside_sees,
            use_of_keys_adds_up,
            every_filter_of_the_route_log_gives_exactly_what_matches,
            the_route_log_goes_with_its_day,
            numbers_go_on_after_calls_that_were_logged_alone,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, accounts:
            a_user_is_kept_and_has_its_address_alone,
            a_session_is_found_by_its_hash_until_it_expires,
            a_session_that_was_ended_is_not_renewed,
            sessions_end_one_by_one_or_all_but_one,
            the_oldest_session_ends_for_one_too_many,
            a_link_is_used_once,
            an_owner_has_one_link_of_a_kind,
            an_owner_has_many_links_into_the_portal_listed_and_revoked,
            the_link_that_ends_first_goes_for_one_too_many,
            what_has_ended_is_swept,
        );
        $crate::store::conformance::tests_of!($(#[$attribute])* $make, configuring:
            what_was_put_is_the_configuration_after_a_restart,
            putting_again_replaces,
            an_external_id_of_another_tenant_is_a_conflict,
            a_deleted_tenant_takes_its_own_with_it,
            deleting_what_is_not_there_says_so_and_is_not_audited,
            every_change_is_audited_in_order,
            each_entry_of_the_audit_log_is_linked_to_the_one_before,
            entries_that_are_appended_at_once_make_one_chain,
            the_audit_log_is_filtered_and_paged,
            partners_are_paged,
            an_idempotent_reply_is_claimed_once_and_told_again,
            a_claim_of_a_dead_process_is_forgotten,
            a_claim_given_up_or_past_its_span_is_fresh_again,
            settings_are_kept,
            a_setting_is_replaced_only_if_it_is_as_thought,
            a_closed_store_says_so,
        );
    };
}

macro_rules! tests_of {
    ($(#[$attribute:meta])* $make:path, $module:ident: $($test:ident),+ $(,)?) => {
        $crate::store::conformance::tests_with!([$(#[$attribute])*] $make, $module: $($test),+);
    };
}

/// The attributes as one piece, since they repeat for each test.
macro_rules! tests_with {
    ($attributes:tt $make:path, $module:ident: $($test:ident),+) => {
        mod $module {
            $($crate::store::conformance::test_with!($attributes $make, $module, $test);)+
        }
    };
}

macro_rules! test_with {
    ([$(#[$attribute:meta])*] $make:path, $module:ident, $test:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $test() {
            let world = $crate::store::conformance::world::World::new(Box::new($make())).await;
            $crate::store::conformance::$module::$test(world).await;
        }
    };
}

pub(crate) use {suite, test_with, tests_of, tests_with};
