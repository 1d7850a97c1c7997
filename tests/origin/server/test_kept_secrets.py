"""Passwords and tokens that nobody has configured: made once, kept where nobody else reads them."""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import stat
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from origin.access.authentication import fits_any
from origin.access.key_hash import digest
from origin.access.publish_keys import PublishKeys
from origin.config.kept_secrets import (
    ADMIN_TOKEN,
    NAME,
    MadeSecret,
    SecretsError,
    StartSecrets,
    with_secrets,
)
from origin.config.load import as_toml, load
from packager.library import demo_media
from tests.conftest import ServerProcess, start_server
from tests.fork_server import run_headwater
from tests.waiting import wait_for

PUBLISH_KEY = "live.studio.publish_key"
STATION = "radio.talk.mp3.source_password"
TEXT = """
[server]
port = 0
data = "data"

[library]
path = "."

[[radio]]
name = "talk.mp3"
source = "publish"
"""


def made_in(folder: Path, **server: object) -> tuple[MadeSecret, ...]:
    layer = {
        "server": {"data": str(folder), **server},
        "radio": [{"name": "talk.mp3", "source": "publish"}],
    }
    return with_secrets(load(None, {}, layer)).made


def test_they_are_made_once_and_kept_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "data"
    before = os.umask(0)
    try:
        made = made_in(folder)
    finally:
        os.umask(before)
    assert [one.name for one in made] == [ADMIN_TOKEN, STATION]
    file = folder / NAME
    assert {one.file for one in made} == {file}
    assert len({one.text for one in made}) == 2
    # 144 bits in letters of six.
    assert min(len(one.text) for one in made) == 24
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert tomllib.loads(file.read_text()) == {one.name: one.text for one in made}
    assert made_in(folder) == ()
    config = with_secrets(
        load(None, {}, {"server": {"data": str(folder)}, "live": [{"name": "one", "source": "testsrc"}]})
    ).config
    assert config.server.admin_token == made[0].text


