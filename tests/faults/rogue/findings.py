"""Which test plays which finding of the attacker's trial, what came of it, and who is named.

A test checks that each of these tests exists.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Played:
    """One attack."""

    finding: str
    what: str
    outcome: str
    named: str
    tests: tuple[str, ...]
    """Paths below `tests/`, with the name of the test."""


ROGUE = "faults/test_rogue.py"
REAL = "integration/test_real_faults.py"
GATE = "server/rounds/checks/test_update_gate.py"
JUDGED = "server/campaign/verdict/test_judging.py"
ENDS = "server/campaign/running/test_campaign_ends.py"
MALFORMED = "server/test_malformed_replies.py"
FLOODS = "server/runtime/test_gateway_floods.py"
ASIDE = "client/intake/fhir/pull/test_set_aside.py"

ALL = (
    Played(
        "1", "a hospital sets its own weight: 10^12, 10^9 or fewer than no studies",
        "it weighs what it registered, at most its share; published", "the hospital, if the count is impossible",
        (
            f"{ROGUE}::test_no_hospital_sets_its_own_weight",
            f"{REAL}::test_a_hospital_that_claims_any_number_of_studies_weighs_what_it_registered",
            "server/membership/test_registration.py::test_growth_beyond_the_drift_waits_for_a_person_and_then_counts",
        ),
    ),
    Played(
        "1", "a version is published without having been judged",
        "every version is judged, trained and retrained ones too; aggregates are gated", "the hospital that vetoes",
        (
            f"{JUDGED}::test_a_first_model_must_be_better_than_chance_where_that_can_be_told",
            f"{JUDGED}::test_a_model_that_is_as_good_is_published_and_one_hospital_alone_can_stop_a_worse_one",
            f"{JUDGED}::test_an_average_and_a_candidate_are_gated_as_replies_are",
        ),
    ),
    Played(
        "1", "one hospital's validation loss chooses the first weights of a training",
        "the median decides; published", "nobody",
        (f"{ROGUE}::test_one_hospitals_validation_loss_does_not_choose_the_first_weights_of_a_training",),
    ),
    Played(
        "2", "two hospitals with revocations",
        "one campaign by `relay`; both are forgotten", "nobody",
        (
            f"{ROGUE}::test_two_hospitals_with_revocations_are_one_campaign_that_ends",
            f"{REAL}::test_two_hospitals_with_revocations_are_forgotten_in_one_campaign",
        ),
    ),
    Played(
        "2", "a campaign is planned again without end",
        "tries back off, count towards the limits, and end in an escalation", "the hospital that is waited for",
        (
            f"{ENDS}::test_a_campaign_that_waits_for_somebody_waits_longer_each_time_and_then_ends",
            "server/campaign/test_policy.py::test_a_retraining_that_patients_wait_for_is_not_begun_again_without_end_when_it_fails",
            "server/campaign/test_policy.py::test_a_hospital_that_announces_for_ever_and_does_not_unlearn_is_not_retrained_around_for_ever",
            f"{ROGUE}::test_a_network_that_is_down_for_hours_is_no_series_of_crashes",
        ),
    ),
    Played(
        "3", "malformed replies, of every kind and form",
        "the reply is refused, the round continues", "the sender, by site, figure and reason",
        (
            f"{ROGUE}::test_one_malformed_audit_ends_nobodys_campaign_and_is_put_down_to_its_sender",
            f"{MALFORMED}::test_an_impossible_audit_is_refused_by_name_and_the_others_are_merged",
            f"{MALFORMED}::test_an_odd_reply_is_put_down_to_who_sent_it_and_the_round_goes_on",
            "common/protocol/test_bounds.py::test_every_field_of_what_a_site_sends_has_a_bound",
            "common/protocol/test_bounds.py::test_a_reply_that_is_far_too_large_in_any_place_is_refused_in_one_short_line",
        ),
    ),
    Played(
        "4a", "the parent is returned bit for bit, or hardly moved",
        "refused; the others are forgotten", "the hospital",
        (
            f"{ROGUE}::test_the_parent_returned_bit_for_bit_is_no_unlearning",
            f"{GATE}::test_an_unlearning_that_hardly_moved_anything_is_refused",
        ),
    ),
    Played(
        "4b", "a bystander claims ten million forgotten patients; a forgetting hospital more than it has",
        "refused, or counted as the studies that are registered", "the bystander",
        (
            f"{ROGUE}::test_a_bystander_that_says_it_forgot_ten_million_is_refused_by_name",
            f"{ROGUE}::test_a_million_patients_to_forget_count_as_the_studies_that_are_registered",
            f"{MALFORMED}::test_a_bystanders_claim_to_have_forgotten_patients_is_no_evidence",
            f"{MALFORMED}::test_a_forgetting_site_weighs_by_what_was_collected_and_claims_no_smaller_variance_than_that_allows",
        ),
    ),
    Played(
        "4c", "an attestation of an unlearning that was not computed",
        "an inspector computes it again on site, bit for bit", "the hospital",
        (
            "server/attestation/test_attestation.py::test_an_inspector_replays_an_attested_unlearning_on_site_bit_for_bit",
            "server/attestation/test_attestation.py::test_a_hospital_signs_no_attestation_that_binds_another_unlearning",
        ),
    ),
    Played(
        "4d", "an invented loss vetoes again and again",
        "`doctor` reports it; a person may overrule it with a reason", "the hospital",
        (
            "server/runtime/test_doctor.py::test_a_hospital_that_vetoes_or_sends_bad_replies_again_and_again_is_named",
            f"{ROGUE}::test_figures_of_a_hospital_that_was_set_aside_weigh_on_nobodys_result",
            "common/evidence/test_statements.py::test_a_statement_says_that_a_person_overruled_a_veto_and_only_then_has_the_field",
        ),
    ),
    Played(
        "4e", "secret canaries instead of trust",
        "measured ([result](../results/canaries.md)) and not built", "-",
        ("simulations/bench/power/test_canaries.py::test_canaries_tell_a_model_that_knows_them_from_one_that_never_saw_them",),
    ),
    Played(
        "5", "a hospital announces, and refuses or does not answer",
        "set aside after three tries; the others are forgotten in time", "the hospital; a refuser is suspended",
        (
            f"{ROGUE}::test_a_hospital_that_announces_and_will_not_unlearn_holds_up_nobody",
            f"{ENDS}::test_a_refuser_is_set_aside_and_suspended_and_the_other_hospital_is_forgotten_in_time",
            f"{ENDS}::test_somebody_elses_near_date_ends_the_waiting_for_a_refuser",
            "server/rounds/exchanges/test_holding.py::test_a_slow_hospital_has_a_budget_in_a_run_and_is_named",
        ),
    ),
    Played(
        "6", "a backdoor within the range of honest steps",
        "**passes**; three retention rounds wash part of it out", "the version names its writer",
        (
            "server/test_backdoored_update.py::test_what_is_left_a_small_backdoor_that_harms_no_test_patient_passes",
            "server/test_backdoored_update.py::test_a_boosted_backdoor_is_stopped_by_the_gate",
            "server/campaign/test_single_writer.py::test_no_round_before_the_fewest_is_chosen_however_good_it_looks",
        ),
    ),
    Played(
        "6", "accuracy of a class falls from .90 to .68",
        "vetoed by all sites together", "the classes and sites",
        (
            "server/test_veto.py::test_a_fall_of_one_class_from_90_to_68_percent_at_two_sites_of_20_patients_is_seen",
            "server/test_veto.py::test_what_is_too_little_at_each_site_is_enough_at_all_of_them_together",
        ),
    ),
    Played(
        "7", "fifty refused calls on an EHR's connection",
        "the connection works as before", "-",
        (
            "client/intake/grpc/test_gate.py::test_fifty_refused_calls_leave_the_connection_as_it_was",
            "client/intake/grpc/test_bad_requests.py::test_a_client_cannot_hold_all_streams_of_the_service",
        ),
    ),
    Played(
        "8", "a FHIR date that no calendar has",
        "that consent is set aside, the others are recorded", "the item, for the steward",
        (
            f"{ASIDE}::test_a_date_that_no_calendar_has_in_utc_blocks_no_other_withdrawal",
            f"{ASIDE}::test_garbage_in_any_field_of_one_of_twenty_consents_loses_none_of_the_others",
        ),
    ),
    Played(
        "9", "commands to the terminal in a hospital's text",
        "refused where a site speaks; shown harmlessly everywhere", "the hospital",
        (
            f"{ROGUE}::test_text_of_its_own_reaches_nobodys_terminal",
            "server/commands/test_campaign_commands.py::test_what_a_site_wrote_gives_the_terminal_no_command_and_no_line_of_its_own",
            "common/test_printable.py::test_every_text_becomes_one_harmless_line_and_stays_so",
            "common/test_printable.py::test_the_verifier_in_one_file_names_a_hostile_path_harmlessly",
        ),
    ),
    Played(
        "10", "floods before sign-in: half-open, idle and large requests",
        "time-outs, bounds by address and route, signature before the body", "-",
        (
            f"{FLOODS}::test_half_open_connections_of_one_address_leave_room_for_others_and_end_soon",
            f"{FLOODS}::test_headers_that_trickle_in_end_the_connection",
            f"{FLOODS}::test_each_route_has_its_own_bound_before_anything_is_read",
            f"{FLOODS}::test_nothing_of_a_stranger_is_read",
            "client/intake/grpc/test_flood.py::test_another_address_is_served_while_one_floods",
        ),
    ),
    Played(
        "11", "weights in SuperLink's write-ahead log", "gone after the checkpoint", "-",
        ("server/runtime/test_flower_database.py::test_deleted_weights_are_in_neither_file_once_the_log_is_emptied",),
    ),
    Played(
        "11", "weak Ed25519 keys", "not read", "-",
        ("common/evidence/test_weak_keys.py",),
    ),
    Played(
        "11", "a checkpoint that the log's own owner signed as a peer", "does not count", "-",
        ("common/evidence/test_examination.py::test_a_checkpoint_that_the_owner_alone_signed_is_no_peers",),
    ),
    Played(
        "11", "tokens of linkage without end, or while linkage is off; digests without end", "refused", "the hospital",
        (
            "client/consent/test_linkage.py",
            "server/membership/test_coordination.py::test_tokens_are_neither_kept_nor_handed_on_while_linkage_is_off",
            "common/protocol/test_bounds.py::test_a_call_with_a_list_beyond_its_bound_is_refused_by_the_name_of_the_field",
        ),
    ),
    Played(
        "11", "names are tried out at a hospital with an EHR's certificate",
        "cut off after 200 people, no revocation is hindered", "the client",
        ("client/intake/grpc/test_lookups.py::test_names_tried_out_at_the_service_are_cut_off_noted_and_hinder_no_revocation",),
    ),
    Played(
        "11", "lists with a key twice, with control characters, or replaced while they are read",
        "refused; read anew", "-",
        (
            "client/intake/test_inbox.py::test_a_signed_list_that_cannot_be_read_is_refused_with_a_reason",
            "client/intake/test_inbox.py::test_a_list_that_is_replaced_between_reading_and_moving_stays_and_is_read_anew",
            "common/learning/data/test_identifiers.py::test_what_no_identifier_is_gets_one_line_that_does_not_quote_it",
        ),
    ),
    Played(
        "11", "a FHIR id `..`", "held, one item for the steward", "-",
        (f"{ASIDE}::test_a_consent_without_a_proper_id_is_one_item_however_often_it_is_read",),
    ),
    Played(
        "11", "pickled weights in a folder of an encoder", "not read", "-",
        ("common/learning/model/test_refused_encoder_folders.py::test_an_image_folder_that_does_not_fit_is_one_line_with_a_remedy",),
    ),
    Played(
        "11", "core files, dependencies that are not pinned, Ray at a hospital", "none", "-",
        (
            "deploy/test_requirements.py::test_no_service_leaves_a_core_file_with_weights_or_ids",
            "deploy/test_requirements.py::test_every_dependency_is_pinned_by_hash_within_its_range",
            "deploy/test_requirements.py::test_hospital_and_coordinator_import_nothing_that_simulations_alone_need",
        ),
    ),
    Played(
        "all", "a fuzzer answers for one of four hospitals, in whole campaigns",
        "[result](../results/rogue.md)", "the hospital", (f"{ROGUE}::test_random_rogues_break_no_campaign",),
    ),
)  # fmt: skip
