"""Serves an H.264 file at rtsp://127.0.0.1:PORT/cam, at its own pace, to every client from its start.

With a third argument its AAC track is served, too.

A program of its own: GStreamer's bindings belong to the system's Python. Prints the port when it is ready.

    /usr/bin/python3 rtsp_server.py FILE [PORT [sound]]
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

if __name__ == "__main__":
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(sys.argv[2] if len(sys.argv) > 2 else "0")
    factory = GstRtspServer.RTSPMediaFactory.new()
    sound = " d. ! queue ! aacparse ! rtpmp4gpay name=pay1" if len(sys.argv) > 3 else ""
    factory.set_launch(
        f'( filesrc location="{sys.argv[1]}" ! qtdemux name=d'
        f" d. ! queue ! rtph264pay name=pay0 config-interval=-1{sound} )"
        if sound
        else f'( filesrc location="{sys.argv[1]}" ! qtdemux ! rtph264pay name=pay0 config-interval=-1 )'
    )
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit("the port is taken")
    print(server.get_bound_port(), flush=True)  # noqa: T201
    GLib.MainLoop().run()
