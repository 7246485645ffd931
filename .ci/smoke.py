"""Train a linear classifier of the shipped digits with what is installed, in the runtime named.

``python smoke.py native`` or ``python smoke.py numpy``: without a compiler, the first of these must
end in an error that says what to do.
"""

import sys

import tinygrad_edge as te
from tinygrad_edge import errors, runtime

expected = sys.argv[1]
chosen = runtime.current().name
assert chosen == expected, f"runs on {chosen}, expected {expected}"
if expected == "numpy":
    try:
        with runtime.use("native"):
            raise SystemExit("the native runtime ran without native code")
    except errors.BuildError as error:
        assert "compiler" in str(error), error

te.manual_seed(0)
digits = te.data.load("digits")
model = te.nn.Linear(64, digits.num_classes)
optimizer = te.optim.SGD(model.parameters(), lr=0.1)


@te.compile
def step(images: te.Tensor, labels: te.Tensor) -> te.Tensor:
    """One update; the model is linear in the pixels."""
    loss = te.functional.cross_entropy(model(images.reshape(-1, 64)), labels)
    optimizer.minimize(loss)
    return loss


for images, labels in te.data.batches(digits.train, 64):
    step(images, labels)
images, labels = next(te.data.batches(digits.test, len(digits.test), shuffle=False))
scores = model(te.Tensor(images.reshape(-1, 64))).numpy()
accuracy = (scores.argmax(axis=1) == labels).mean()
plan = step.plan(images, labels)
assert f'"peak_bytes":{plan.peak_bytes},' in plan._repr_html_().replace("&quot;", '"')
print(f"{te.__file__}: {chosen} runtime, accuracy {accuracy:.3f} after one epoch")
assert accuracy > 0.8
