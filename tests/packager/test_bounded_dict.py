"""Dictionaries with a limit: the newest values stay, by number and by bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packager.bounded_dict import BoundedDict, SizedDict


def test_what_was_set_longest_ago_is_evicted() -> None:
    known = BoundedDict[str, int](2)
    known.update({"a": 1, "b": 2, "c": 3})
    assert dict(known) == {"b": 2, "c": 3}
    known["b"] = 4
    known["d"] = 5
    assert dict(known) == {"b": 4, "d": 5}


def test_what_is_used_becomes_the_newest() -> None:
    known = BoundedDict[str, int](2)
    known.update({"a": 1, "b": 2})
    assert known.use("a") == 1
    assert known.use("c") is None
    known["d"] = 3
    assert list(known) == ["a", "d"]


def test_the_newest_stays_where_nothing_has_room() -> None:
    sized = SizedDict[str, bytes](4, 3, len)
    for name in ("a", "b"):
        sized[name] = b"12345"
    assert list(sized) == ["b"]
    assert sized.nbytes == 5


def test_nothing_is_kept_where_that_is_the_limit() -> None:
    known = BoundedDict[str, int](0)
    known["a"] = 1
    assert not known


def test_only_the_oldest_that_are_over_are_evicted() -> None:
    known = BoundedDict[str, int](8)
    known.update({"a": 1, "b": 2, "c": 1})
    known.evict_while(lambda value: value < 2)
    assert list(known) == ["b", "c"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["set", "use", "pop"]), st.sampled_from("abcdef"), st.integers(0, 6)),
        max_size=60,
    )
)
def test_bytes_are_counted_over_any_changes(steps: list[tuple[str, str, int]]) -> None:
    sized, values = SizedDict[str, int](3, 10, lambda value: value), list[tuple[str, int]]()
    for step, key, size in steps:
        former = next((one for one in values if one[0] == key), None)
        values = [one for one in values if one[0] != key]
        if step == "set":
            sized[key] = size
            values.append((key, size))
            while len(values) > 1 and (len(values) > 3 or sum(value for _, value in values) > 10):
                values.pop(0)
        elif step == "use":
            assert sized.use(key) == (None if former is None else former[1])
            values += [] if former is None else [former]
        else:
            assert sized.pop(key, None) == (None if former is None else former[1])
        assert list(sized.items()) == values
        assert sized.nbytes == sum(value for _, value in values)
