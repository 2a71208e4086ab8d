"""A report as one HTML page that needs no network: video, timeline, table, and evaluation charts.

`content` holds what a page can show, `page` makes the HTML, `evaluation_charts` computes what an evaluation
page draws. The looks and the behaviour are plain CSS and JavaScript in `assets/`.
"""
