// Playing on another device: the Remote Playback API (https://www.w3.org/TR/remote-playback/), or AirPlay in older
// Safaris. The button is there while the browser knows of a device that can play what is open.

export function offerCasting(video, button) {
  if (video.remote) offerRemotePlayback(video.remote, button);
  else if (video.webkitShowPlaybackTargetPicker) offerAirPlay(video, button);
}

function offerRemotePlayback(remote, button) {
  const show = () => button.setAttribute("aria-pressed", String(remote.state === "connected"));
  for (const event of ["connect", "connecting", "disconnect"]) remote.addEventListener(event, show);
  button.addEventListener("click", () => {
    // Refused where nobody chose a device.
    remote.prompt().catch(() => {});
  });
  // Refused where devices can't be watched for: then the browser's dialog finds them.
  remote.watchAvailability((isThere) => { button.hidden = !isThere; }).catch((error) => {
    button.hidden = error.name !== "NotSupportedError";
  });
}

function offerAirPlay(video, button) {
  button.addEventListener("click", () => video.webkitShowPlaybackTargetPicker());
  video.addEventListener("webkitplaybacktargetavailabilitychanged", ({ availability }) => {
    button.hidden = availability !== "available";
  });
}
