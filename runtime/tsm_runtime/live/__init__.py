"""Live streams: the pipeline of files, with segments handed out as they close."""

__all__: list[str] = []