def test_a_umask_that_takes_all_away_leaves_it_readable_for_the_next_start(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        made_in(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_what_is_configured_is_not_made_and_what_has_no_use_is_not_either(tmp_path: Path) -> None:
    assert [one.name for one in made_in(tmp_path, admin_token="configured")] == [STATION]
    start = with_secrets(load(None, {}, {"server": {"data": str(tmp_path / "other")}}))
    assert (start.config.server.admin_token, start.made) == (None, ())
    assert not (tmp_path / "other").exists()
    assert with_secrets(load(None, {}, {"server": {"protected": ["metrics"]}})).config.server.admin_token
    assert with_secrets(
        load(None, {}, {"server": {"admin_token": ""}, "live": [{"name": "a", "source": "testsrc"}]})
    ).made


def test_without_a_data_folder_each_start_makes_others() -> None:
    first, second = (
        with_secrets(load(None, {}, {"live": [{"name": "one", "source": "testsrc"}]})).made for _ in range(2)
    )
    assert first[0].file is None
    assert first[0].text != second[0].text


def studio_in(folder: Path) -> StartSecrets:
    layer = {"server": {"data": str(folder)}, "live": [{"name": "studio", "source": "publish"}]}
    return with_secrets(load(None, {}, layer))


def test_of_a_publish_key_only_a_salted_hash_is_kept(tmp_path: Path) -> None:
    start = studio_in(tmp_path)
    (key,) = [one.text for one in start.made if one.name == PUBLISH_KEY]
    assert start.config.live[0].publish_key == key
    file = tmp_path / NAME
    assert key not in file.read_text()
    kept = tomllib.loads(file.read_text())[PUBLISH_KEY]
    name, salt, hashed = kept.split(":")
    by_hand = hmac.digest(bytes.fromhex(salt), hashlib.sha256(key.encode()).digest(), "sha256")
    assert (name, hashed) == ("hmac-sha256", by_hand.hex())
    again = studio_in(tmp_path)
    assert (again.made, again.config.live[0].publish_key) == ((), None)
    keys = PublishKeys({}, again.made_keys.hashes)
    assert fits_any(key, keys.of("studio").publishers)
    wrong = ("", kept, salt, hashed, key[:-1])
    assert not [one for one in wrong if fits_any(one, keys.of("studio").publishers)]
    assert keys.key("studio") == ""
    assert key not in repr((again, keys.of("studio").publishers))
    assert keys.rotate({"studio": key}) == frozenset(), "the same key, now configured"
    assert keys.rotate({"studio": "another"}) == {"studio"}


def test_a_publish_key_that_was_kept_as_it_is_is_valid_on_and_its_hash_is_kept(tmp_path: Path) -> None:
    studio_in(tmp_path)
    file, key = tmp_path / NAME, "of-a-version-before-4c1e"
    token = tomllib.loads(file.read_text())[ADMIN_TOKEN]
    file.write_text(f'"{ADMIN_TOKEN}" = "{token}"\n"{PUBLISH_KEY}" = "{key}"\n')
    start = studio_in(tmp_path)
    assert start.made == ()
    assert start.made_keys.hashes["studio"].fits(digest(key.encode()))
    assert key not in file.read_text()
    assert tomllib.loads(file.read_text())[ADMIN_TOKEN] == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_another_publish_key_takes_the_place_of_the_former_one_alone(tmp_path: Path) -> None:
    start = studio_in(tmp_path)
    before = tomllib.loads((tmp_path / NAME).read_text())
    # What a crash may have left behind.
    (tmp_path / f"{NAME}.new").write_text("half")
    keys = [start.made_keys.renew("studio") for _ in range(2)]
    after = tomllib.loads((tmp_path / NAME).read_text())
    assert after[ADMIN_TOKEN] == before[ADMIN_TOKEN]
    hashes = studio_in(tmp_path).made_keys.hashes
    assert [hashes["studio"].fits(digest(key.encode())) for key in keys] == [False, True]
    assert [one.name for one in tmp_path.iterdir()] == [NAME]


def test_starts_at_the_same_time_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: made_in(tmp_path), range(32)))
    assert len([made for made in found if made]) == 1


def test_a_line_that_was_not_written_to_its_end_is_made_anew(tmp_path: Path) -> None:
    token, password = made_in(tmp_path)
    file = tmp_path / NAME
    file.write_bytes(file.read_bytes()[:-5])
    (again,) = made_in(tmp_path)
    assert again.name == STATION
    assert again.text != password.text
    assert tomllib.loads(file.read_text()) == {ADMIN_TOKEN: token.text, STATION: again.text}
    file.write_bytes(b'"' + ADMIN_TOKEN.encode())
    assert len(made_in(tmp_path)) == 2


def as_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def as_second_name(file: Path) -> None:
    file.with_name("elsewhere").hardlink_to(file)


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir(0o700)


