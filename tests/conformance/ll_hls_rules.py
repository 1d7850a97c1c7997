"""Every MUST and SHOULD of RFC 8216bis §6.2 (Server Responsibilities) and the tests that hold us to it.

A rule is named by its section, its kind (M for MUST, S for SHOULD) and its place among those of its section,
in draft-pantos-hls-rfc8216bis-22. It has tests, or a reason why there is nothing to test.
"""

from __future__ import annotations

from dataclasses import dataclass

WIRE = "tests/conformance/test_live_playlists.py::"
WAITING = "tests/conformance/test_live_waiting.py::"
DELIVERY = "tests/conformance/test_live_delivery.py::"
LIVE = "tests/origin/live/test_live.py::"
HTTP2 = "tests/e2e/test_http2.py::"
WINDOW = "tests/packager/window/test_window.py::"
SAID = "tests/packager/publish/test_hls.py::"
CUT = "tests/packager/segment/test_grid.py::"
RECORDED = "tests/origin/live/test_event.py::"
KEPT = "tests/packager/live/test_live_kept.py::"
KEYED = "tests/packager/segment/test_keyframes.py::"
DIRECTIVES = "tests/origin/live/test_directives.py::"
CHANNEL = "tests/packager/live/test_live.py::"
TIME = "tests/packager/live/test_live_time.py::"
DVR = "tests/packager/dvr/test_dvr.py::"
RANGES = "tests/conformance/test_live_dateranges.py::"
CAPTIONS = "tests/conformance/test_live_captions.py::"
EVENT = WAITING + "test_line_7_an_ended_channel_has_no_hint_and_ignores_directives"
AVAILABILITY = (
    "tests/conformance/test_live_availability.py::"
    "test_line_18_whatever_a_playlist_named_stays_fetchable_with_the_same_bytes"
)
BACK = WIRE + "test_line_21_a_source_that_comes_back_begins_behind_a_discontinuity_and_is_counted"

NO_ENCRYPTION = "Nothing is encrypted: no playlist has an EXT-X-KEY."
NO_BYTE_RANGES = "Parts are resources of their own; no byte range of a larger one is hinted at."
NO_IFRAMES = "Live channels have no I-frame playlists."
NO_TYPES = "No live playlist has an EXT-X-PLAYLIST-TYPE."
CLIENTS = "It binds the client."


@dataclass(frozen=True)
class Rule:
    """One rule: what it asks in our words, the tests that hold it, or why it doesn't apply."""

    name: str
    asks: str
    tests: tuple[str, ...] = ()
    reason: str = ""


