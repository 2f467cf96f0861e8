"""Which test tries which finding, and which tests are siblings of which kind of attack, by exact test id.

Findings are those of a review at 07f76d6, by its numbers. An id without parameters names all of a test's.
"""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One finding.

    Attributes:
        name: what was found, in a few words.
        tests: that fail if it comes back.
    """

    name: str
    tests: tuple[str, ...]


def _in(file: str, *names: str) -> tuple[str, ...]:
    """Ids of tests of one file."""
    return tuple(f"tests/attacks/test_{file}.py::test_{name}" for name in names)


_BOTH_READERS = _in("two_readers", "what_could_be_read_in_two_ways_is_refused")
FINDINGS: dict[int, Finding] = {
    1: Finding(
        "a model in onnxruntime's own format",
        _in("two_readers", "a_file_of_two_formats_is_refused", "every_session_pins_the_format"),
    ),
    2: Finding(
        "wire types are ignored",
        (*_BOTH_READERS, *_in("two_readers", "what_passes_is_what_protobuf_reads")),
    ),
    3: Finding(
        "a bomb of function identifiers",
        _in(
            "two_readers",
            "overloads_are_counted_as_onnxruntime_resolves_them",
            "colons_in_names_of_functions_are_refused",
        ),
    ),
    4: Finding(
        "operators that crash onnxruntime",
        _in("two_readers", "operators_outside_the_list_are_refused_and_can_be_allowed"),
    ),
    5: Finding(
        "a filter bank without features returns memory of others",
        _in("kernels", "a_filter_bank_without_features_returns_nothing_of_others"),
    ),
    6: Finding(
        "a manifest's text in YAML",
        _in("generated_text", "what_is_syntax_elsewhere_is_data_in_every_file", "labels_are_one_line_each"),
    ),
    7: Finding(
        "one device ends or silences the stream of all",
        _in("streams", "other_topics_score_the_same", "a_machine_of_a_pipe_has_its_own_kind_of_time"),
    ),
    8: Finding(
        "scores of another type are sent as FP32",
        (
            *_in("requests", "an_answer_of_another_type_is_not_sent_as_fp32"),
            *_in("served_bundles", "other_scores_are_refused_when_loaded"),
        ),
    ),
    9: Finding(
        "bodies that drip after an early answer",
        _in(
            "slow_clients",
            "a_client_that_sends_slowly_is_cut_off_at_the_deadline",
            "honest_clients_are_answered_while_slow_ones_crowd",
        ),
    ),
    10: Finding(
        "answers that nobody reads",
        _in("slow_clients", "an_unread_answer_counts_until_the_deadline_and_is_cut_off"),
    ),
    11: Finding(
        "rehearsal and load open the path separately",
        _in(
            "served_bundles", "what_was_rehearsed_is_what_is_loaded", "a_bundle_of_another_hash_is_not_loaded"
        ),
    ),
    12: Finding(
        "a file that becomes a pipe",
        _in("files", "a_file_that_becomes_a_pipe_after_the_listing_does_not_block"),
    ),
    13: Finding(
        "memory of streams is bounded in lines",
        _in(
            "streams",
            "the_backlog_is_bounded_in_bytes",
            "samples_of_one_moment_are_not_held_without_bound",
            "a_long_lateness_holds_a_bounded_number_of_bytes",
            "what_is_remembered_of_names_is_bounded",
        ),
    ),
    14: Finding(
        "Ray's front requires no signature",
        _in("ray_front", "every_process_requires_the_signature", "web_pages_do_not_get_through"),
    ),
    15: Finding(
        "two writers of one text file",
        _in("files", "two_writers_of_one_file_do_not_tear_it", "a_planted_link_is_not_written_through"),
    ),
    16: Finding(
        "a reader during a replacement",
        _in("files", "readers_during_replacements_always_get_a_whole_bundle"),
    ),
    17: Finding("an offer to upgrade", _in("requests", "an_offer_to_upgrade_is_ignored")),
    18: Finding(
        "lone surrogates",
        (
            *_in("requests", "half_a_surrogate_pair_is_a_bad_request"),
            *_in("generated_text", "no_string_of_a_manifest_holds_more_than_a_line_of_text"),
        ),
    ),
    19: Finding(
        "work for clients that left",
        _in(
            "slow_clients",
            "work_of_clients_that_vanish_is_dropped",
            "an_explanation_that_nobody_waits_for_is_ended",
        ),
    ),
    20: Finding(
        "descriptors end before connections", _in("slow_clients", "health_and_reloads_keep_descriptors")
    ),
    21: Finding(
        "the checker's own cost",
        _in(
            "opening_cost",
            "everything_that_is_read_counts_as_a_field",
            "a_field_that_comes_without_end_is_refused_at_its_second",
        ),
    ),
    22: Finding("escape sequences on the terminal", _in("generated_text", "nothing_moves_the_cursor")),
    23: Finding("`--on` leaves processes", _in("remote_ends", "nothing_is_left")),
    24: Finding(
        "a topic names any machine", _in("streams", "bound_topics_name_the_machine_whatever_a_message_says")
    ),
    25: Finding(
        "a quadratic check of headers", _in("data_files", "a_header_of_many_columns_is_read_in_linear_time")
    ),
    26: Finding(
        "formulas in CSV",
        (
            *_in("generated_text", "a_cell_is_one_cell_and_no_formula"),
            *_in("streams", "a_name_is_no_syntax_in_csv"),
        ),
    ),
    27: Finding(
        "two classes of one name",
        (
            *_in("streams", "two_classes_of_one_name_keep_both_scores"),
            *_in("generated_text", "two_classes_of_one_name_are_refused"),
        ),
    ),
    28: Finding(
        "odd files and numbers end in a traceback",
        (
            *_in(
                "data_files",
                "an_array_that_claims_absurd_sizes_ends_in_a_line",
                "equal_values_of_a_parquet_file_are_counted_before_they_are_read",
                "odd_scopes_name_no_module_and_end_in_a_sentence",
            ),
            *_in("generated_text", "numbers_that_are_none_are_refused"),
        ),
    ),
    29: Finding("trailers become headers", _in("requests", "trailers_are_no_headers")),
    30: Finding("two Host headers", _in("requests", "the_host_is_named_once")),
    31: Finding("a log line per bad request", _in("requests", "malformed_requests_do_not_fill_the_log")),
    32: Finding(
        "signed overflow in `exp2_coarse`",
        _in("kernels", "scores_that_are_no_numbers_are_the_same_on_every_instruction_set"),
    ),
    33: Finding(
        "a failed `sign --make-key` leaves keys",
        _in("signatures", "a_failed_sign_with_make_key_leaves_no_key_pair"),
    ),
    34: Finding(
        "a signature binds neither name nor age", _in("signatures", "a_signature_binds_neither_name_nor_age")
    ),
}


def _each(test: tuple[str, ...], *parameters: str) -> tuple[str, ...]:
    return tuple(f"{test[0]}[{parameter}]" for parameter in parameters)


# Attacks of the same kind as the findings, which the review did not have.
SIBLINGS: dict[str, tuple[str, ...]] = {
    "two parsers that disagree": (
        *_each(
            _BOTH_READERS,
            "Loop behind a number",
            "Loop behind eight bytes",
            "an operator named twice",
            "a type above 32 bits",
            "values in two places",
            "a graph twice",
        ),
        *_in("two_readers", "both_names_of_the_onnx_domain_are_one", "packed_and_unpacked_lists_are_one"),
        *_in(
            "requests",
            "requests_that_two_parsers_read_differently_are_refused",
            "a_host_that_two_readers_take_for_different_ones_is_refused",
        ),
        *_in("opening_cost", "nodes_out_of_order_are_refused"),
        *_in("signatures", "nothing_of_a_manifest_is_parsed_before_its_signature_passes"),
    ),
    "checked by name, then used by name": (
        *_in(
            "files",
            "opening_never_blocks_and_opens_files_only",
            "an_opened_bundle_reads_what_it_was_or_fails",
            "what_another_writer_put_there_is_not_overwritten",
            "a_link_or_file_in_the_way_is_an_error_for_a_new_file",
            "a_key_pair_is_whole_or_not_there",
            "a_new_file_taken_for_a_leftover_is_made_again",
            "two_deployments_to_one_repository_keep_both_versions",
            "nothing_but_leftovers_of_this_target_is_removed",
            "what_a_killed_wheelhouse_left_goes_with_the_next",
        ),
        *_in("signatures", "a_signature_is_64_bytes_of_a_file"),
        *_in(
            "writers",
            "an_exchanging_attacker_gets_no_mixture",
            "an_exchanging_attacker_gets_no_unrehearsed_bundle_served",
        ),
    ),
    "bounds that count things instead of bytes or time": (
        *_each(
            _in("opening_cost", "a_small_file_opens_within_two_seconds_and_500_mb"),
            "an outer product",
            "constants in functions",
            "a sum of many inputs",
            "a column packed often",
            "many results of allowed size",
            "the shape of the input",
        ),
        *_in("opening_cost", "inputs_of_called_nodes_count_each_time"),
        *_in("kernels", "a_large_dilation_takes_no_more_memory_than_a_small_one"),
        *_in(
            "streams",
            "a_header_is_bounded",
            "a_message_is_bounded_in_bytes",
            "topics_of_a_backlog_count_in_bytes",
            "a_full_backlog_of_many_topics_is_as_fast_as_one_of_few",
        ),
        *_in(
            "data_files",
            "a_small_archive_does_not_unpack_to_a_large_one",
            "an_array_that_nothing_is_read_from_is_not_unpacked",
            "a_dictionary_page_that_expands_is_refused_by_its_own_size",
            "rows_that_take_no_bytes_are_refused",
            "one_row_of_endless_values_is_refused",
            "equal_texts_of_a_parquet_file_are_one_text",
            "one_endless_line_is_refused_in_linear_time",
        ),
        *_in(
            "bundles",
            "a_small_archive_does_not_unpack_to_a_large_bundle",
            "a_large_member_is_read_piece_by_piece",
        ),
        *_in("slow_clients", "bodies_that_are_only_announced_take_no_memory_from_others"),
    ),
    "state of one source shared by all": (
        *_in(
            "streams",
            "all_places_taken_first_leave_one_for_each_topic",
            "a_machine_that_cannot_be_scored_starts_anew",
            "each_source_has_its_own_counts",
            "a_flood_loses_only_its_own_lines_and_delays_nobody",
            "names_without_end_are_bounded_and_change_nobody",
            "a_backlog_without_end_is_bounded_and_changes_nobody",
        ),
        *_in(
            "slow_clients",
            "windows_of_others_do_not_fail_with_one",
            "a_large_request_yields_to_small_ones",
        ),
        *_in(
            "served_bundles",
            "a_reload_without_a_free_descriptor_is_tried_again",
            "a_bundle_that_fails_does_not_keep_others_from_being_reloaded",
        ),
    ),
    "text put into generated output": (
        *_in(
            "generated_text",
            "nor_does_a_key",
            "the_published_schema_refuses_them_too",
            "a_name_that_comes_twice_is_refused",
            "quoting_gives_the_same_text_back",
            "numbers_and_plain_names_stay",
        ),
        *_in("streams", "notes_are_bounded_and_plain"),
        "tests/runtime/measure/test_profile.py::test_names_are_escaped_in_the_page",
        *_in("served_bundles", "metadata_of_any_class_can_be_written"),
    ),
}
