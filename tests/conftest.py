"""What all tests share: how hypothesis runs."""

from hypothesis import settings

# No deadline: the first example may compile a kernel, and a timed test fails on a busy machine.
settings.register_profile("maestro", deadline=None, print_blob=True)
settings.load_profile("maestro")
