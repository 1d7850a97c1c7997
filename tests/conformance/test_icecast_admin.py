"""The admin addresses beside Icecast's own: the same requests to both, and the answers compared."""

from __future__ import annotations

import contextlib
import re
import subprocess
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests import icecast
from tests.clients.programs import environment
from tests.conftest import ServerProcess, start_server
from tests.descriptors import open_files
from tests.processes import end
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.skipif(not icecast.is_installed(), reason="icecast2 isn't installed"),
    pytest.mark.timeout(600),
]

SECONDS = 120.0
MOUNTS = ("one.mp3", "two.mp3")
SOURCE = ("source", icecast.PASSWORD)
ADMIN_TOKEN = "of-the-administrator"

OURS = {"bitrate", "audio_info", "ice-bitrate", "server_url", "title"}
"""Elements that Icecast writes for other sources than the one here, or for some titles only."""


@dataclass(frozen=True)
class Answer:
    """What a server said; without what differs between two servers."""

    status: int
    text: str
    challenge: str = ""

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.text)

    @property
    def shape(self) -> tuple[int, str, list[str], bool]:
        """Status, message, names of elements, and whether it asks for a password."""
        names = sorted({one.tag for one in self.xml.iter()} - OURS) if "<?xml" in self.text else []
        message = re.search(r"<(?:b|message)>(.*?)</(?:b|message)>", self.text)
        found = re.sub(r"(/radio)?/(one|two).mp3", r"/\2", message[1]) if message else ""
        return self.status, re.sub(r"\bClient [0-9]+\b", "Client N", found), names, bool(self.challenge)


