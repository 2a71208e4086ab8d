"""The found segments as video files: names, copies from the key frame, and exact re-encoding."""
