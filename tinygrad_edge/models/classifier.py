"""What plain convolutional classifiers share."""

from __future__ import annotations

from typing import Any

from ..nn import Module

__all__ = ["ImageClassifier"]


class ImageClassifier(Module):
    """Features of an image, then a classifier on all of them in a row.

    Parameters
    ----------
    features : Module
        [N, in_channels, H, W] to [N, C, P, Q].
    classifier : Module
        [N, C * P * Q] to [N, num_classes].
    """

    def __init__(self, features: Module, classifier: Module) -> None:
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x: Any) -> Any:
        """[N, in_channels, H, W] to [N, num_classes]."""
        return self.classifier(self.features(x).flatten(1))
