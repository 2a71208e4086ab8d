"""Bundles opened on this machine: the choice of file and backend, and the opened member."""
