"""Settings of all tests, made before anything imports torch."""

import os

from hypothesis import Phase, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each, instead of all for everyone
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the command line does: threads that spin while they wait slow each other down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# For tests/mutants: always the same examples, few of them, and no search for the smallest.
settings.register_profile(
    "mutants",
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)
