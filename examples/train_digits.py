"""Train a small CNN on the digits that come with the package: a plain loop, as in PyTorch."""

import numpy as np

import tinygrad_edge as te


def accuracy(model: te.nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images whose largest logit is the label's."""
    model.eval()
    with te.no_grad():
        predicted = model(te.Tensor(images)).argmax(axis=1)
    model.train()
    return float(np.mean(predicted.numpy() == labels))


def main(epochs: int = 12) -> float:
    """Train, print the test accuracy of each epoch, and give the last."""
    te.manual_seed(0)
    digits = te.data.load("digits")
    model = te.nn.Sequential(
        te.nn.Conv2d(1, 16, 3, padding=1),
        te.nn.ReLU(),
        te.nn.Conv2d(16, 32, 3, padding=1),
        te.nn.ReLU(),
        te.nn.MaxPool2d(2),
        te.nn.Flatten(),
        te.nn.Linear(32 * 4 * 4, digits.num_classes),
    )
    optimizer = te.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    test_images, test_labels = next(te.data.batches(digits.test, len(digits.test), shuffle=False))
    score = 0.0
    for epoch in range(epochs):
        for images, labels in te.data.batches(digits.train, 32, seed=0, epoch=epoch):
            loss = te.functional.cross_entropy(model(te.Tensor(images)), te.Tensor(labels))
            loss.backward()
            optimizer.step()
        score = accuracy(model, test_images, test_labels)
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, test accuracy {score:.4f}")
    return score


if __name__ == "__main__":
    main()