@dataclass
class Side:
    """A server with two stations on air, each of which is heard."""

    url: str
    prefix: str
    admin: tuple[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self) -> None:
        host = self.url.partition("://")[2]
        for name in MOUNTS:
            made = ["-re", "-f", "lavfi", "-i", "sine", "-b:a", "64k", "-content_type", "audio/mpeg"]
            to = f"icecast://source:{icecast.PASSWORD}@{host}{self.prefix}/{name}"
            self.run("ffmpeg", "-nostdin", "-v", "error", *made, "-f", "mp3", to)
        wait_for(lambda: len(self.ask("listmounts").xml.findall("source")) == 2, "both sources", SECONDS)
        for agent in ("Lis<tener", "Two"):
            self.run("curl", "-s", "-A", agent, "-o", "/dev/null", f"{self.url}{self.prefix}/one.mp3")
        self.wait_for_listeners("one.mp3", "Lis<tener", "Two")

    def stop(self) -> None:
        for process in self.processes:
            end(process)

    def wait_for_listeners(self, mount: str, *agents: str) -> None:
        wait_for(lambda: sorted(self.listeners(mount)) == sorted(agents), f"listeners {agents}", SECONDS)

    def run(self, *command: str) -> None:
        self.processes.append(subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL))

    def ask(
        self, query: str, user: tuple[str, str] | None = ("admin", ""), form: str | None = None
    ) -> Answer:
        """Ask an admin address; ``{m}`` is what stands before the names of mounts."""
        data = None if form is None else form.replace("{m}", self.prefix).encode()
        request = urllib.request.Request(f"{self.url}/admin/{query.replace('{m}', self.prefix)}", data)
        if user is not None:
            user = self.admin if user == ("admin", "") else user
            request.add_header("Authorization", f"Basic {b64encode(':'.join(user).encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return Answer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), error.headers["WWW-Authenticate"] or "")

    def listeners(self, mount: str) -> dict[str, str]:
        """Give the numbers of the listeners by the names of their programs."""
        found = self.ask(f"listclients?mount={{m}}/{mount}")
        return {one.findtext("UserAgent", ""): one.findtext("ID", "") for one in found.xml.iter("listener")}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("admin")
    stations = "".join(
        f'[[radio]]\nname = "{name}"\nsource = "publish"\nsource_password = "{icecast.PASSWORD}"\n'
        for name in MOUNTS
    )
    config = folder / "headwater.toml"
    patient = "[limits]\nwrong_password_seconds = 0\n"
    config.write_text(f'[server]\nadmin_token = "{ADMIN_TOKEN}"\n{patient}{stations}')
    with start_server("--config", str(config), "--port", "0", cwd=folder, admin_token=None) as server:
        yield server


@pytest.fixture(scope="module")
def both(ours: ServerProcess) -> Iterator[tuple[Side, Side]]:
    """Icecast and this server, in the same state."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(icecast.running())
        sides = (
            Side(peer.url, "", ("admin", icecast.PASSWORD)),
            Side(ours.url, "/radio", ("admin", ADMIN_TOKEN)),
        )
        for side in sides:
            stack.callback(side.stop)
            side.begin()
        yield sides


@pytest.mark.parametrize(
    "query",
    [
        "stats",
        "stats?mount={m}/one.mp3",
        "listmounts",
        "listclients?mount={m}/one.mp3",
        "killclient?mount={m}/one.mp3",
        "killclient?mount={m}/one.mp3&id=9999",
        "moveclients?mount={m}/one.mp3",
        "moveclients?mount={m}/one.mp3&destination=/none.mp3",
        "moveclients?mount={m}/one.mp3&destination={m}/one.mp3",
        "metadata?mount={m}/one.mp3&mode=updinfo&song=Maker+-+Tone",
        "metadata?mount={m}/one.mp3&mode=updinfo",
        "metadata?mount={m}/one.mp3&song=x",
        "metadata?mount={m}/one.mp3&mode=other",
    ],
)
def test_it_answers_as_icecast_does(both: tuple[Side, Side], query: str) -> None:
    for user in (("admin", ""), SOURCE, ("admin", "wrong"), None):
        peer, own = (side.ask(query, user) for side in both)
        assert own.shape == peer.shape, user


@pytest.mark.promise("/admin/stats", "/admin/listmounts")
@pytest.mark.parametrize(
    "query", ["listclients", "listclients?mount=/none.mp3", "killsource?mount=/none.mp3"]
)
def test_it_answers_the_administrator_as_icecast_does(both: tuple[Side, Side], query: str) -> None:
    peer, own = (side.ask(query) for side in both)
    assert own.shape == peer.shape


@pytest.mark.parametrize(
    "path", ["", "stats.xsl", "listmounts.xsl", "listclients.xsl?mount={m}/one.mp3", "stats.xml"]
)
def test_people_get_pages_and_tools_xml(both: tuple[Side, Side], path: str) -> None:
    for side in both:
        assert side.ask(path, None).status == 401
        answer = side.ask(path)
        assert answer.status == 200
        assert ("</html>" in answer.text) is (path != "stats.xml")
        assert f"{side.prefix}/one.mp3" in answer.text
        assert ("Lis&lt;tener" in answer.text) is path.startswith("listclients")
        assert "Lis<tener" not in answer.text


@pytest.mark.promise("/admin/listclients")
def test_listeners_are_listed_as_icecast_lists_them(both: tuple[Side, Side]) -> None:
    for side in both:
        found = {
            (one.findtext("IP"), one.findtext("UserAgent"))
            for one in side.ask("listclients?mount={m}/one.mp3").xml.iter("listener")
        }
        assert found == {("127.0.0.1", "Lis<tener"), ("127.0.0.1", "Two")}


@pytest.mark.promise("/admin/metadata", "radio.source_password")
def test_a_form_sets_the_title_too(both: tuple[Side, Side]) -> None:
    """libshout 2.4.6 sends it so; Icecast 2.4 doesn't take it, and 2.5 does."""
    _, own = both
    form = "mode=updinfo&mount={m}/one.mp3&song=J%C3%B6rg+%26+Co&charset=UTF-8"
    assert own.ask("metadata", form=form, user=None).status == 401
    assert own.ask("metadata", form=form, user=("source", "wrong")).status == 401
    assert own.ask("metadata", form=form, user=SOURCE).shape[:2] == (200, "Metadata update successful")

    def title() -> bool:
        return own.ask("stats?mount={m}/one.mp3").xml.findtext("source/title") == "Jörg & Co"

    wait_for(title, "the title", SECONDS)
    assert own.ask("metadata", form=f"{form}&x={'y' * 20_000}", user=SOURCE).status == 413


def test_pages_of_other_sites_change_nothing_by_the_password_that_a_browser_knows(
    both: tuple[Side, Side],
) -> None:
    _, own = both
    for fields in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        for query in ("killclient?mount=/radio/one.mp3&id=1", "killsource?mount=/radio/one.mp3", "stats"):
            request = urllib.request.Request(f"{own.url}/admin/{query}", headers=fields)
            request.add_header("Authorization", f"Basic {b64encode(':'.join(own.admin).encode()).decode()}")
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(request, timeout=SECONDS)


# These end what the others ask about, so they are the last.


@pytest.mark.promise("/admin/killclient", "/admin/moveclients")
def test_listeners_are_moved_and_disconnected_as_by_icecast(both: tuple[Side, Side]) -> None:
    for side in both:
        moved = side.ask("moveclients?mount={m}/one.mp3&destination={m}/two.mp3")
        assert moved.shape[:2] == (200, "Clients moved from /one to /two")
        side.wait_for_listeners("two.mp3", "Lis<tener", "Two")
        number = side.listeners("two.mp3")["Two"]
        killed = side.ask(f"killclient?mount={{m}}/two.mp3&id={number}")
        assert killed.shape[:2] == (200, "Client N removed")
        assert "<return>1</return>" in killed.text
        side.wait_for_listeners("two.mp3", "Lis<tener")
        assert side.processes[-1].wait(SECONDS) is not None
        assert side.processes[-2].poll() is None, "the other one listens on"


def is_disconnected(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a program has ended, or has no connection that its server hasn't ended."""
    if process.poll() is not None:
        return True
    opened = set(open_files(process.pid))
    try:
        rows = [line.split() for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return False
    # proc(5): 01 is ESTABLISHED, the tenth field the socket's inode.
    return not any(row[3] == "01" and f"socket:[{row[9]}]" in opened for row in rows)


@pytest.mark.promise("/admin/killsource", "radio.source")
def test_a_source_is_disconnected_as_by_icecast(both: tuple[Side, Side]) -> None:
    for side in both:
        assert side.ask("killsource?mount={m}/one.mp3").shape[:2] == (200, "Source Removed")
        # ffmpeg may stay for long once it has lost its server.
        wait_for(
            partial(is_disconnected, side.processes[0]),
            f"the source of {side.url} to be disconnected",
            SECONDS,
        )


@pytest.mark.promise("/status.xsl")
def test_the_status_page_has_what_icecasts_has(both: tuple[Side, Side]) -> None:
    rows = []
    for side in both:
        with urllib.request.urlopen(f"{side.url}/status.xsl", timeout=SECONDS) as answer:
            text = answer.read().decode()
        rows.append(set(re.findall(r"<td>([^<]+):</td>", text)))
    assert rows[0] <= rows[1]
    assert rows[0], "Icecast's page has rows"


@pytest.mark.promise("/radio/NAME.pls")
def test_a_station_has_a_playlist_of_the_kind_that_winamp_reads(ours: ServerProcess) -> None:
    with urllib.request.urlopen(f"{ours.url}/radio/two.mp3.pls", timeout=SECONDS) as answer:
        assert answer.headers["content-type"] == "audio/x-scpls"
        lines = answer.read().decode().splitlines()
    assert lines[0] == "[playlist]"
    assert f"File1={ours.url}/radio/two.mp3" in lines
