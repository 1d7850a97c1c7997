"""Radio on the page: it sounds, at real time, with its title."""

import pytest

from tests.e2e.conftest import Tab, keep, looks
from tests.run_journal import Figures

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

AUDIBLE = 0.005
"""Root mean square of full scale one; silence is zero."""


@pytest.mark.realtime
async def test_a_station_is_heard_at_real_time_with_its_title(tab: Tab, figures: Figures) -> None:
    await tab.open("radio")
    await tab.page.get_by_role("button", name="Play Headwater demo (demo.mp3)").click()
    await tab.until("headwater.audio.currentTime > 1")
    await tab.until(f"headwater.radioLevel() > {AUDIBLE}")
    for _ in looks():
        pace = await tab.pace("audio", 3)
        if 0.85 < pace < 1.15:
            break
    figures.judge(0.85 < pace < 1.15, f"{pace:.2f} of real time, 0.85 to 1.15 wanted")
    title = await tab.page.locator(".song").first.inner_text()
    assert len(title) > 2
    await tab.until("document.querySelector('.station').textContent.includes('1 listener')")
    keep("radio", {"pace": pace, "title": title, "level": await tab.value("headwater.radioLevel()")})
    await tab.screenshot("radio")


async def test_by_keyboard_a_station_is_muted_made_louder_and_stopped_and_the_volume_is_kept(
    tab: Tab,
) -> None:
    await tab.open("radio/demo.mp3")
    await tab.until("headwater.audio.currentTime > 1")
    await tab.page.get_by_role("button", name="Mute", exact=True).focus()
    await tab.page.keyboard.press("Space")
    assert await tab.value("headwater.audio.muted")
    await tab.page.get_by_role("button", name="Mute", exact=True, pressed=True).wait_for()
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("Home")
    await tab.page.keyboard.press("ArrowRight")
    assert await tab.value("[headwater.audio.muted, headwater.audio.volume]") == [False, 0.05]
    await tab.page.keyboard.press("Tab")
    await tab.page.keyboard.press("Enter")
    await tab.until("headwater.audio.paused && !headwater.audio.hasAttribute('src')")
    await tab.page.reload()
    await tab.page.get_by_role("button", name="Play Headwater demo (demo.mp3)").wait_for()
    assert await tab.value("headwater.audio.volume") == 0.05
    assert await tab.page.locator("#panel-radio").get_by_label("Volume").input_value() == "0.05"


async def test_a_station_stops(tab: Tab) -> None:
    await tab.open("radio/demo.mp3")
    await tab.until("headwater.audio.currentTime > 0.3")
    await tab.page.get_by_role("button", name="Stop Headwater demo (demo.mp3)").click()
    await tab.until("headwater.audio.paused && !headwater.audio.hasAttribute('src')")
    await tab.page.get_by_role("button", name="Play Headwater demo (demo.mp3)").wait_for()


async def test_a_video_silences_the_radio(tab: Tab) -> None:
    await tab.open("radio/demo.mp3")
    await tab.until("headwater.audio.currentTime > 0.5")
    await tab.page.get_by_role("tab", name="Live").click()
    await tab.playing()
    assert await tab.value("headwater.audio.paused")
