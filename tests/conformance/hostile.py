"""Hostile input to HTTP (A), files and ranges (B), radio (G) and resources (L): the tests of each row.

What concerns live channels, packaging and the rest of L is the business of those wings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What holds a row, or why nothing does yet."""

    tests: tuple[str, ...] = ()
    later: str = ""


def held(*tests: str) -> Row:
    return Row(tests)


HTTP = "test_hostile_http.py::"
SERVER = "test_hostile_server.py::"
FILES = "test_http_files.py::"
WIRE = "test_wire.py::"
SHORTCUT = "test_shortcut.py::"
RADIO = "test_hostile_radio.py::"
SOURCES = "test_radio_sources.py::"
FALLBACK = "test_radio_fallback.py::"
ICY = "test_icy.py::"

_FRAMING = HTTP + "test_ambiguous_framing_is_refused_and_nothing_behind_it_is_answered"
_FAULTY = HTTP + "test_a_faulty_head_for_a_file_that_is_open_is_refused_like_any_other"
_HEADS = WIRE + "test_a_faulty_head_is_refused_and_the_connection_closed"
_UNSEEN = FILES + "test_what_may_not_be_seen_is_as_if_it_were_not_there"

ROWS = {
    "A1": held(_FRAMING),
    "A2": held(_FRAMING, HTTP + "test_a_transfer_coding_that_is_not_known_is_501", _HEADS),
    "A3": held(_FRAMING),
    "A4": held(HTTP + "test_a_chunk_that_is_none_never_becomes_a_body"),
    "A5": held(_FRAMING, _FAULTY, HTTP + "test_lines_end_with_crlf"),
    "A6": held(_HEADS, _FAULTY),
    "A7": held(_HEADS, _FAULTY, HTTP + "test_another_protocol_is_refused_at_once"),
    "A8": held(HTTP + "test_heads_beyond_the_limits_are_refused_while_they_come"),
    "A9": held(HTTP + "test_slow_heads_are_timed_out_and_others_are_served_meanwhile"),
    "A10": held(
        HTTP + "test_slow_heads_are_timed_out_and_others_are_served_meanwhile",
        WIRE + "test_a_connection_without_a_request_is_closed_without_a_word",
    ),
    "A11": held(
        RADIO + "test_a_source_that_stalls_with_an_open_socket_loses_its_place",
        RADIO + "test_a_source_that_sends_a_byte_now_and_then_loses_its_place",
    ),
    "A12": held(HTTP + "test_slow_readers_of_a_huge_file_cost_little_and_hold_nobody_up"),
    "A13": held(HTTP + "test_a_thousand_pipelined_requests_are_answered_in_order_and_cost_no_memory"),
    "A14": held(
        SOURCES + "test_a_refusal_has_its_exact_length_and_closes",
        RADIO + "test_wrong_passwords_by_the_hundred_change_nothing",
    ),
    "A15": held(HTTP + "test_what_follows_an_upgrade_is_no_second_request"),
    "A16": held(WIRE + "test_a_header_field_cannot_be_split"),
    "A17": held(SERVER + "test_a_request_is_one_line_of_the_log_without_control_characters"),
    "A18": Row(later="no HTTP/2 yet"),
    "B1": held(
        HTTP + "test_thousands_of_ranges_are_ignored_in_linear_time",
        FILES + "test_a_hostile_set_gets_the_file_once",
    ),
    "B2": held(HTTP + "test_overlapping_ranges_never_send_more_than_the_file"),
    "B3": held(
        HTTP + "test_numbers_are_digits_of_any_length",
        FILES + "test_a_range_that_does_not_parse_is_ignored",
        FILES + "test_one_range_is_exactly_its_bytes",
    ),
    "B4": held(
        FILES + "test_if_range_needs_the_very_same_version",
        FILES + "test_a_file_changed_just_now_has_a_weak_tag",
    ),
    "B5": held(_UNSEEN, FILES + "test_an_absolute_form_target_is_the_same_file"),
    "B6": held(HTTP + "test_a_sibling_of_the_library_is_not_in_it"),
    "B7": held(HTTP + "test_links_that_go_in_circles_and_files_of_others_are_not_there", _UNSEEN),
    "B8": held(HTTP + "test_links_that_go_in_circles_and_files_of_others_are_not_there", _UNSEEN),
    "B9": held(
        SHORTCUT + "test_a_file_that_shrinks_ends_the_connection_short",
        WIRE + "test_a_file_that_shrinks_ends_the_connection_short",
        SHORTCUT + "test_a_replaced_file_is_noticed_within_a_second",
    ),
    "B10": held(HTTP + "test_links_that_go_in_circles_and_files_of_others_are_not_there", _UNSEEN),
    "B11": held(
        HTTP + "test_methods_that_no_file_has",
        FILES + "test_other_methods_are_not_allowed",
        FILES + "test_options_names_the_methods",
    ),
    "B12": held(
        HTTP + "test_a_file_larger_than_any_disk_has_its_last_bytes",
        FILES + "test_an_empty_file_has_no_range",
    ),
    "G1": held(
        ICY + "test_what_could_harm_a_player_is_taken_out_of_titles",
        ICY + "test_a_title_that_is_too_long_is_cut_at_a_characters_edge",
        ICY + "test_any_title_makes_a_block_with_two_fields",
    ),
    "G2": held(
        "test_radio.py::test_titles_are_only_sent_to_those_who_ask",
        "test_radio.py::test_titles_are_only_for_those_who_ask_with_a_single_one",
    ),
    "G3": held(
        SOURCES + "test_a_source_of_the_old_protocol_is_answered_at_once",
        SOURCES + "test_a_refusal_has_its_exact_length_and_closes",
        RADIO + "test_wrong_passwords_by_the_hundred_change_nothing",
    ),
    "G4": Row(later="mounts call nobody back; heads that are too long are A8"),
    "G5": held(SOURCES + "test_a_refusal_has_its_exact_length_and_closes"),
    "G6": held(SOURCES + "test_titles_are_only_taken_with_the_sources_password"),
    "G7": held(
        RADIO + "test_a_crowd_whose_process_is_stopped_is_dropped",
        "test_radio_faults.py::test_of_a_crowd_those_that_stop_reading_are_dropped_and_the_others_miss_nothing",
    ),
    "G8": held(
        FALLBACK + "test_a_source_of_another_codec_ends_the_listeners_of_the_first",
        FALLBACK + "test_a_picture_of_16_mb_in_the_stream_is_dropped",
        RADIO + "test_sources_that_are_killed_and_come_back_otherwise_cost_no_listener",
        RADIO + "test_a_source_of_garbage_is_sent_away",
    ),
    "G9": held(FALLBACK + "test_a_station_that_would_hear_itself_is_refused"),
    "G10": held(RADIO + "test_children_have_no_connection_of_the_server"),
    "G11": held("test_radio.py::test_the_status_is_json_that_is_safe_inside_html"),
    "L1": held(SERVER + "test_a_server_without_descriptors_does_not_spin_and_recovers"),
    "L4": held(
        HTTP + "test_connections_beyond_the_limit_are_told_so_and_the_others_go_on",
        HTTP + "test_slow_readers_of_a_huge_file_cost_little_and_hold_nobody_up",
    ),
    "L8": Row(later="needs 100,000 connections of one machine: a benchmark, not a test"),
    "L9": held(SERVER + "test_paths_that_nobody_knows_do_not_grow_the_metrics"),
    "L12": held(HTTP + "test_connections_to_a_vanished_client_are_noticed_by_the_kernel"),
    "L13": Row(later="comes with the tests of clients over a bad network"),
}
"""By the rows' names."""
