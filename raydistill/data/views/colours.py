"""Numbers that both ways to a pixel share: the colour operations, and the weights of a grey image."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R 601's as torchvision rounds them."""
