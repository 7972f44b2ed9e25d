"""Settings of all tests, made before anything imports torch."""

import os

# As the command line does: threads that spin while they wait slow each other down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
