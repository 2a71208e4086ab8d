"""Where results go: files as they come, tables, pictures over the video, HTML reports."""
