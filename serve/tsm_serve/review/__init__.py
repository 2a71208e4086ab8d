"""The annotation page: videos, truth file, drafts, agreement, and the server of the page."""
