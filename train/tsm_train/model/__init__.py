"""The Temporal Shift Module: backbones, shift, heads, pretrained weights."""