def as_foreign(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(file, 12345, 12345)


def as_text(text: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_text(text)

    return write


@pytest.mark.clause("CWE-732")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda file: file.chmod(0o640), "its mode is 640, not 600; others may have read it"),
        (lambda file: file.chmod(0o604), "its mode is 604, not 600; others may have read it"),
        (as_link, "Too many levels of symbolic links"),
        (as_second_name, "not an ordinary file"),
        (as_pipe, "not an ordinary file"),
        (as_folder, "Is a directory"),
        (as_foreign, "another user's"),
        (as_text('"server.admin_token" = ""\n'), "'server.admin_token' isn't a secret"),
        (as_text('"server.admin_token" = "with a\\u0000 and more"\n'), "isn't a secret"),
        (as_text('"server.admin_token" = 12345678901234567\n'), "isn't a secret"),
        (as_text('["server.admin_token"]\n'), "isn't a secret"),
        (as_text("server = \n"), "not valid TOML"),
        (as_text("#" * 2_000_000), "longer than 1048576 bytes"),
    ],
)
def test_a_file_that_may_be_others_is_refused_in_a_line(
    tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    made_in(tmp_path)
    change(tmp_path / NAME)
    with pytest.raises((SecretsError, OSError)) as caught:
        made_in(tmp_path)
    assert told in str(caught.value)
    assert str(tmp_path / NAME) in str(caught.value)
    assert "\n" not in str(caught.value)


def secrets_of(server: ServerProcess) -> list[str]:
    return [line for line in server.text().splitlines() if "admin token" in line or "Publish to" in line]


def test_the_start_that_makes_them_shows_them_and_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(TEXT)
    server = start_server("-v", cwd=tmp_path, admin_token=None)
    try:
        token, password = tomllib.loads((tmp_path / "data" / NAME).read_text()).values()
        # The library is the folder above: neither its name nor its bytes are in there.
        for path in (f"/media/data/{NAME}", f"/media/./data/{NAME}", "/api/library"):
            answer = httpx.get(f"{server.url}{path}")
            assert token not in answer.text
            assert NAME not in answer.text
        wait_for(lambda: len(secrets_of(server)) == 2, "both lines")
        first, second = secrets_of(server)
        assert first == f"The admin token is {token} (kept in data/{NAME}, not shown again)"
        assert second.startswith(f"Publish to {server.url}/radio/talk.mp3 as source, password {password} (")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "configuration read again" in server.text(), "the reload")
        assert "needs_restart=nothing" in server.text()
        assert server.text().count(token) == server.text().count(password) == 1
        # Another one is taken by the next start, and not told.
        changed = TEXT.replace("port = 0", 'port = 0\nadmin_token = "hush-hush"')
        (tmp_path / "headwater.toml").write_text(changed)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "needs_restart=server.admin_token" in server.text(), "the next reload")
        assert "hush-hush" not in server.text()
        (tmp_path / "headwater.toml").write_text(TEXT)
    finally:
        server.stop()
    server = start_server(cwd=tmp_path, admin_token=None)
    try:
        for wrong_or_right, status in (("wrong", 401), (password, 200), (token, 200)):
            answer = httpx.get(
                f"{server.url}/admin/metadata?mode=updinfo&mount=/radio/talk.mp3&song=x",
                auth=("source", wrong_or_right),
            )
            # Without a source there is nothing whose title could change; Icecast says 400 then.
            assert answer.status_code == (400 if status == 200 else status)
    finally:
        server.stop()
    assert secrets_of(server) == []
    assert token not in server.text()
    shown = run_headwater("serve", "--print-config", cwd=tmp_path)
    assert shown.returncode == 0
    assert token not in shown.stdout + shown.stderr
    assert password not in shown.stdout + shown.stderr


def test_printing_the_configuration_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "headwater.toml").write_text(TEXT)
    assert run_headwater("serve", "--print-config", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "data").exists()
    config = load(None, {}, {"server": {"admin_token": "hush"}})
    assert "hush" not in as_toml(config)
    assert 'admin_token = "********"' in as_toml(config)


def test_the_demo_keeps_its_keys_from_start_to_start_and_says_where(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "headwater").mkdir(parents=True)
    # The demo's media are made once for all tests.
    for made in (demo_media.cache_folder() / "headwater").glob("demo-*"):
        (cache / "headwater" / made.name).symlink_to(made)
    environment = {"XDG_CACHE_HOME": str(cache)}

    def shown() -> list[str]:
        server = start_server("--demo", "--port", "0", cwd=tmp_path, admin_token=None, env=environment)
        try:
            wait_for(lambda: any("admin token" in line for line in secrets_of(server)), "the keys")
            return [line.replace(server.url, "URL") for line in secrets_of(server)]
        finally:
            server.stop()

    first = shown()
    file = cache / "headwater" / "demo" / NAME
    assert [f"(kept in {file})" in line for line in first] == [True] * len(first)
    assert any("Publish to URL/events/demo" in line for line in first)
    assert file.stat().st_mode & 0o777 == 0o600
    assert shown() == first