RULES = (
    Rule(
        "6.2.1-M1",
        "segments, rounded to a second, are no longer than the target duration",
        (
            WIRE + "test_line_12_durations_round_to_the_target_and_parts_make_up_their_segment",
            SAID + "test_the_target_duration_covers_every_segment_of_picture_and_sound",
        ),
    ),
    Rule(
        "6.2.1-S1",
        "segments are cut on packet and key frame boundaries",
        (
            CUT + "test_segments_begin_at_multiples_of_their_duration_or_with_the_next_audio_frame",
            CUT + "test_a_boundary_without_a_key_frame_is_no_cadence",
            LIVE + "test_segments_of_all_renditions_begin_at_the_same_time_within_a_frame",
        ),
    ),
    Rule(
        "6.2.1-M2",
        "every segment has a URI that gives its data",
        (WIRE + "test_everything_that_a_playlist_lists_is_there",),
    ),
    Rule(
        "6.2.1-S2",
        "media that is absent is segments of that duration",
        (
            WIRE + "test_line_13_and_21_what_one_rendition_lacks_is_a_gap_at_the_same_place",
            WINDOW + "test_a_gap_has_a_number_and_no_bytes",
        ),
    ),
    Rule(
        "6.2.1-M3",
        "and they have EXT-X-GAP",
        (
            WIRE + "test_line_13_and_21_what_one_rendition_lacks_is_a_gap_at_the_same_place",
            SAID + "test_a_gap_is_said",
        ),
    ),
    Rule(
        "6.2.1-M4",
        "absent parts have GAP=YES",
        reason="A part that doesn't come is never listed: its segment ends with the parts that came, and "
        "what is absent is whole segments.",
    ),
    Rule(
        "6.2.1-M5",
        "a change of encoding or of timing is a discontinuity",
        (
            BACK,
            SAID + "test_a_discontinuity_has_its_map_and_its_date_before_its_first_part",
        ),
    ),
    Rule(
        "6.2.1-M6",
        "a listed segment is there at once, at full speed",
        (WIRE + "test_everything_that_a_playlist_lists_is_there",),
    ),
    Rule(
        "6.2.1-S3",
        "its making doesn't slow its transfer down",
        (WIRE + "test_everything_that_a_playlist_lists_is_there",),
    ),
    Rule("6.2.1-M7", "the same for parts", (WIRE + "test_everything_that_a_playlist_lists_is_there",)),
    Rule(
        "6.2.1-S4",
        "playlists and captions are gzipped for who accepts it",
        (
            CAPTIONS + "test_texts_are_cached_compressed_and_served_in_ranges",
            DELIVERY + "test_line_27_playlists_are_gzipped_on_request_and_media_never_is",
            LIVE + "test_gzip_is_sent_to_who_accepts_it",
        ),
    ),
    Rule(
        "6.2.1-M8",
        "a playlist has the URIs in the order of play",
        (WIRE + "test_everything_that_a_playlist_lists_is_there",),
    ),
    Rule(
        "6.2.1-S5",
        "EXT-X-VERSION is no higher than needed",
        ("tests/conformance/test_ll_hls_rules.py::test_the_version_is_what_the_tags_need",),
    ),
    Rule(
        "6.2.1-M9",
        "changes are atomic for clients",
        (
            WAITING + "test_line_8_all_who_wait_for_the_same_part_get_the_same_bytes",
            SAID + "test_one_state_is_rendered_once",
        ),
    ),
    Rule(
        "6.2.1-M10", "a playlist changes only in six ways", (WIRE + "test_a_playlist_changes_only_as_it_may",)
    ),
    Rule("6.2.1-M11", "a playlist of type VOD never changes", reason=NO_TYPES),
    Rule("6.2.1-M12", "one of type EVENT only grows", reason=NO_TYPES),
    Rule(
        "6.2.1-M13",
        "the target duration never changes",
        (WIRE + "test_line_10_targets_are_constant_and_parts_fill_them",),
    ),
    Rule(
        "6.2.1-S6",
        "every discontinuity has its date",
        (
            BACK,
            SAID + "test_a_discontinuity_has_its_map_and_its_date_before_its_first_part",
        ),
    ),
    Rule(
        "6.2.1-M14",
        "dates are unambiguous",
        (
            WIRE + "test_everything_that_a_playlist_lists_is_there",
            WIRE + "test_line_19_dates_are_on_every_segment_and_agree_to_a_frame",
        ),
    ),
    Rule(
        "6.2.1-M15",
        "where dates overlap, they do so in part",
        (
            WIRE + "test_everything_that_a_playlist_lists_is_there",
            TIME + "test_dates_that_were_told_too_late_are_corrected_without_two_segments_at_one_date",
            DVR + "test_gaps_behind_what_is_taken_up_end_before_what_comes_next",
        ),
    ),
    Rule("6.2.1-M16", "the later segment's date counts", reason=CLIENTS),
    Rule(
        "6.2.1-M17",
        "a date range stays as long as one of its dates is listed",
        (RANGES + "test_a_range_stays_as_long_as_it_touches_a_listed_segment",),
    ),
    Rule("6.2.1-M18", "an ID is never used again", (RANGES + "test_an_id_names_one_range_for_ever",)),
    Rule(
        "6.2.1-M19",
        "nothing comes between an END-ON-NEXT range and its follower",
        reason="END-ON-NEXT isn't accepted from publishers.",
    ),
    Rule(
        "6.2.1-S7",
        "a planned range gets its actual end",
        (RANGES + "test_a_planned_range_is_ended_by_the_same_id",),
    ),
    Rule("6.2.1-M20", "the last segment brings EXT-X-ENDLIST", (EVENT,)),
    Rule(
        "6.2.1-M21",
        "without EXT-X-ENDLIST there is always a newer version",
        (LIVE + "test_a_request_for_the_next_part_blocks_until_the_playlist_contains_it",),
    ),
    Rule(
        "6.2.1-M22",
        "a segment comes within 1.5 target durations of the one before",
        (
            LIVE + "test_dates_agree_between_renditions_and_with_the_wall_clock",
            TIME + "test_a_gap_is_due_before_one_and_a_half_target_durations_and_then_every_segment",
        ),
    ),
    Rule(
        "6.2.1-M23",
        "a part comes within a part target of the one before",
        (CHANNEL + "test_a_channel_publishes_parts_soon_after_their_last_frame",),
    ),
    Rule(
        "6.2.1-S8",
        "a presentation that is removed is 404 or 410",
        (DELIVERY + "test_names_of_channels_that_are_not_there_leave_nothing_behind",),
    ),
    Rule(
        "6.2.1-M24",
        "its segments stay for a playlist's duration",
        # The next event takes the place of one that is over. Otherwise a channel goes with its server.
        (RECORDED + "test_an_event_that_is_ended_stays_over_restarts_until_the_next_one_begins",),
    ),
    Rule(
        "6.2.2-M1",
        "a playlist that loses segments has EXT-X-MEDIA-SEQUENCE",
        (SAID + "test_a_playlist_before_its_first_segment_hints_at_the_first_part",),
    ),
    Rule(
        "6.2.2-M2",
        "which counts each removed segment",
        (
            WIRE + "test_line_18_segments_stay_listed_and_then_fetchable_as_long_as_they_must",
            "tests/conformance/test_ll_hls_rules.py::test_the_media_sequence_number_is_the_first_segments",
        ),
    ),
    Rule(
        "6.2.2-M3",
        "and never goes back",
        (WIRE + "test_line_20_numbers_never_go_back_and_a_number_always_means_the_same_bytes",),
    ),
    Rule(
        "6.2.2-S1",
        "part tags go three target durations behind the end",
        (
            WIRE + "test_line_18_part_tags_go_three_targets_behind_the_end_and_stay_fetchable_as_long_again",
            SAID + "test_part_tags_end_three_target_durations_behind_the_end",
            EVENT,
        ),
    ),
    Rule(
        "6.2.2-M4",
        "their parts stay fetchable as long again",
        (
            WIRE + "test_line_18_part_tags_go_three_targets_behind_the_end_and_stay_fetchable_as_long_again",
            AVAILABILITY,
        ),
    ),
    Rule(
        "6.2.2-M5",
        "segments and parts are removed in order",
        (
            WIRE + "test_a_playlist_changes_only_as_it_may",
            WIRE + "test_line_18_segments_stay_listed_and_then_fetchable_as_long_as_they_must",
        ),
    ),
    Rule(
        "6.2.2-M6",
        # A start removes nothing: it begins with its first segment, as soon as that is there. Who watched
        # before a restart without a DVR waits for it, and would stall for the other two as well.
        "no removal makes a playlist shorter than three target durations",
        (
            AVAILABILITY,
            WINDOW + "test_a_playlist_never_gets_shorter_than_seven_segments_or_ten_target_durations",
        ),
    ),
    Rule(
        "6.2.2-M7",
        "what is removed from an ended playlist stays fetchable",
        reason="Nothing is removed from a playlist with EXT-X-ENDLIST.",
    ),
    Rule(
        "6.2.2-M8",
        "a segment stays fetchable for its availability duration",
        (
            WIRE + "test_line_18_segments_stay_listed_and_then_fetchable_as_long_as_they_must",
            WINDOW
            + "test_a_segment_stays_fetchable_for_its_own_and_the_longest_playlists_duration_after_leaving",
            WINDOW + "test_what_comes_all_at_once_after_a_standstill_takes_nothing_from_who_has_a_playlist",
            AVAILABILITY,
        ),
    ),
    Rule(
        "6.2.2-M9",
        "a playlist with discontinuities has EXT-X-DISCONTINUITY-SEQUENCE",
        (BACK,),
    ),
    Rule(
        "6.2.2-M10",
        "which counts each removed discontinuity",
        (
            BACK,
            WINDOW + "test_the_discontinuity_sequence_counts_what_has_left",
        ),
    ),
    Rule(
        "6.2.2-M11",
        "and never goes back",
        (
            BACK,
            TIME + "test_discontinuity_sequences_go_on_beyond_what_was_said_before",
        ),
    ),
    Rule(
        "6.2.2-S2",
        "answers tell how long a segment stays",
        (
            DELIVERY + "test_line_26_playlists_and_errors_keep_by_appendix_b",
            LIVE + "test_segments_have_ranges_strong_tags_and_a_long_life",
        ),
    ),
    Rule(
        "6.2.2-M12",
        "a live playlist has no EXT-X-PLAYLIST-TYPE",
        (WIRE + "test_line_22_a_sliding_window_has_no_playlist_type",),
    ),
    Rule("6.2.3-M1", "an encrypted segment has its key's URI", reason=NO_ENCRYPTION),
    Rule("6.2.3-M2", "an unencrypted one has METHOD=NONE or no key before it", reason=NO_ENCRYPTION),
    Rule("6.2.3-SHALL1", "segments are encrypted one by one", reason=NO_ENCRYPTION),
    Rule("6.2.3-M3", "I-frame resources are encrypted whole", reason=NO_ENCRYPTION),
    Rule("6.2.3-M4", "the IV is the sequence number or the attribute's", reason=NO_ENCRYPTION),
    Rule("6.2.3-M5", "a key stays while it applies", reason=NO_ENCRYPTION),
    Rule(
        "6.2.4-S1",
        "there is a multivariant playlist with every rendition",
        (LIVE + "test_the_m3u8_package_reads_every_playlist",),
    ),
    Rule(
        "6.2.4-M1",
        "CODECS names every format of the variant's renditions",
        (
            WIRE + "test_line_23_the_multivariant_playlist_tells_what_the_bitstream_says",
            SAID + "test_the_multivariant_playlist_tells_codecs_sizes_and_measured_rates",
        ),
    ),
    Rule(
        "6.2.4-M2",
        "variants can be switched between",
        (LIVE + "test_segments_of_all_renditions_begin_at_the_same_time_within_a_frame",),
    ),
    Rule(
        "6.2.4-M2a",
        "all variants show the same",
        reason="One ffmpeg splits one picture into all of them.",
    ),
    Rule(
        "6.2.4-M2b",
        "at the same times",
        (LIVE + "test_segments_of_all_renditions_begin_at_the_same_time_within_a_frame",),
    ),
    Rule(
        "6.2.4-M2c",
        "with the same discontinuity sequence numbers",
        (
            WIRE + "test_line_13_and_21_what_one_rendition_lacks_is_a_gap_at_the_same_place",
            CHANNEL + "test_renditions_go_on_with_the_same_number_after_a_kill",
            CAPTIONS + "test_captions_go_on_at_the_right_time_behind_a_discontinuity",
        ),
    ),
    Rule(
        "6.2.4-M2d",
        "with the same target duration",
        (WIRE + "test_line_10_targets_are_constant_and_parts_fill_them",),
    ),
    Rule(
        "6.2.4-M2e",
        "what only one has is at an end and short",
        (WIRE + "test_line_13_and_21_what_one_rendition_lacks_is_a_gap_at_the_same_place",),
    ),
    Rule("6.2.4-M2f", "with the same playlist type", reason=NO_TYPES),
    Rule("6.2.4-M2g", "VOD playlists begin at the same time", reason=NO_TYPES),
    Rule(
        "6.2.4-M2h",
        "all have dates that agree",
        (
            WIRE + "test_line_19_dates_are_on_every_segment_and_agree_to_a_frame",
            LIVE + "test_dates_agree_between_renditions_and_with_the_wall_clock",
        ),
    ),
    Rule(
        "6.2.4-M2i",
        "all have the same date ranges",
        (RANGES + "test_every_rendition_has_the_same_ranges",),
    ),
    Rule(
        "6.2.4-M2j",
        "all have the same EXT-X-SERVER-CONTROL",
        (
            WIRE + "test_line_15_server_control_holds_back_as_much_as_the_draft_wants",
            CAPTIONS + "test_the_rendition_promises_what_the_picture_promises",
        ),
    ),
    Rule(
        "6.2.4-S2",
        "variants share one sound",
        (WIRE + "test_line_23_the_multivariant_playlist_tells_what_the_bitstream_says",),
    ),
    Rule(
        "6.2.5.1-M1",
        "_HLS_skip=YES or v2 gets a delta update",
        (
            WIRE + "test_line_16_what_is_skipped_and_the_rest_make_the_full_playlist",
            DIRECTIVES + "test_only_yes_and_v2_ask_for_a_delta_update",
        ),
    ),
    Rule(
        "6.2.5.1-M2",
        "with v2 old date ranges are skipped too",
        (RANGES + "test_v2_skips_the_ranges_that_the_player_has",),
    ),
    Rule(
        "6.2.5.1-M3",
        "RECENTLY-REMOVED-DATERANGES lists what went",
        (RANGES + "test_ranges_that_went_lately_are_told_in_delta_updates",),
    ),
    Rule(
        "6.2.5.1-M4",
        "tags that aren't skipped stay",
        (
            WIRE + "test_line_16_what_is_skipped_and_the_rest_make_the_full_playlist",
            SAID + "test_a_delta_update_and_what_it_skips_make_the_full_playlist",
        ),
    ),
    Rule("6.2.5.1-M5", "with EXT-X-ENDLIST _HLS_skip is ignored", (EVENT,)),
    Rule(
        "6.2.5.2-M1",
        "_HLS_msn waits for the segment",
        (
            WAITING + "test_line_4_a_number_alone_waits_for_the_whole_segment",
            LIVE + "test_a_request_for_a_segment_blocks_until_it_is_whole",
        ),
    ),
    Rule(
        "6.2.5.2-M2",
        "_HLS_msn and _HLS_part wait for the part",
        (
            WAITING + "test_line_3_an_answer_waits_for_the_part_and_contains_it",
            LIVE + "test_a_request_for_the_next_part_blocks_until_the_playlist_contains_it",
        ),
    ),
    Rule(
        "6.2.5.2-M3",
        "a part past a segment's last is part 0 of the next",
        (
            WAITING + "test_line_4_a_part_past_a_finished_segments_last_is_part_0_of_the_next",
            WINDOW + "test_a_part_past_a_finished_segment_waits_for_the_next_segments_first",
        ),
    ),
    Rule(
        "6.2.5.2-M4",
        "the whole playlist is sent, also for what isn't in it any more",
        (WAITING + "test_line_5_a_number_that_has_left_gets_the_whole_current_playlist_at_once",),
    ),
    Rule("6.2.5.2-M5", "with EXT-X-ENDLIST both are ignored", (EVENT,)),
    Rule(
        "6.2.5.2-S1",
        "what is too far ahead is 400 at once",
        (
            WAITING + "test_line_1_and_2_a_directive_is_obeyed_ignored_or_refused_at_once",
            DIRECTIVES + "test_what_lies_too_far_ahead_is_refused",
        ),
    ),
    Rule(
        "6.2.5.2-M6",
        "_HLS_part without _HLS_msn is 400",
        (
            WAITING + "test_line_1_and_2_a_directive_is_obeyed_ignored_or_refused_at_once",
            DIRECTIVES + "test_what_can_not_be_obeyed_is_refused",
        ),
    ),
    Rule(
        "6.2.5.2-S2",
        "after three target durations 503",
        (WAITING + "test_line_6_who_waits_longer_than_three_target_durations_gets_503",),
    ),
    Rule("6.2.5.2-S3", "I-frame playlists block too", reason=NO_IFRAMES),
    Rule(
        "6.2.6-M1",
        "what is hinted at can be requested",
        (
            WAITING + "test_line_14_the_hint_is_the_uri_that_the_next_part_then_has",
            SAID + "test_a_preload_hint_is_the_uri_that_the_part_then_has",
        ),
    ),
    Rule(
        "6.2.6-M2",
        "no byte of a part goes before all can",
        (
            WAITING + "test_line_14_the_hint_is_the_uri_that_the_next_part_then_has",
            LIVE + "test_the_hinted_part_is_held_and_then_whole_and_unknown_ones_are_not_found",
        ),
    ),
    Rule(
        "6.2.6-M3",
        "nor of any part of a range of several",
        ("tests/conformance/test_live_dash.py::test_line_25_each_chunk_of_the_open_segment_is_one_part",),
    ),
    Rule("6.2.6-S1", "no byte range is hinted at that nobody needs", reason=NO_BYTE_RANGES),
    Rule(
        "6.2.6-S2",
        "what is neither there nor hinted at is 404",
        (WAITING + "test_line_14_an_unknown_name_is_not_found_at_once",),
    ),
    Rule(
        "6.2.6-S3",
        "and so is what was hinted at and never came",
        (EVENT, LIVE + "test_a_hinted_part_that_never_comes_is_not_found_as_soon_as_the_numbers_go_on"),
    ),
    Rule("6.2.6-S4", "BYTERANGE-LENGTH is left out where unknown", reason=NO_BYTE_RANGES),
    Rule("6.2.6-S5", "BYTERANGE-OFFSET is the part's start", reason=NO_BYTE_RANGES),
    Rule(
        "6.2.6-S6",
        "one hint of a type",
        (WAITING + "test_line_14_the_hint_is_the_uri_that_the_next_part_then_has",),
    ),
)
"""All of them, in the draft's order."""

LINES = {
    11: (
        SAID + "test_independent_is_said_of_exactly_the_parts_that_begin_with_a_key_frame",
        KEYED + "test_a_part_begins_with_a_key_frame_where_the_part_before_it_may_end",
        KEPT + "test_kept_sources_go_out_packet_by_packet_and_are_cut_at_their_own_key_frames",
        KEYED + "test_parts_fill_the_groups_of_pictures_of_which_a_segment_has_several",
    ),
    24: (LIVE + "test_segments_of_all_renditions_begin_at_the_same_time_within_a_frame",),
    # TLS is the proxy's in front, and so is HTTP/2: tests/cdn/http2.conf.
    28: (
        HTTP2 + "test_all_that_a_viewer_plays_hears_and_reads_goes_over_one_connection",
        HTTP2 + "test_an_awaited_playlist_holds_nothing_up_on_its_connection",
        HTTP2 + "test_a_growing_dash_segment_comes_part_by_part",
        HTTP2 + "test_hls_js_plays_with_low_latency_over_one_connection",
    ),
}
"""Lines of the project's own list whose tests don't have the line's number in their name."""
