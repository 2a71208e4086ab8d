"""Live streams: the pipeline of files, with segments handed out as they close."""
