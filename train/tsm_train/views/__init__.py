"""The joint model of views: features of all views of a moment, joined before the heads."""
