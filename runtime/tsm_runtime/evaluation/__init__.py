"""Evaluation by the ActivityNet protocol and its relatives: mAP, ties, intervals, recall, diagnosis."""

__all__: list[str] = []
