#!PYTHON -IS
"""Stands in place of an ffmpeg with devices for VA-API and V4L2, which no machine of the tests has.

Everything goes to the real ffmpeg, with the options of the hardware's encoder turned into those of x264. A
device's node is a file, which this program must be able to open for writing in its sandbox; its text says
what the device does: it works, it is lost, it is stuck, or it makes other pictures.
"""

import os
import sys
import time

REAL, V4L2 = "FFMPEG", "NODES/video0"
words, node = sys.argv[1:], ""
if "h264_vaapi" in words:
    place = words.index("-init_hw_device")
    node = words[place + 1].removeprefix("vaapi=device:")
    del words[place : place + 4]
elif "h264_v4l2m2m" in words and "-level:v" in words:
    node = V4L2
    words[words.index("-level:v") + 1] = "51"  # as a driver that isn't told another one
    words[words.index("-profile:v") + 1] = "high"
if node:
    with open(node, "r+b") as file:
        does = file.read()
    if does == b"lost":
        sys.exit("[h264 @ 0x1] the device is lost\nError initializing output stream 0:0 -- sorry")
    if does == b"stuck":
        time.sleep(3600)
    filters = {"hwupload": "negate" if does == b"negative" else "null"}
    for old, new in (filters | {"h264_vaapi": "libx264", "h264_v4l2m2m": "libx264"}).items():
        words = [word.replace(old, new) for word in words]
os.execv(REAL, [REAL, *words])
