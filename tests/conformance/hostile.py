"""Hostile input: HTTP (A), files (B), MP4 (C), playlists (D), ffmpeg (F), radio (G), keys (J), limits (L).

Crashes are M, and of the page (K) what other sites may read is here. The tests of each row, or why it has
none yet. What concerns publishers and events is the business of those wings.
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
HOSTILE_FILES = "test_hostile_files.py::"
CLIENTS = "test_hostile_clients.py::"
SERVER = "test_hostile_server.py::"
FILES = "test_http_files.py::"
CONDITIONS = "test_http_conditions.py::"
WIRE = "test_wire.py::"
WIRE_FILES = "test_wire_files.py::"
SHORTCUT = "test_shortcut.py::"
RADIO = "test_hostile_radio.py::"
SOURCES = "test_radio_sources.py::"
FALLBACK = "test_radio_fallback.py::"
NETWORKS = "test_bad_networks.py::"
ICY = "test_icy.py::"
LIVE = "test_live_hostile.py::"
FAULTS = "test_live_faults.py::"
PULLED = "test_live_sources.py::"
CAGE = "test_sandbox.py::"
FFMPEG = "test_process.py::"
CHECK = "test_check.py::"
DVR = "test_dvr.py::"
DISKS = "test_dvr_faults.py::"
RECORDINGS = "test_recordings.py::"
TIME = "test_live_time.py::"
CLI = "test_cli.py::"
WAITING = "test_live_waiting.py::"
DELIVERY = "test_live_delivery.py::"
DIRECTIVES = "test_directives.py::"
VOD = "test_vod_hostile.py::"
BOMBS = "test_bombs.py::"
SAMPLES = "test_samples.py::"
MOVIE = "test_movie.py::"
CODECS = "test_codecs.py::"
BOXES = "test_boxes.py::"
CREDENTIALS = "test_credentials.py::"
ACCESS = "test_policy.py::"
SITES = "test_other_sites.py::"

_FRAMING = HTTP + "test_ambiguous_framing_is_refused_and_nothing_behind_it_is_answered"
_FAULTY = HTTP + "test_a_faulty_head_for_a_file_that_is_open_is_refused_like_any_other"
_HEADS = WIRE + "test_a_faulty_head_is_refused_and_the_connection_closed"
_UNSEEN = FILES + "test_what_may_not_be_seen_is_as_if_it_were_not_there"

ROWS = {
    "A1": held(_FRAMING),
    "A2": held(_FRAMING, HTTP + "test_a_transfer_coding_that_is_not_known_is_501", _HEADS),
    "A3": held(_FRAMING),
    "A4": held(
        HTTP + "test_a_chunk_that_is_none_never_becomes_a_body",
        HTTP + "test_a_faulty_body_is_answered_once_and_in_its_turn",
        HTTP + "test_what_stands_around_chunks_is_limited",
    ),
    "A5": held(_FRAMING, _FAULTY, HTTP + "test_lines_end_with_crlf"),
    "A6": held(_HEADS, _FAULTY),
    "A7": held(_HEADS, _FAULTY, HTTP + "test_another_protocol_is_refused_at_once"),
    "A8": held(HTTP + "test_heads_beyond_the_limits_are_refused_while_they_come"),
    "A9": held(CLIENTS + "test_slow_heads_are_timed_out_and_others_are_served_meanwhile"),
    "A10": held(
        CLIENTS + "test_slow_heads_are_timed_out_and_others_are_served_meanwhile",
        WIRE + "test_a_connection_without_a_request_is_closed_without_a_word",
    ),
    "A11": held(
        RADIO + "test_a_source_that_stalls_with_an_open_socket_loses_its_place",
        RADIO + "test_a_source_that_sends_a_byte_now_and_then_loses_its_place",
        "test_slow_bodies.py::test_a_body_that_does_not_come_is_given_up",
    ),
    "A12": held(CLIENTS + "test_slow_readers_of_a_huge_file_cost_little_and_hold_nobody_up"),
    "A13": held(CLIENTS + "test_a_thousand_pipelined_requests_are_answered_in_order_and_cost_no_memory"),
    "A14": held(
        SOURCES + "test_a_refusal_has_its_exact_length_and_closes",
        RADIO + "test_wrong_passwords_by_the_hundred_change_nothing",
        CREDENTIALS + "test_the_time_of_a_comparison_tells_nothing_of_the_secret",
    ),
    "A15": held(HTTP + "test_what_follows_an_upgrade_is_no_second_request"),
    "A16": held(WIRE + "test_a_header_field_cannot_be_split"),
    "A17": held(SERVER + "test_a_request_is_one_line_of_the_log_without_control_characters"),
    # HTTP/2 itself, with what it lets clients do, is the business of the proxy (tests/cdn/http2.conf).
    "A18": held(
        HTTP + "test_frames_of_http_2_are_refused_once_and_never_read",
        HTTP + "test_an_upgrade_to_http_2_is_not_taken",
    ),
    "B1": held(
        HOSTILE_FILES + "test_thousands_of_ranges_are_ignored_in_linear_time",
        FILES + "test_a_hostile_set_gets_the_file_once",
    ),
    "B2": held(HOSTILE_FILES + "test_overlapping_ranges_never_send_more_than_the_file"),
    "B3": held(
        HOSTILE_FILES + "test_numbers_are_digits_of_any_length",
        FILES + "test_a_range_that_does_not_parse_is_ignored",
        FILES + "test_one_range_is_exactly_its_bytes",
    ),
    "B4": held(
        CONDITIONS + "test_if_range_needs_the_very_same_version",
        CONDITIONS + "test_a_file_changed_just_now_has_a_weak_tag",
    ),
    "B5": held(_UNSEEN, FILES + "test_an_absolute_form_target_is_the_same_file"),
    "B6": held(HOSTILE_FILES + "test_a_sibling_of_the_library_is_not_in_it"),
    "B7": held(HOSTILE_FILES + "test_links_that_go_in_circles_and_files_of_others_are_not_there", _UNSEEN),
    "B8": held(HOSTILE_FILES + "test_links_that_go_in_circles_and_files_of_others_are_not_there", _UNSEEN),
    "B9": held(
        SHORTCUT + "test_a_file_that_shrinks_ends_the_connection_short",
        WIRE_FILES + "test_a_file_that_shrinks_ends_the_connection_short",
        SHORTCUT + "test_a_replaced_file_is_noticed_within_a_second",
    ),
    "B10": held(HOSTILE_FILES + "test_links_that_go_in_circles_and_files_of_others_are_not_there", _UNSEEN),
    "B11": held(
        HOSTILE_FILES + "test_methods_that_no_file_has",
        FILES + "test_other_methods_are_not_allowed",
        FILES + "test_options_names_the_methods",
    ),
    "B12": held(
        HOSTILE_FILES + "test_a_file_larger_than_any_disk_has_its_last_bytes",
        FILES + "test_an_empty_file_has_no_range",
    ),
    "C1": held(
        VOD + "test_files_of_impossible_boxes_are_malformed",
        BOXES + "test_a_64_bit_size_smaller_than_the_header_or_past_the_end_is_malformed",
    ),
    "C2": held(
        VOD + "test_a_huge_moov_is_refused_before_it_is_read",
        BOMBS + "test_each_limit_of_an_index_refuses_the_file_in_one_line",
    ),
    "C3": held(
        SAMPLES + "test_a_count_larger_than_its_box_is_malformed_before_anything_is_allocated",
        SAMPLES + "test_a_count_of_sizes_larger_than_its_box_is_malformed",
        BOMBS + "test_what_a_file_says_that_it_holds_takes_no_memory",
    ),
    "C4": held(
        SAMPLES + "test_a_run_of_billions_is_cut_at_the_last_sample",
        SAMPLES + "test_billions_of_samples_of_one_size_are_refused_before_anything_is_allocated",
        VOD + "test_a_film_without_any_duration_is_refused_without_a_division_by_zero",
        BOMBS + "test_what_a_file_says_that_it_holds_takes_no_memory",
    ),
    "C5": held(
        MOVIE + "test_a_million_edits_are_refused_by_their_count",
        MOVIE + "test_boxes_that_are_missing_doubled_or_impossible_are_malformed",
        "test_vod_timeline.py::test_negative_composition_offsets_become_an_earlier_start_of_decoding",
    ),
    "C6": held(SAMPLES + "test_tables_that_do_not_agree_are_malformed"),
    "C7": held(
        MOVIE + "test_boxes_that_are_missing_doubled_or_impossible_are_malformed",
        BOMBS + "test_what_a_file_says_that_it_holds_takes_no_memory",
    ),
    "C8": held(BOXES + "test_thirty_thousand_nested_boxes_cost_no_recursion"),
    "C9": held(
        CODECS + "test_a_configuration_that_is_missing_or_cut_off_is_malformed",
        CODECS + "test_damaged_entries_are_read_or_refused",
    ),
    "C10": held(VOD + "test_chunks_beyond_the_end_of_the_file_give_no_segment"),
    "C11": held(
        VOD + "test_a_moov_at_the_end_of_40_gb_is_found_by_three_short_reads",
        BOMBS + "test_ten_hours_and_40_gb_are_played_within_the_same_memory",
        BOMBS + "test_a_fragmented_file_is_named_as_what_it_is",
    ),
    "C12": held(
        VOD + "test_a_thousand_damaged_films_are_indexed_or_refused",
        BOMBS + "test_thousands_of_damaged_tables_are_indexed_or_refused_within_the_limits",
    ),
    "C13": Row(later="hours of atheris over every parser aren't part of the tests"),
    "C14": held(BOMBS + "test_ffprobe_finds_the_same_samples_in_tables_of_any_shape"),
    "D1": held(
        CAGE + "test_a_playlist_in_disguise_opens_nothing",
        LIVE + "test_a_list_of_addresses_that_is_called_a_film_opens_none_of_them",
    ),
    "D2": held(LIVE + "test_a_list_of_addresses_that_is_called_a_film_opens_none_of_them"),
    "D3": held(LIVE + "test_a_pulled_playlist_opens_no_file_even_where_ffmpeg_would"),
    "D4": held(
        LIVE + "test_a_playlist_that_leads_nowhere_is_given_up",
        CHECK + "test_a_hostile_playlist_is_judged_within_limits",
    ),
    "D5": held(LIVE + "test_a_list_of_addresses_that_is_called_a_film_opens_none_of_them"),
    "D6": held(CHECK + "test_a_hostile_playlist_is_judged_within_limits"),
    "D7": held(
        LIVE + "test_what_is_fetched_is_never_inflated",
        CHECK + "test_a_playlist_that_was_packed_is_not_inflated",
    ),
    "D8": held(
        WAITING + "test_line_1_and_2_a_directive_is_obeyed_ignored_or_refused_at_once",
        DIRECTIVES + "test_what_lies_too_far_ahead_is_refused",
    ),
    "D9": held(DIRECTIVES + "test_a_suffix_never_ends_an_attribute_or_a_line"),
    "D10": held(DELIVERY + "test_names_of_channels_that_are_not_there_leave_nothing_behind"),
    "D11": Row(later="no XML is read: manifests are only written"),
    "F1": held(
        FFMPEG + "test_a_file_is_a_file_whatever_its_name_looks_like",
        LIVE + "test_a_path_is_one_word_of_the_arguments_and_no_option",
    ),
    "F2": held(
        LIVE + "test_a_ladder_is_made_of_known_names",
        LIVE + "test_a_path_is_one_word_of_the_arguments_and_no_option",
    ),
    "F3": held(
        LIVE + "test_a_decoder_that_is_not_named_does_not_run_in_a_channel",
        CAGE + "test_a_decoder_that_nobody_needs_does_not_run",
    ),
    "F4": held(
        CAGE + "test_a_hostile_program_fails_at_each_attempt",
        CAGE + "test_one_port_or_datagrams_are_open_to_who_needs_them_and_nothing_else_is",
    ),
    "F5": held(
        LIVE + "test_a_redirect_leads_to_http_and_nowhere_else",
        LIVE + "test_the_decoder_of_a_fetched_stream_has_no_network",
        PULLED + "test_a_redirect_to_another_protocol_is_not_followed",
    ),
    "F6": held(
        LIVE + "test_a_picture_of_67_million_pixels_does_not_run_in_a_channel",
        CAGE + "test_a_picture_of_67_million_pixels_is_refused",
        CAGE + "test_a_hostile_program_fails_at_each_attempt",
    ),
    "F7": held(
        "test_live.py::test_a_stalled_ffmpeg_is_started_again",
        FFMPEG + "test_only_the_newest_errors_are_kept",
        PULLED + "test_a_source_that_is_broken_for_long_is_told_in_a_few_lines_and_plays_when_it_is_mended",
    ),
    "F8": held(PULLED + "test_kills_in_a_row_leave_no_descriptor_no_zombie_and_a_discontinuity_each"),
    "F9": held(
        FFMPEG + "test_children_die_with_a_parent_that_is_killed",
        CLI + "test_a_server_that_is_killed_leaves_no_ffmpeg",
    ),
    "F10": held(
        CLI + "test_a_missing_ffmpeg_is_one_line_where_something_needs_it",
        CLI + "test_without_ffmpeg_files_are_still_served",
        "test_tools.py::test_a_program_that_is_not_ffmpeg_is_refused",
        "test_tools.py::test_a_missing_encoder_is_named_with_what_needs_it",
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
        CREDENTIALS + "test_the_time_of_a_comparison_tells_nothing_of_the_secret",
    ),
    "G4": Row(later="mounts call nobody back; heads that are too long are A8"),
    "G5": held(SOURCES + "test_a_refusal_has_its_exact_length_and_closes"),
    "G6": held(
        SOURCES + "test_titles_are_only_taken_with_the_sources_password",
        "test_strangers.py::test_nobody_changes_anything_without_a_key",
    ),
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
    "J1": held(
        CREDENTIALS + "test_the_time_of_a_comparison_tells_nothing_of_the_secret",
        CREDENTIALS + "test_a_long_password_is_read_once_for_all_secrets",
        CREDENTIALS + "test_answers_to_wrong_passwords_are_held_back_longer_and_longer",
    ),
    "J2": held(
        "test_trusted_proxies.py::test_who_is_not_trusted_is_the_client_whatever_it_says",
        "test_strangers.py::test_nobody_changes_anything_without_a_key",
        "test_trusted_proxies.py::test_viewers_behind_a_proxy_are_counted_once_and_one_by_one",
    ),
    "J3": held(
        ACCESS + "test_on_loopback_lists_are_not_for_pages_of_names_that_lead_here",
        ACCESS + "test_on_loopback_nothing_is_changed_under_a_foreign_name",
        SITES + "test_a_page_under_a_name_that_leads_here_reads_none_either",
    ),
    "J4": held(
        ACCESS + "test_pages_of_other_sites_change_no_title_with_what_the_browser_knows",
        SITES + "test_a_form_of_another_site_changes_nothing_with_the_password_that_the_browser_knows",
        "test_live_dateranges.py::test_nobody_publishes_without_a_key_and_no_page_of_another_site_does",
    ),
    "J5": held(
        ACCESS + "test_what_is_protected_needs_the_token",
        ACCESS + "test_health_tells_strangers_whether_the_server_is_ready_and_nothing_else",
        ACCESS + "test_the_administrators_port_answers_it_without_the_token",
        ACCESS + "test_no_other_spelling_leads_to_what_is_protected",
        ACCESS + "test_lists_are_for_no_origin_where_media_are_for_all",
    ),
    "J6": held(
        CREDENTIALS + "test_a_signed_address_lets_in_until_its_time",
        "test_radio_admission.py::test_anybody_else_is_asked_for_the_password",
        "test_radio_admission.py::test_what_is_told_of_a_station_needs_what_its_sound_needs",
    ),
    "J7": held("test_secrets.py::test_no_secret_is_written_answered_or_shown_by_children"),
    "J8": held(
        "test_secrets.py::test_a_configuration_with_secrets_that_all_can_read_is_warned_of",
        "test_config.py::test_a_wrong_file_is_one_line_naming_the_key_and_what_is_allowed",
        "test_kept_secrets.py::test_a_file_that_may_be_others_is_refused_in_a_line",
    ),
    "K6": held(
        "test_app.py::test_pages_of_other_origins_may_read_media",
        ACCESS + "test_no_page_of_another_origin_reads_lists_on_loopback",
        SITES + "test_a_page_of_another_origin_reads_no_list_but_media",
    ),
    "L1": held(
        SERVER + "test_a_server_without_descriptors_does_not_spin_and_recovers",
        "test_descriptors.py::test_a_server_whose_descriptors_run_out_goes_on_and_comes_back",
        "test_descriptors.py::test_a_program_that_cannot_be_started_leaves_nothing_open",
    ),
    "L2": held(
        DISKS + "test_a_full_disk_shortens_the_dvr_and_live_goes_on",
        DVR + "test_without_room_on_disk_live_goes_on_health_tells_and_it_recovers",
    ),
    "L3": held(
        DISKS + "test_an_error_at_any_step_costs_one_segment_at_most_and_never_shows_half_of_it",
        DISKS + "test_short_writes_are_gone_on_with",
        DISKS + "test_what_a_failing_disk_does_not_take_stays_what_it_was_until_it_does_and_the_log_tells",
    ),
    "L4": held(
        CLIENTS + "test_connections_beyond_the_limit_are_told_so_and_the_others_go_on",
        "test_client_limits.py::test_one_client_has_no_more_connections_than_it_may",
        CLIENTS + "test_slow_readers_of_a_huge_file_cost_little_and_hold_nobody_up",
    ),
    "L5": held("test_starved.py::test_a_starved_server_says_so_and_its_channel_goes_on_in_order"),
    "L6": held(
        TIME + "test_a_wall_clock_stepped_by_an_hour_is_one_discontinuity_and_the_right_date_again",
        TIME + "test_setting_the_clock_moves_no_number",
    ),
    "L7": held("test_live_crowds.py::test_a_herd_is_released_by_one_part_and_one_rendering"),
    "L8": held(SERVER + "test_thousands_of_short_connections_leave_nothing_behind"),
    "L9": held(SERVER + "test_paths_that_nobody_knows_do_not_grow_the_metrics"),
    "L10": held(
        SERVER + "test_a_log_that_nobody_reads_holds_nobody_up",
        SERVER + "test_a_log_that_cannot_be_written_holds_nobody_up",
    ),
    "L11": held(
        "test_vod.py::test_indexes_are_dropped_when_they_take_more_than_their_share",
        BOMBS + "test_refusals_and_indexes_of_a_whole_library_stay_within_their_memory",
        "test_simulcast_starts.py::test_no_more_encoders_begin_at_once_than_may",
    ),
    "L12": held(CLIENTS + "test_connections_to_a_vanished_client_are_noticed_by_the_kernel"),
    "L13": held(
        NETWORKS + "test_a_late_a_slow_and_a_crumbling_network_bring_every_byte",
        NETWORKS + "test_a_network_that_cuts_every_connection_is_outlasted_by_ranges",
        NETWORKS + "test_a_client_in_a_black_hole_is_let_go",
    ),
    "M1": held(CLI + "test_the_end_takes_three_seconds_and_leaves_no_ffmpeg_and_no_traceback"),
    "M2": held(
        "test_socket_activation.py::test_every_request_is_answered_while_servers_follow_each_other_on_one_socket"
    ),
    "M3": held("test_reload.py::test_sighup_reads_the_configuration_again_and_a_wrong_one_changes_nothing"),
    "M4": held(
        DVR + "test_every_stored_segment_is_listed_and_the_same_bytes_after_kill_9",
        FAULTS + "test_a_number_is_never_used_twice_when_ffmpeg_and_then_the_server_are_killed",
        "test_dvr_starts.py::test_a_dvr_is_served_and_goes_on_with_gaps_while_its_source_is_not_there",
        "test_architecture.py::test_a_server_starts_without_what_other_commands_or_few_sources_need",
    ),
    "M5": held(
        DISKS + "test_a_crash_at_any_step_of_a_write_leaves_all_segments_that_were_stored",
        DISKS + "test_of_what_a_power_cut_may_lose_only_what_is_whole_is_listed",
        RECORDINGS + "test_what_was_interrupted_is_recorded_at_the_next_start",
    ),
    "M6": held(
        DVR + "test_faults_on_disk_are_set_aside_with_one_line_and_the_start_goes_on",
        DVR + "test_an_index_of_noise_loses_nothing_but_itself",
        DVR + "test_a_line_that_was_torn_anywhere_costs_only_its_own_segment",
        DISKS + "test_a_line_without_its_init_segment_is_not_listed",
        RECORDINGS + "test_a_folder_that_is_no_recording_is_left_alone",
    ),
    "M7": held(
        PULLED + "test_kills_in_a_row_leave_no_descriptor_no_zombie_and_a_discontinuity_each",
        "test_live.py::test_the_page_plays_on_when_the_encoder_is_killed",
    ),
    "M8": held(FAULTS + "test_a_channel_that_breaks_is_started_again_and_the_others_do_not_notice"),
    "M9": held(
        CLI + "test_a_taken_port_is_one_line",
        CLI + "test_a_library_that_cannot_be_read_is_one_line",
        DVR + "test_a_second_server_on_the_same_data_folder_ends_with_one_line",
    ),
    "M10": Row(later="takes days: comes with the soak"),
}
"""By the rows' names."""
