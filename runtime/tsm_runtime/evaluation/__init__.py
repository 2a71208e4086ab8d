"""Evaluation by the ActivityNet protocol and its relatives: mAP, ties, intervals, recall, diagnosis."""
