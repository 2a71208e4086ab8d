"""Many videos on one machine or on many: resume records, shards, locks, failures, and Ray."""
